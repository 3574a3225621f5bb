"""What the labels should be, judged by models that never saw the photo: a probe on frozen embeddings.

Three steps, each in closed form, so that no label has any part in its own probability. Photos are cut into
folds, and a kernel ridge regression on the embeddings of all other folds scores those of one fold. Scores
become probabilities by a logistic curve (Platt scaling), fitted on leave-one-out scores of the training
photos. Then each training label is replaced by what it probably should be, given its own leave-one-out
probability, and the regression is solved again, so that the errors it looks for mislead it less.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import expit

from polytag.data.cache import pixels
from polytag.data.images import Paths
from polytag.data.label_errors import error_probabilities
from polytag.errors import DataError, WeightsError
from polytag.models.architectures import mobilenet_v2_backbone
from polytag.models.features import embed
from polytag.models.pretrained import find_weights, how_to_get_weights

FOLDS = 5

LANDMARKS = 3000
"""Photos that the kernel compares all others with; time and memory grow with the number of photos only."""

KERNEL_WIDTH = 1.5
"""γ of exp(-γ·distance²) between directions of embeddings, which are 2 - 2·cosine apart."""

RIDGE = 1.5

ROUNDS = 2
"""How often the training labels are believed as they are given, then as they probably should be."""


def embeddings_of(
    paths: Paths, image_size: int = 224, on_progress: Callable[[int], object] = lambda n: None
) -> NDArray[np.float32]:
    """Each photo as a frozen MobileNetV2 sees it, the mean of the photo and its mirror image; cached on disk.

    Args:
        paths: the photos' files.
        image_size: side at which the network sees them, in pixels.
        on_progress: called with the number of views that became ready; there are two for each readable photo.

    Returns:
        float32 (n, 1280), aligned with ``paths``; NaN where a photo cannot be read.

    Raises:
        WeightsError: this machine has no pretrained weights. None are ever downloaded for this.
    """
    weights = find_weights()
    if weights.path is None:
        raise WeightsError(f"looking for label errors needs pretrained weights: {how_to_get_weights()}")
    paths = np.asarray(paths, dtype=str)
    bad = pixels(paths, image_size)[2]
    readable = np.array([path not in bad for path in paths], dtype=bool)
    backbone = mobilenet_v2_backbone(image_size, weights)
    embeddings = np.full((len(paths), backbone.output_shape[-1]), np.nan, np.float32)
    if readable.any():
        views = [embed(paths[readable], image_size, backbone, weights, side, on_progress) for side in (False, True)]
        embeddings[readable] = sum(stored[rows] for stored, rows in views) / len(views)
    return embeddings


def out_of_sample(
    embeddings: NDArray[np.float32],
    targets: NDArray[np.int8],
    groups: NDArray[np.int64],
    seed: int = 0,
    on_progress: Callable[[int], object] = lambda n: None,
) -> NDArray[np.float32]:
    """How probable each label of each photo is, by models that saw neither the photo nor its group.

    The kernel is approximated on landmarks (Williams & Seeger 2001) where there are more photos than that.
    A photo's own labels, and those of its group, have no influence on its own probabilities at all.

    Args:
        embeddings: float32 (n, d); a row of NaN is a photo that could not be read.
        targets: int8 (n, k): 1 present, 0 absent, -1 unknown, which teaches nothing.
        groups: int64 (n,): photos that share a number are never on both sides of a fold.
        seed: of folds and landmarks.
        on_progress: called with the number of photos that were scored.

    Returns:
        float32 (n, k), 0 to 1, never NaN. A label that the other folds know no photo with, or none without,
        gets its share there. A photo without an embedding gets 0.5, which says nothing.

    Raises:
        DataError: the arrays do not fit together.
    """
    n = len(targets)
    if embeddings.ndim != 2 or len(embeddings) != n or groups.shape != (n,):
        raise DataError(f"{n} rows of targets need as many embeddings and groups, not {embeddings.shape}, {groups.shape}")
    probabilities = np.full(targets.shape, 0.5, np.float32)
    readable = np.flatnonzero(np.isfinite(embeddings).all(1))
    on_progress(n - len(readable))
    if not len(readable):
        return probabilities
    rng = np.random.default_rng(seed)
    features = _kernel_features(_directions(embeddings[readable]), rng)
    folds = _folds(groups[readable], rng)
    for fold in np.unique(folds):
        train, held_out = readable[folds != fold], readable[folds == fold]
        probe = _fit(features[folds != fold], targets[train], groups[train])
        probabilities[held_out] = probe(features[folds == fold])
        on_progress(len(held_out))
    return probabilities


def _directions(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings as directions from their common middle: lengths tell of contrast, and the middle of nothing."""
    for middle in (False, True):
        embeddings = embeddings - embeddings.mean(0) if middle else embeddings
        embeddings = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    return embeddings


def _kernel_features(directions: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Features float32 (n, m) whose inner products are the kernel; exact up to as many photos as landmarks."""

    def kernel(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.exp(2 * KERNEL_WIDTH * (a @ b.T - 1))

    n = len(directions)
    landmarks = directions[np.sort(rng.permutation(n)[:LANDMARKS])]
    among = kernel(landmarks, landmarks).astype(np.float64)
    among[np.diag_indices_from(among)] += 1e-4  # photos that are listed twice make it singular
    root = np.linalg.cholesky(among).astype(np.float32)
    features = np.empty((n, len(landmarks)), np.float32)
    for start in range(0, n, 1000):
        part = kernel(landmarks, directions[start : start + 1000])
        features[start : start + 1000] = solve_triangular(root, part, lower=True, overwrite_b=True).T
    return features


def _folds(groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The fold of each photo int64 (n,). Labels play no part, or a photo's own would choose who judges it."""
    _, numbers = np.unique(groups, return_inverse=True)
    return (rng.permutation(numbers.max() + 1) % FOLDS)[numbers]


def _fit(
    features: NDArray[np.float32], targets: NDArray[np.int8], groups: NDArray[np.int64]
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Features float32 (n, m) and targets int8 (n, k) → a function from features to probabilities."""
    n, k = targets.shape
    if not n:
        return lambda new: np.full((len(new), k), 0.5, np.float32)
    known = targets >= 0
    share = ((targets == 1).sum(0) + 1) / (known.sum(0) + 2)
    middle = features.mean(0)
    features = features - middle
    gram = features.T @ features
    gram[np.diag_indices_from(gram)] += RIDGE
    factor = np.linalg.cholesky(gram.astype(np.float64)).astype(np.float32)
    whitened = solve_triangular(factor, features.T, lower=True, overwrite_b=False).T
    leverage = np.minimum((whitened**2).sum(1) + 1 / n, 0.999)[:, None].astype(np.float64)
    clusters = _clusters(groups)

    def left_out(wanted):
        mean = wanted.mean(0)
        centred = (wanted - mean).astype(np.float32)
        solution = whitened.T @ centred
        residual = centred - whitened @ solution
        loo = wanted - residual / (1 - leverage)
        for members in clusters:
            part = whitened[members]
            hat = part @ part.T + 1 / n
            loo[members] = wanted[members] - np.linalg.solve(np.eye(len(members)) * 1.0001 - hat, residual[members])
        return loo, solution, mean

    wanted = np.where(known, targets, share).astype(np.float64)
    for round_ in range(ROUNDS):
        for _ in range(1 if known.all() else 10):
            loo, solution, mean = left_out(wanted)
            wanted = np.where(known, wanted, loo)
        slope, intercept = _calibration(loo, wanted if SOFT else targets, known)
        if round_ < ROUNDS-1:
            p = expit(slope * loo + intercept)
            wrong = error_probabilities(p, targets, CLEAN)
            wanted = np.where(known, np.where(targets == 1, 1 - wrong, wrong), wanted)
    weights = solve_triangular(factor, solution, lower=True, trans="T")

    def probe(new):
        return expit(slope * ((new - middle) @ weights + mean) + intercept).astype(np.float32)
    return probe
SOFT=True
CLEAN=.05

def _clusters(groups):
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [part for part in parts if len(part) > 1]


def _calibration(scores, wanted, known):
    slopes, intercepts = np.zeros(scores.shape[1]), np.zeros(scores.shape[1])
    for j in range(scores.shape[1]):
        rows = known[:, j]
        z, t = scores[rows, j], wanted[rows, j]
        share = (t.sum() + 1) / (len(t) + 2)
        a, b = 0.0, np.log(share / (1 - share))
        if z.std() > 1e-9:
            mid, spread = z.mean(), z.std()
            X = np.stack([(z - mid) / spread, np.ones_like(z)], 1)
            w = np.array([1.0, b])
            for _ in range(30):
                p = expit(X @ w)
                g = X.T @ (p - t) + [1e-3*w[0], 0]
                H = (X * (p * (1 - p))[:, None]).T @ X + np.diag([1e-3, 1e-9])
                step = np.linalg.solve(H, g)
                step *= min(1.0, 2.0 / np.abs(step).max()) if np.abs(step).max() > 0 else 1
                w -= step
                if np.abs(step).max() < 1e-8:
                    break
            if w[0] > 0:
                a = w[0] / spread; b = w[1] - a * mid
        slopes[j], intercepts[j] = a, b
    return slopes, intercepts

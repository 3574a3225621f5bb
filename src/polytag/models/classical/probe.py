"""Out-of-sample label probabilities from models that were trained on neither the photo nor a duplicate of it.

A probe is a kernel ridge regression on frozen embeddings. A logistic curve converts its scores to probabilities (Platt
scaling). Each probe is fitted twice: first to the given labels, then to the labels that are probably correct according
to its leave-one-out probabilities. Label errors therefore mislead it less. The regression has a closed-form solution
and uses only the photos of the other folds.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import expit

from polytag.auditing.label_errors import error_probabilities
from polytag.errors import DataError

FOLDS, REPETITIONS = 5, 2
"""Number of folds in a cross-validation, and number of cross-validations whose probabilities are averaged."""

LANDMARKS = 3000
"""Maximum number of photos with which all others are compared.

For up to this many photos, the kernel is exact. Beyond that, time and memory grow linearly with the number of photos.
"""

KERNEL_WIDTH = 1.5
"""γ in exp(-γ·d²), where d² = 2 - 2·cosine of two embeddings after their mean is subtracted."""

RIDGE = 1.5
"""Regularisation strength of the ridge regression."""

ROUNDS = 2
"""Number of times that a probe is fitted, first to the given labels and then to the probably correct ones."""

IMPUTATIONS = 10
"""Number of iterations that impute unknown entries, so that each entry agrees with its own leave-one-out score."""


def out_of_sample(
    embeddings: NDArray[np.float32],
    targets: NDArray[np.int8],
    groups: NDArray[np.int64],
    seed: int = 0,
    on_progress: Callable[[int], object] = lambda n: None,
) -> NDArray[np.float32]:
    """Estimate the probability of each label for each photo by cross-validation.

    The labels of a photo and of its group do not influence the photo's own probabilities. They affect neither the
    choice of its fold nor the regression, calibration and label cleaning for that fold.

    Args:
        embeddings: float32 (n, d), with NaN for photos that could not be read.
        targets: int8 (n, k): 1 present, 0 absent, -1 unknown. Unknown entries are not used.
        groups: int64 (n,). Photos with the same number are in the same fold.
        seed: seed for folds and landmarks.
        on_progress: function that is called with the number of photos just completed.

    Returns:
        float32 (n, k), 0 to 1, without NaN. If the other folds lack photos with or without a label, the value is the
        label's frequency in those folds. For photos without an embedding, it is 0.5.

    Raises:
        DataError: the shapes of the arrays do not match.
    """
    n = len(targets)
    if targets.ndim != 2 or embeddings.ndim != 2 or len(embeddings) != n or groups.shape != (n,):
        raise DataError(
            f"expected embeddings (n, d), targets (n, k) and groups (n,), "
            f"but got {embeddings.shape}, {targets.shape} and {groups.shape}"
        )
    probabilities = np.full(targets.shape, 0.5, np.float32)
    usable = np.flatnonzero(np.isfinite(embeddings).all(axis=1))
    on_progress(n - len(usable))
    if not len(usable) or not targets.shape[1]:
        on_progress(len(usable))
        return probabilities
    rng = np.random.default_rng(seed)
    features = _kernel_features(_directions(embeddings[usable]), rng)
    _, number = np.unique(groups[usable], return_inverse=True)
    predicted = np.zeros((len(usable), targets.shape[1]), np.float32)
    for repetition in range(REPETITIONS):
        # Folds do not depend on labels. Otherwise, a photo's own labels would influence its probabilities.
        folds = (rng.permutation(number.max() + 1) % FOLDS)[number]
        for fold in np.unique(folds):
            mine, others = folds == fold, folds != fold
            probe = _fit(features[others], targets[usable[others]], groups[usable[others]])
            predicted[mine] += probe(features[mine]) / REPETITIONS
            on_progress(int(mine.sum()) if repetition == REPETITIONS - 1 else 0)
    probabilities[usable] = predicted
    return probabilities


def _directions(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centre the embeddings, because their common mean carries no information, and scale them to length 1."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    unit -= unit.mean(axis=0)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    return unit


def _kernel_features(directions: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return features, float32 (n, m), with inner products that approximate the kernel.

    This is the Nyström method (Williams & Seeger 2001).
    """

    def kernel(others: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.exp(2 * KERNEL_WIDTH * (landmarks @ others.T - 1))

    n = len(directions)
    landmarks = directions[np.sort(rng.permutation(n)[:LANDMARKS])]
    among = kernel(landmarks).astype(np.float64)
    among[np.diag_indices_from(among)] += 1e-4  # identical photos would make the matrix singular
    root = np.linalg.cholesky(among).astype(np.float32)
    features = np.empty((n, len(landmarks)), np.float32)
    for start in range(0, n, 1024):
        features[start : start + 1024] = solve_triangular(root, kernel(directions[start : start + 1024]), lower=True).T
    return features


def _fit(
    features: NDArray[np.float32], targets: NDArray[np.int8], groups: NDArray[np.int64]
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Fit a probe: a function from features (·, m) to probabilities, float32 (·, k). ``features`` is overwritten."""
    known = targets >= 0
    share = ((targets == 1).sum(axis=0) + 1) / (known.sum(axis=0) + 2)
    learnable = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
    if not learnable.any():
        return lambda new: np.tile(share, (len(new), 1)).astype(np.float32)
    middle = features.mean(axis=0)
    features -= middle
    gram = (features.T @ features).astype(np.float64)
    gram[np.diag_indices_from(gram)] += RIDGE
    root = np.linalg.cholesky(gram).astype(np.float32)
    # With whitened features W, the hat matrix of the regression is W·Wᵀ.
    whitened = solve_triangular(root, features.T, lower=True, overwrite_b=True).T
    leverage = np.einsum("ij,ij->i", whitened, whitened)[:, None].astype(np.float64)
    duplicates = _duplicates(groups)

    wanted = np.where(known, targets, share)
    for round_ in range(ROUNDS):
        for _ in range(1 if known.all() else IMPUTATIONS):
            mean = wanted.mean(axis=0)
            centred = (wanted - mean).astype(np.float32)
            weights = whitened.T @ centred
            residuals = (centred - whitened @ weights).astype(np.float64)
            left_out = wanted - residuals / (1 - leverage)
            for rows in duplicates:  # left out together, because they would reveal each other's labels
                hat = (whitened[rows] @ whitened[rows].T).astype(np.float64)
                left_out[rows] = wanted[rows] - np.linalg.solve(np.eye(len(rows)) - hat, residuals[rows])
            # An entry that equals its own leave-one-out score does not influence the fit, as if it were missing.
            wanted = np.where(known, wanted, left_out)
        slope, intercept = _calibration(left_out, wanted, known)
        if round_ < ROUNDS - 1:
            wrong = error_probabilities(expit(slope * left_out + intercept), targets)
            wanted = np.where(known & learnable, np.abs(targets - wrong), wanted)
    weights = solve_triangular(root, weights, lower=True, trans="T")

    def probe(new: NDArray[np.float32]) -> NDArray[np.float32]:
        predicted = expit(slope * ((new - middle) @ weights + mean) + intercept)
        return np.where(learnable, predicted, share).astype(np.float32)

    return probe


def _duplicates(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of each group that has more than one photo."""
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [rows for rows in parts if len(rows) > 1]


def _calibration(
    scores: NDArray[np.float64], wanted: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit a logistic curve from scores to probabilities for each label (Platt 1999).

    Returns:
        Slopes and intercepts, float64 (k,). A slope is 0 if photos with the label do not have higher scores.
    """
    curves = np.zeros((2, scores.shape[1]))
    for j in range(scores.shape[1]):
        score, target = scores[known[:, j], j], wanted[known[:, j], j]
        share = (target.sum() + 1) / (len(target) + 2)
        curves[:, j] = 0, np.log(share / (1 - share))
        if not len(score):
            continue
        middle, spread = score.mean(), score.std()
        if spread < 1e-9:
            continue
        design = np.stack([(score - middle) / spread, np.ones_like(score)])
        curve = np.array([1.0, curves[1, j]])
        weak = np.array([0.01, 0.01])  # this prior keeps the curve finite if scores separate a label perfectly
        for _ in range(50):  # Newton's method
            p = expit(curve @ design)
            gradient = design @ (p - target) + weak * curve
            step = np.linalg.solve((design * (p * (1 - p))) @ design.T + np.diag(weak), gradient)
            curve -= step * min(1.0, 2 / max(np.abs(step).max(), 1e-12))
            if np.abs(step).max() < 1e-8:
                break
        if curve[0] > 0:
            curves[:, j] = curve[0] / spread, curve[1] - curve[0] * middle / spread
    return curves[0], curves[1]

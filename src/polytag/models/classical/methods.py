"""Classical methods for several labels on frozen embeddings, fitted in seconds.

scikit-learn and scikit-multilearn fit them: logistic regressions on standardised embeddings, or counts among
nearest neighbours. `polytag.models.classical.networks` then makes Keras networks of them that give the same
probabilities, so that nothing is pickled and all that holds for the other models holds for these.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from skmultilearn.problem_transform import LabelPowerset

from polytag.data.dataset import Dataset
from polytag.errors import DataError, counted
from polytag.models.backbones.backbone import backbone, pooled
from polytag.models.backbones.embed import embed
from polytag.models.backbones.weights import Weights
from polytag.models.backend import keras
from polytag.models.classical.networks import (
    Labelsets,
    chains_network,
    labelsets_network,
    mlknn_network,
    relevance_network,
    with_constants,
)
from polytag.models.networks.architectures import joined
from polytag.models.recipe import Recipe
from polytag.models.training.loop import Trained, mean_average_precision
from polytag.progress import progress_bar

STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Values of C, the inverse of a logistic regression's L2 penalty, in the order in which they are tried."""

PATIENCE = 2
"""Values of C in a row without a better validation mAP after which no more are tried: large ones take longest."""

TOLERANCE = 1e-3
"""Gradient at which a logistic regression stops. Ten times as much would not see rare combinations of labels."""

CHAINS = 5
"""Chains, each with labels in an order of its own, whose probabilities are averaged."""

PARTITIONS, LABELSET = 6, 3
"""How often RAkEL divides all labels, and into sets of how many: together 2k sets of 3, as the paper advises."""

FEW = 5
"""Photos below which the powerset takes a combination of labels for its nearest commoner one."""

NEIGHBOURS, SMOOTHING = (10, 20, 30, 50), (1.0, 0.1)
"""What ML-kNN tries."""

Regression = Callable[[], LogisticRegression]


def fit_classical(
    train: Dataset, validation: Dataset, recipe: Recipe, weights: Weights, show_progress: bool
) -> Trained:
    """Fit a classical method on the frozen backbone's embeddings of the photos as they are."""
    features = pooled(backbone(recipe.backbone, recipe.image_size, weights))
    name = recipe.model
    with progress_bar(len(train) + len(validation), f"{name} · embedding photos", "photo", show_progress) as bar:
        seen, judged = (
            embed(data.paths, recipe.image_size, weights, on_progress=bar.update).read() for data in (train, validation)
        )
    with progress_bar(STEPS[name], f"{name} · fitting", "step", show_progress) as bar:
        top, chosen, notes = fit_head(name, seen, train.targets, judged, validation.targets, recipe.seed, bar.update)
    facts = {"weights": weights.name, "notes": notes}
    probabilities = top.predict(judged, verbose=0)
    return Trained(joined(features, top), replace(recipe, hyperparameters=chosen), [], None, probabilities, facts)


def fit_head(
    name: str,
    embeddings: NDArray[np.float32],
    targets: NDArray[np.int8],
    validation_embeddings: NDArray[np.float32],
    validation_targets: NDArray[np.int8],
    seed: int = 0,
    on_progress: Callable[[int], object] = lambda n: None,
) -> tuple[keras.Model, dict[str, Any], list[str]]:
    """Fit one of `polytag.models.recipe.CLASSICAL`; what it has to choose is chosen by validation mAP.

    Args:
        name: "binary_relevance", "chains", "powerset", "rakel" or "mlknn".
        embeddings: float32 (n, d).
        targets: int8 (n, k): 1 present, 0 absent, -1 unknown. Binary relevance learns each label from the photos
            of which it is known; the others leave out photos with any unknown label.
        validation_embeddings, validation_targets: float32 (m, d) and int8 (m, k).
        seed: of the orders of chains and of RAkEL's labelsets.
        on_progress: called with the number of steps done, of `STEPS` in all.

    Returns:
        The network, embeddings float32 (batch, d) → probabilities float32 (batch, k); what was chosen; and notes
        on what was left out. A label that all remaining photos have, or none, gets a constant probability, its
        share with one photo added to either side. The network's trainable weights are the numbers that were
        fitted; ML-kNN's are its table, not the photos that it stores.

    Raises:
        DataError: no label has photos both with and without it among those that can be used.
    """
    notes = []
    if name != "binary_relevance":
        full = (targets >= 0).all(axis=1)
        if not full.all():
            notes.append(f"{counted(int((~full).sum()), 'training photo')} with unknown labels left out")
        embeddings, targets = embeddings[full], targets[full]
    present, absent = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    varying = (present > 0) & (absent > 0)
    if not varying.any():
        raise DataError(
            f"{name} cannot learn from {counted(len(targets), 'photo')} whose labels are known: expected photos with "
            "and without a label; complete the labels, or choose binary_relevance, which needs only each label's own"
        )
    if not varying.all():
        notes.append(f"{counted(int((~varying).sum()), 'label')} of a single kind: given a constant probability")
    shares = (present + 1) / (present + absent + 2)

    def score(network: keras.Model) -> float:
        probabilities = keras.ops.convert_to_numpy(network(validation_embeddings))
        return mean_average_precision(validation_targets[:, varying], probabilities)

    usable = targets[:, varying]
    if name == "mlknn":
        network, chosen = _mlknn(embeddings, usable, validation_embeddings, validation_targets[:, varying])
        on_progress(STEPS["mlknn"])
    else:
        network, chosen = _regressions(name, embeddings, usable, score, seed, on_progress)
    return with_constants(network, varying, shares), chosen, notes


def relevance(x: NDArray, targets: NDArray[np.int8], regression: Regression, rng: Any) -> list[LogisticRegression]:
    """Binary relevance: a regression for each label (Boutell et al. 2004), on the photos of which it is known."""
    known = targets >= 0
    return [regression().fit(x[known[:, j]], targets[known[:, j], j]) for j in range(targets.shape[1])]


def chain(x: NDArray, targets: NDArray[np.int8], regression: Regression, rng: np.random.Generator) -> ClassifierChain:
    """A classifier chain (Read et al. 2011) in a random order: each label also sees those before it.

    When it tags it sees their probabilities, where the paper passes on decisions: as good, and without jumps.
    """
    order = rng.permutation(targets.shape[1]).tolist()
    return ClassifierChain(regression(), order=order, chain_method="predict_proba").fit(x, targets)


def powerset(x: NDArray, targets: NDArray[np.int8], regression: Regression, rng: Any) -> Labelsets:
    """Label powerset (Tsoumakas & Katakis 2007): one class for each combination of labels that `pruned` keeps."""
    return [(np.arange(targets.shape[1]), LabelPowerset(regression()).fit(x, pruned(targets)))]


def labelsets(x: NDArray, targets: NDArray[np.int8], regression: Regression, rng: np.random.Generator) -> Labelsets:
    """RAkEL (Tsoumakas et al. 2011): the labels divided at random into small sets, a powerset for each."""
    k = targets.shape[1]
    sets = np.array_split(rng.permutation(k), -(-k // LABELSET))
    return [(labels, LabelPowerset(regression()).fit(x, targets[:, labels])) for labels in sets]


def pruned(targets: NDArray[np.int8]) -> NDArray[np.int8]:
    """Targets in which rare combinations are replaced by the nearest of those that are kept.

    Kept are combinations of at least `FEW` photos and, so that no label is lost, each label's commonest one with
    it and without it. Nearest is that with the fewest labels different, of equals the commonest: after the
    pruned sets of Read et al. (2008).

    Args:
        targets: int8 (n, k), 0 or 1, each label with both.

    Returns:
        int8 (n, k).
    """
    combinations, which, count = np.unique(targets, axis=0, return_inverse=True, return_counts=True)
    keep = count >= FEW
    for j in range(targets.shape[1]):
        for value in (0, 1):
            keep[np.where(combinations[:, j] == value, count, 0).argmax()] = True
    kept = combinations[keep][np.argsort(-count[keep], kind="stable")]
    nearest = cdist(combinations, kept, "cityblock").argmin(axis=1)
    return kept[nearest][which.reshape(-1)]


METHODS: dict[str, tuple[Callable[..., Any], Callable[..., keras.Model], int]] = {
    "binary_relevance": (relevance, relevance_network, 1),
    "chains": (chain, chains_network, CHAINS),
    "powerset": (powerset, labelsets_network, 1),
    "rakel": (labelsets, labelsets_network, PARTITIONS),
}
"""How a member is fitted, how members become a network, and how many there are."""

STEPS = {name: len(STRENGTHS) + members - 1 for name, (_, _, members) in METHODS.items()} | {"mlknn": 1}


def _regressions(
    name: str,
    embeddings: NDArray[np.float32],
    targets: NDArray[np.int8],
    score: Callable[[keras.Model], float],
    seed: int,
    on_progress: Callable[[int], object],
) -> tuple[keras.Model, dict[str, Any]]:
    """The first member chooses C for all."""
    fit, network_of, members = METHODS[name]
    scaler = StandardScaler()
    for start in range(0, len(embeddings), 4096):
        scaler.partial_fit(embeddings[start : start + 4096].astype(np.float64))
    x = embeddings - scaler.mean_.astype(np.float32)
    x /= scaler.scale_.astype(np.float32)

    def member(number: int, strength: float) -> Any:
        return fit(
            x,
            targets,
            lambda: LogisticRegression(C=strength, tol=TOLERANCE, max_iter=1000),
            np.random.default_rng([seed, number]),
        )

    best, chosen, waited = -1.0, 0.0, 0
    fitted: list[Any] = []
    for i, strength in enumerate(STRENGTHS):
        tried = member(0, strength)
        reached = score(network_of([tried], scaler))
        on_progress(1)
        if reached > best:
            best, chosen, fitted, waited = reached, strength, [tried], 0
        else:
            waited += 1
        if waited == PATIENCE:
            on_progress(len(STRENGTHS) - i - 1)
            break
    for number in range(1, members):
        fitted.append(member(number, chosen))
        on_progress(1)
    facts: dict[str, Any] = {"C": chosen}
    if name == "chains":
        facts["chains"] = members
    elif name == "powerset":
        facts["combinations"] = len(fitted[0][0][1].classes_)
    elif name == "rakel":
        facts["labelsets"] = sum(map(len, fitted))
    return network_of(fitted, scaler), facts


def _mlknn(
    embeddings: NDArray[np.float32],
    targets: NDArray[np.int8],
    validation_embeddings: NDArray[np.float32],
    validation_targets: NDArray[np.int8],
) -> tuple[keras.Model, dict[str, Any]]:
    """ML-kNN (Zhang & Zhou 2007) by the angle between embeddings, with the number of neighbours that validates best."""
    unit, validation_unit = (
        e / np.maximum(np.linalg.norm(e, axis=1, keepdims=True), 1e-12) for e in (embeddings, validation_embeddings)
    )
    most = min(max(NEIGHBOURS), len(unit) - 1)
    search = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(unit)
    # Without an argument: those of the training photos, none of which is its own neighbour.
    own, validation = (
        search.kneighbors(return_distance=False),
        search.kneighbors(validation_unit, return_distance=False),
    )
    labels = np.arange(targets.shape[1])
    best, table = -1.0, np.empty((0, 0), np.float32)
    chosen: dict[str, Any] = {}
    for n_neighbours in sorted({min(n, most) for n in NEIGHBOURS}):
        seen = targets[validation[:, :n_neighbours]].sum(axis=1, dtype=np.int64)
        for smoothing in SMOOTHING:
            tried = posteriors(own[:, :n_neighbours], targets, smoothing)
            reached = mean_average_precision(validation_targets, tried[labels, seen])
            if reached > best:
                best, table, chosen = reached, tried, {"neighbours": n_neighbours, "smoothing": smoothing}
    return mlknn_network(unit, targets, table), chosen


def posteriors(neighbours: NDArray[np.int64], targets: NDArray[np.int8], smoothing: float) -> NDArray[np.float32]:
    """How probable each label is, given how many of a photo's neighbours have it (Zhang & Zhou 2007, equation 3).

    scikit-multilearn computes the same photo by photo, in minutes instead of seconds on some thousand photos, and
    takes a training photo for its own neighbour.

    Args:
        neighbours: rows of the nearest other photos, int64 (n, s).
        targets: int8 (n, k), 0 or 1.
        smoothing: photos that are added to each count.

    Returns:
        float32 (k, s + 1).
    """
    (n, k), bins = targets.shape, neighbours.shape[1] + 1
    seen = targets[neighbours].sum(axis=1, dtype=np.int64) + np.arange(k) * bins
    prior = (smoothing + targets.sum(axis=0, dtype=np.int64)) / (2 * smoothing + n)
    joint = []
    for value, share in ((1, prior), (0, 1 - prior)):
        count = np.bincount(seen[targets == value], minlength=k * bins).reshape(k, bins)
        likelihood = (smoothing + count) / (smoothing * bins + count.sum(axis=1, keepdims=True))
        joint.append(share[:, None] * likelihood)
    return (joint[0] / (joint[0] + joint[1])).astype(np.float32)

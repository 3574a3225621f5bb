"""Classical multi-label methods on frozen embeddings, fitted in seconds.

scikit-learn and scikit-multilearn fit logistic regressions on standardised embeddings, or count labels among nearest
neighbours. `polytag.models.classical.networks` converts the results to Keras networks with the same probabilities.
Therefore, nothing is pickled, and calibration, conversion and tagging work as they do for the other models.
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
from polytag.evaluation.selection import selection_score
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
from polytag.models.training.loop import Trained
from polytag.progress import progress_bar

STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Values of C, the inverse of a logistic regression's L2 penalty, in the order in which they are tried."""

PATIENCE = 2
"""The search stops after this many successive values of C without a better score (`polytag.evaluation.selection`).

Large values take the longest, so the search avoids them if possible.
"""

TOLERANCE = 1e-3
"""Gradient at which the fit of a logistic regression stops. With 1e-2, it would miss rare combinations of labels."""

CHAINS = 5
"""Number of chains whose probabilities are averaged. Each chain has a different random order of the labels."""

PARTITIONS, LABELSET = 6, 3
"""Number of partitions of the labels for RAkEL, and number of labels in each set.

As the paper recommends, this gives 2k sets of 3 labels.
"""

MIN_COMBINATION = 5
"""If fewer photos than this have a combination of labels, the powerset replaces it with the nearest frequent one."""

NEIGHBOURS, SMOOTHING = (10, 20, 30, 50), (1.0, 0.1)
"""Numbers of neighbours and smoothing values that ML-kNN tries."""

Regression = Callable[[], LogisticRegression]


def fit_classical(
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    weights: Weights,
    features: keras.Model | None,
    show_progress: bool,
) -> Trained:
    """Fit a classical method on the frozen backbone's embeddings of unaugmented photos.

    Args:
        train, validation: readable photos.
        recipe: recipe of a classical method.
        weights: weights of the backbone.
        features: backbone from `polytag.models.backbones.backbone.backbone`. It becomes part of the network. ``None``
            for an encoder in ONNX, whose network is only the head.
        show_progress: whether to draw progress bars on stderr.
    """
    name = recipe.model
    with progress_bar(len(train) + len(validation), f"{name} · embedding photos", "photo", show_progress) as bar:
        embeddings, validation_embeddings = (
            embed(data.paths, recipe.image_size, weights, on_progress=bar.update)[:] for data in (train, validation)
        )
    with progress_bar(STEPS[name], f"{name} · fitting", "step", show_progress) as bar:
        top, chosen, notes = fit_head(
            name,
            embeddings,
            train.targets,
            validation_embeddings,
            validation.targets,
            recipe.seed,
            bar.update,
        )
    facts = {"weights": weights.name, "notes": notes}
    probabilities = top.predict(validation_embeddings, verbose=0)
    network = joined(features, top)
    return Trained(network, replace(recipe, hyperparameters=chosen), [], None, probabilities, facts)


def fit_head(
    name: str,
    embeddings: NDArray[np.float32],
    targets: NDArray[np.int8],
    validation_embeddings: NDArray[np.float32],
    validation_targets: NDArray[np.int8],
    seed: int = 0,
    on_progress: Callable[[int], object] = lambda n: None,
) -> tuple[keras.Model, dict[str, Any], list[str]]:
    """Fit a classical method, and choose the hyperparameters with the best support-weighted
    validation mAP.

    Args:
        name: "binary_relevance", "chains", "powerset", "rakel" or "mlknn".
        embeddings: float32 (n, d).
        targets: int8 (n, k): 1 present, 0 absent, -1 unknown. Binary relevance fits each label to the photos for
            which the label is known. The other methods leave out photos that have unknown labels.
        validation_embeddings, validation_targets: float32 (m, d) and int8 (m, k).
        seed: seed for the orders of the chains and for RAkEL's sets.
        on_progress: function that is called with the number of steps just completed. `STEPS` is the total.

    Returns:
        The network, from embeddings float32 (batch, d) to probabilities float32 (batch, k), the chosen hyperparameters,
        and notes about what was left out.

        A label that is present in all remaining photos or in none of them gets a constant probability, which is its
        frequency after one photo with the label and one without it have been added. The trainable weights of the
        network are the fitted numbers. For ML-kNN, they are the table of probabilities, but not the stored photos.

    Raises:
        DataError: no label has usable photos both with and without it.
    """
    notes = []
    if name != "binary_relevance":
        full = (targets >= 0).all(axis=1)
        if not full.all():
            notes.append(f"{counted(int((~full).sum()), 'training photo')} left out because of unknown labels")
        embeddings, targets = embeddings[full], targets[full]
    present, absent = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    varying = (present > 0) & (absent > 0)
    if not varying.any():
        raise DataError(
            f"{name} cannot be trained on {counted(len(targets), 'photo')} without unknown labels: it needs photos "
            "with and without a label. Complete the labels, or choose binary_relevance, which accepts unknown labels."
        )
    if not varying.all():
        notes.append(f"{counted(int((~varying).sum()), 'label')} with a constant probability (always or never present)")
    shares = (present + 1) / (present + absent + 2)

    def score(network: keras.Model) -> float:
        probabilities = keras.ops.convert_to_numpy(network(validation_embeddings))
        return selection_score(validation_targets[:, varying], probabilities)

    usable = targets[:, varying]
    if name == "mlknn":
        network, chosen = _mlknn(embeddings, usable, validation_embeddings, validation_targets[:, varying])
        on_progress(STEPS["mlknn"])
    else:
        network, chosen = _regressions(name, embeddings, usable, score, seed, on_progress)
    return with_constants(network, varying, shares), chosen, notes


def relevance(x: NDArray, targets: NDArray[np.int8], regression: Regression, rng: Any) -> list[LogisticRegression]:
    """Fit binary relevance (Boutell et al. 2004): one regression per label, on the photos for which it is known."""
    known = targets >= 0
    return [regression().fit(x[known[:, j]], targets[known[:, j], j]) for j in range(targets.shape[1])]


def chain(x: NDArray, targets: NDArray[np.int8], regression: Regression, rng: np.random.Generator) -> ClassifierChain:
    """Fit a classifier chain (Read et al. 2011) in random order. Each label's inputs include the preceding labels.

    The paper passes on decisions, but this chain passes on probabilities. Scores are equally good, and probabilities
    change smoothly.
    """
    order = rng.permutation(targets.shape[1]).tolist()
    return ClassifierChain(regression(), order=order, chain_method="predict_proba").fit(x, targets)


def powerset(x: NDArray, targets: NDArray[np.int8], regression: Regression, rng: Any) -> Labelsets:
    """Fit a label powerset (Tsoumakas & Katakis 2007): one class per combination of labels that `pruned` keeps."""
    return [(np.arange(targets.shape[1]), LabelPowerset(regression()).fit(x, pruned(targets)))]


def labelsets(x: NDArray, targets: NDArray[np.int8], regression: Regression, rng: np.random.Generator) -> Labelsets:
    """Fit RAkEL (Tsoumakas et al. 2011): random disjoint sets of labels, with a powerset for each set."""
    k = targets.shape[1]
    sets = np.array_split(rng.permutation(k), -(-k // LABELSET))
    return [(labels, LabelPowerset(regression()).fit(x, targets[:, labels])) for labels in sets]


def pruned(targets: NDArray[np.int8]) -> NDArray[np.int8]:
    """Replace rare combinations of labels with the nearest frequent one (based on Read et al. 2008).

    Combinations with at least `MIN_COMBINATION` photos are kept. To avoid losing a label, the most frequent combination
    with each label and the most frequent one without it are also kept. The nearest combination differs in the fewest
    labels. In a tie, the most frequent combination is chosen.

    Args:
        targets: int8 (n, k), 0 or 1; each label has both values.

    Returns:
        int8 (n, k).
    """
    combinations, which, count = np.unique(targets, axis=0, return_inverse=True, return_counts=True)
    keep = count >= MIN_COMBINATION
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
"""For each method: a function that fits an ensemble member, a function that converts all members to a network, and the
number of members."""

STEPS = {name: len(STRENGTHS) + members - 1 for name, (_, _, members) in METHODS.items()} | {"mlknn": 1}


def _regressions(
    name: str,
    embeddings: NDArray[np.float32],
    targets: NDArray[np.int8],
    score: Callable[[keras.Model], float],
    seed: int,
    on_progress: Callable[[int], object],
) -> tuple[keras.Model, dict[str, Any]]:
    """Fit an ensemble of logistic regressions. The first member chooses C for all members."""
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
    """Fit ML-kNN (Zhang & Zhou 2007) with cosine similarity, and choose its hyperparameters on validation photos."""
    unit, validation_unit = (
        e / np.maximum(np.linalg.norm(e, axis=1, keepdims=True), 1e-12) for e in (embeddings, validation_embeddings)
    )
    most = min(max(NEIGHBOURS), len(unit) - 1)
    search = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(unit)
    # If `kneighbors` is called without photos, no training photo is its own neighbour.
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
            reached = selection_score(validation_targets, tried[labels, seen])
            if reached > best:
                best, table, chosen = reached, tried, {"neighbours": n_neighbours, "smoothing": smoothing}
    return mlknn_network(unit, targets, table), chosen


def posteriors(neighbours: NDArray[np.int64], targets: NDArray[np.int8], smoothing: float) -> NDArray[np.float32]:
    """Return the probability of each label, given the number of neighbours with the label (Zhang & Zhou 2007, eq. 3).

    scikit-multilearn computes this photo by photo, which takes minutes instead of seconds for a few thousand photos. It
    also counts a training photo as its own neighbour.

    Args:
        neighbours: rows of the nearest other photos, int64 (n, s).
        targets: int8 (n, k), 0 or 1.
        smoothing: number of photos added to each count.

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

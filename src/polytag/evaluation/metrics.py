"""Scores of tagging with several labels, with unknown labels left out.

Targets are int8 (n, k) with 1 present, 0 absent, -1 unknown; probabilities float32 (n, k); thresholds
(k,). Every score is computed for many resamples at once: ``weights`` (b, n) says how often each photo
counts in each of b resamples, and the result is (b,). With weights of one the scores agree with
scikit-learn where it has them.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = dict[str, NDArray[np.float64]]

TITLES = {
    "samples_f1": "Samples-F1",
    "subset_accuracy": "Subset accuracy",
    "label_accuracy": "Label accuracy",
    "mean_average_precision": "mAP",
    "micro_f1": "Micro-F1",
    "macro_f1": "Macro-F1",
    "hamming_loss": "Hamming loss",
    "label_ranking_average_precision": "LRAP",
    "coverage_error": "Coverage error",
    "label_ranking_loss": "Ranking loss",
    "calibration_error": "Calibration error",
}
"""The scores and how tables call them. A name that ends in loss or error is better lower."""

CALIBRATION_BINS = 15


def scores(
    targets: NDArray[np.int8],
    probabilities: NDArray[np.float32],
    thresholds: ArrayLike = 0.5,
    weights: NDArray | None = None,
) -> Scores:
    """All scores of `TITLES`.

    Args:
        targets: int8 (n, k), 1, 0 or -1 for unknown.
        probabilities: float (n, k), 0 to 1.
        thresholds: a label is given from this probability upward; (k,) or one for all.
        weights: float (b, n), how often each photo counts; ones when ``None``.

    Returns:
        Each score, float64 (b,). Labels without a known positive are left out of mAP, those that are
        neither present nor given out of macro-F1; where nothing is left the score is NaN. A photo
        without labels that is given none has a samples-F1 of 1.
    """
    if weights is None:
        weights = np.ones((1, len(targets)))
    weights = np.asarray(weights, dtype=np.float64)
    known, present = targets >= 0, targets == 1
    given = (probabilities >= np.asarray(thresholds, dtype=np.float32)) & known
    right = (given == present) & known
    true_positive, wrong = given & present, known & ~right

    def mean_of(values: NDArray) -> NDArray:
        return weights @ values / weights.sum(axis=1)

    both = 2.0 * true_positive.sum(axis=1)
    either = (given.sum(axis=1) + present.sum(axis=1)).astype(float)
    per_label = label_scores(targets, probabilities, thresholds, weights)
    hits, given_or_present = weights @ true_positive, weights @ given + weights @ present
    with np.errstate(invalid="ignore", divide="ignore"):
        micro = 2 * hits.sum(axis=1) / given_or_present.sum(axis=1)
        hamming = (weights @ wrong.sum(axis=1)) / (weights @ known.sum(axis=1))
    ranking = _ranking(targets, probabilities)
    return {
        "samples_f1": mean_of(np.where(either > 0, both / np.maximum(either, 1), 1.0)),
        "subset_accuracy": mean_of(~wrong.any(axis=1)),
        "label_accuracy": _nanmean(per_label["accuracy"]),
        "mean_average_precision": _nanmean(per_label["average_precision"]),
        "micro_f1": micro,
        "macro_f1": _nanmean(per_label["f1"]),
        "hamming_loss": hamming,
        "label_ranking_average_precision": mean_of(ranking[0]),
        "coverage_error": mean_of(ranking[1]),
        "label_ranking_loss": mean_of(ranking[2]),
        "calibration_error": _calibration_error(targets, probabilities, weights),
    }


def label_scores(
    targets: NDArray[np.int8],
    probabilities: NDArray[np.float32],
    thresholds: ArrayLike = 0.5,
    weights: NDArray | None = None,
) -> Scores:
    """Accuracy, precision, recall, F1 and average precision of each label.

    Arguments as for `scores`.

    Returns:
        Each score, float64 (b, k); NaN where it is not defined: precision of a label that is never given,
        recall and average precision of one that is never present, F1 of one that is neither.
    """
    if weights is None:
        weights = np.ones((1, len(targets)))
    known, present = targets >= 0, targets == 1
    given = (probabilities >= np.asarray(thresholds, dtype=np.float32)) & known
    hits, n_given, n_present = weights @ (given & present), weights @ given, weights @ present
    n_known = weights @ known
    average_precision = np.stack(
        [
            average_precision_score(present[rows, j], probabilities[rows, j], weights[:, rows])
            for j, rows in enumerate(known.T)
        ],
        axis=1,
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "accuracy": (n_known - n_given - n_present + 2 * hits) / n_known,
            "precision": hits / n_given,
            "recall": hits / n_present,
            "f1": 2 * hits / (n_given + n_present),
            "average_precision": average_precision,
        }


def average_precision_score(
    present: NDArray[np.bool_], probabilities: NDArray, weights: NDArray
) -> NDArray[np.float64]:
    """All-point average precision, Σ (recall step × precision), of one label.

    Args:
        present: bool (n,).
        probabilities: float (n,); photos of equal probability enter together.
        weights: float (b, n).

    Returns:
        float64 (b,), NaN where no photo has the label.
    """
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    last_of_ties = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(ordered) else np.empty(0, int)
    result = np.full(len(weights), np.nan)
    # Blocks of resamples, so that memory does not grow with their number.
    block = max(1, 4_000_000 // max(1, len(ordered)))
    for start in range(0, len(weights), block):
        w = weights[start : start + block, order].astype(np.float64)
        seen = np.cumsum(w, axis=1)[:, last_of_ties]
        hits = np.cumsum(w * present[order], axis=1)[:, last_of_ties]
        steps = np.diff(hits, axis=1, prepend=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(seen > 0, hits / seen, 0)
            total = hits[:, -1] if hits.shape[1] else np.zeros(len(w))
            result[start : start + block] = np.where(total > 0, (steps * precision).sum(axis=1) / total, np.nan)
    return result


def argmax_accuracy(targets: NDArray[np.int8], probabilities: NDArray[np.float32]) -> float:
    """What Keras calls "accuracy" on multi-hot targets: the share of photos whose most probable label is
    the *first* of those present, or the first label of all where none is. It says little about several
    labels at once and is kept for comparison.
    """
    return float(np.mean(probabilities.argmax(axis=1) == (targets == 1).argmax(axis=1)))


def bootstrap_weights(groups: NDArray[np.int64], n_resamples: int = 1000, seed: int = 0) -> NDArray[np.float32]:
    """How often each photo counts in each bootstrap resample, float32 (n_resamples, n).

    Groups are drawn rather than photos, since copies of a picture are no independent evidence.
    """
    _, member = np.unique(groups, return_inverse=True)
    n_groups = int(member.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), n_resamples)
    return drawn.astype(np.float32)[:, member]


def interval(resampled: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % percentile interval of a resampled score; NaN where nothing was defined."""
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def _nanmean(values: NDArray) -> NDArray[np.float64]:
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(axis=1) / defined.sum(axis=1)


def _ranking(targets: NDArray[np.int8], probabilities: NDArray) -> NDArray[np.float64]:
    """Per photo: label ranking average precision, coverage error and ranking loss, float64 (3, n)."""
    n, k = targets.shape
    result = np.zeros((3, n))
    block = max(1, 8_000_000 // (k * k))
    for start in range(0, n, block):
        rows = slice(start, start + block)
        present, absent = targets[rows] == 1, targets[rows] == 0
        p = np.where(targets[rows] >= 0, probabilities[rows], -np.inf)
        # at_least[i, a, b]: label b of photo i is ranked no lower than label a.
        at_least = p[:, None, :] >= p[:, :, None]
        rank = (at_least & (present | absent)[:, None, :]).sum(axis=2)
        rank_among_present = (at_least & present[:, None, :]).sum(axis=2)
        n_present, n_absent = present.sum(axis=1), absent.sum(axis=1)
        precision = np.where(present, rank_among_present / np.maximum(rank, 1), 0).sum(axis=1)
        wrong_pairs = ((at_least & absent[:, None, :]) & present[:, :, None]).sum(axis=(1, 2))
        trivial = (n_present == 0) | (n_absent == 0)
        result[0, rows] = np.where(trivial, 1.0, precision / np.maximum(n_present, 1))
        result[1, rows] = np.where(present, rank, 0).max(axis=1)
        result[2, rows] = np.where(trivial, 0.0, wrong_pairs / np.maximum(n_present * n_absent, 1))
    return result


def _calibration_error(targets: NDArray[np.int8], probabilities: NDArray, weights: NDArray) -> NDArray[np.float64]:
    """Expected calibration error over all known entries: the mean distance, in 15 equal bins of
    probability weighted by their entries, between mean probability and share present (Naeini et al. 2015).
    """
    known = targets >= 0
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    excess = np.zeros((len(targets), CALIBRATION_BINS))
    for b in range(CALIBRATION_BINS):
        excess[:, b] = ((probabilities - targets) * (known & (bins == b))).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.abs(weights @ excess).sum(axis=1) / (weights @ known.sum(axis=1))

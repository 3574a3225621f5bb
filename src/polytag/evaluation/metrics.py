"""Scores of tagging with several labels, with unknown labels left out.

Targets are int8 (n, k) with 1 present, 0 absent, -1 unknown; probabilities float32 (n, k); thresholds
(k,). Every score is computed for many resamples at once: ``weights`` (b, n) says how often each photo
counts in each of b resamples, and the result is (b,). With weights of one the scores agree with
scikit-learn where it has them.
"""

from collections.abc import Callable, Iterator

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
        neither present nor given out of macro-F1, and photos of which nothing is known out of all; where
        nothing is left the score is NaN. A photo without labels that is given none has a samples-F1 of 1.
    """
    if weights is None:
        weights = np.ones((1, len(targets)))
    return _scorer(targets, probabilities, thresholds)(np.asarray(weights, dtype=np.float64))


def bootstrapped(
    targets: NDArray[np.int8],
    probabilities: NDArray[np.float32],
    thresholds: ArrayLike,
    groups: NDArray[np.int64],
    n_resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """The scores of bootstrap resamples, each float64 (n_resamples,).

    Groups (n,) are drawn rather than photos, since copies of a picture are no independent evidence. The
    same seed and groups draw the same resamples, so that models can be compared pair by pair.
    """
    scorer = _scorer(targets, probabilities, thresholds)
    blocks = [scorer(weights) for weights in bootstrap_weights(groups, n_resamples, seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in TITLES}


def bootstrap_weights(groups: NDArray[np.int64], n_resamples: int = 1000, seed: int = 0) -> Iterator[NDArray]:
    """How often each photo counts in each resample: blocks float64 (some, n) of n_resamples rows in all.

    In blocks, so that memory does not grow with the number of resamples times that of photos.
    """
    _, member = np.unique(groups, return_inverse=True)
    n_groups = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    block = max(1, 2_000_000 // len(groups))
    for start in range(0, n_resamples, block):
        size = min(block, n_resamples - start)
        yield rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size).astype(np.float64)[:, member]


def _scorer(
    targets: NDArray[np.int8], probabilities: NDArray[np.float32], thresholds: ArrayLike
) -> Callable[[NDArray[np.float64]], Scores]:
    """What a photo contributes to each score, computed once for any number of weights (b, n)."""
    known, present = targets >= 0, targets == 1
    given = (probabilities >= np.asarray(thresholds, dtype=np.float32)) & known
    true_positive, wrong = given & present, known & (given != present)
    both = 2.0 * true_positive.sum(axis=1)
    either = (given.sum(axis=1) + present.sum(axis=1)).astype(float)
    samples_f1 = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    n_wrong, n_known, some_wrong = wrong.sum(axis=1), known.sum(axis=1), wrong.any(axis=1)
    ranking_precision, coverage, ranking_loss = _ranking(targets, probabilities)
    excess = _excess(targets, probabilities)

    def scorer(weights: NDArray[np.float64]) -> Scores:
        judged = weights * (n_known > 0)

        def mean_of(values: NDArray) -> NDArray:
            return judged @ values / judged.sum(axis=1)

        per_label = label_scores(targets, probabilities, thresholds, weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "samples_f1": mean_of(samples_f1),
                "subset_accuracy": mean_of(~some_wrong),
                "label_accuracy": _nanmean(per_label["accuracy"]),
                "mean_average_precision": _nanmean(per_label["average_precision"]),
                "micro_f1": weights @ both / (weights @ either),
                "macro_f1": _nanmean(per_label["f1"]),
                "hamming_loss": weights @ n_wrong / (weights @ n_known),
                "label_ranking_average_precision": mean_of(ranking_precision),
                "coverage_error": mean_of(coverage),
                "label_ranking_loss": mean_of(ranking_loss),
                "calibration_error": np.abs(weights @ excess).sum(axis=1) / (weights @ n_known),
            }

    return scorer


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


def _excess(targets: NDArray[np.int8], probabilities: NDArray) -> NDArray[np.float64]:
    """Per photo and bin of probability: the sum of probability minus truth over known entries, (n, bins).

    Expected calibration error (Naeini et al. 2015) is the mean distance, in 15 equal bins weighted by
    their entries, between mean probability and share present.
    """
    known = targets >= 0
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    excess = np.zeros((len(targets), CALIBRATION_BINS))
    for b in range(CALIBRATION_BINS):
        excess[:, b] = ((probabilities - targets) * (known & (bins == b))).sum(axis=1)
    return excess


VALIDATION_SCORE = "validation_mean_average_precision"
"""What training calls the score by which it chooses epochs and trials, in its history."""

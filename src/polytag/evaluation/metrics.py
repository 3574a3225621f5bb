"""Scores of multi-label tagging. Unknown labels are ignored.

Targets are int8 (n, k) with 1 present, 0 absent and -1 unknown; probabilities are float32 (n, k); thresholds are (k,).
All scores except average precision depend on photos only through sums, which `Sums` holds. A score without some of the
photos therefore costs only a subtraction. `polytag.evaluation.jackknife` builds on this.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
"""Names of the scores in tables. If a key ends in "loss" or "error", lower is better."""

MAIN_SCORES = ("samples_f1", "subset_accuracy", "label_accuracy", "mean_average_precision")
"""The scores by which models are compared."""

LABEL_TITLES = {"f1": "F1", "average_precision": "AP", "precision": "Precision", "recall": "Recall"}
"""Names of the scores of individual labels that have an interval."""

ROWS = 4_000_000
"""Maximum number of entries processed at once, so that memory use does not grow with the number of photos."""

Judged = NDArray[np.bool_] | None


@dataclass(frozen=True)
class Sums:
    """Sums from which the scores of a set of photos are computed, for b sets at once.

    Attributes:
        photos: float64 (b, 6), the number of photos with a known label, followed by the sums of samples-F1, exact
            match, ranking precision, coverage and ranking loss over those photos.
        labels: float64 (b, 4, k), for each label the number of photos where it is both present and assigned, where it
            is assigned, where it is present, and where it is known.
    """

    photos: NDArray[np.float64]
    labels: NDArray[np.float64]

    def scores(self, judged: Judged = None) -> dict[str, NDArray[np.float64]]:
        """Return all scores in `TITLES` except mAP and calibration error, float64 (b,); NaN where undefined."""
        hits, assigned, present, known = self.labels.transpose(1, 0, 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            samples_f1, exact, ranking, coverage, ranking_loss = (self.photos[:, 1:] / self.photos[:, :1]).T
            wrong = assigned + present - 2 * hits
            return {
                "samples_f1": samples_f1,
                "subset_accuracy": exact,
                "label_accuracy": label_mean(1 - wrong / known),
                "micro_f1": 2 * hits.sum(axis=1) / (assigned + present).sum(axis=1),
                "macro_f1": label_mean(2 * hits / (assigned + present), judged),
                "hamming_loss": wrong.sum(axis=1) / known.sum(axis=1),
                "label_ranking_average_precision": ranking,
                "coverage_error": coverage,
                "label_ranking_loss": ranking_loss,
            }

    def label_scores(self) -> dict[str, NDArray[np.float64]]:
        """Return the accuracy, precision, recall and F1 of each label, float64 (b, k); NaN where undefined."""
        hits, assigned, present, known = self.labels.transpose(1, 0, 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "accuracy": 1 - (assigned + present - 2 * hits) / known,
                "precision": hits / assigned,
                "recall": hits / present,
                "f1": 2 * hits / (assigned + present),
            }


def summed(
    targets: NDArray[np.int8],
    probabilities: NDArray[np.float32],
    thresholds: ArrayLike = 0.5,
    blocks: NDArray[np.int64] | None = None,
) -> Sums:
    """Compute the sums that the scores need, over all photos or over each block of photos.

    Args:
        targets: int8 (n, k), 1, 0 or -1 for unknown.
        probabilities: float (n, k), 0 to 1.
        thresholds: minimum probability for assigning a label; (k,) or one for all.
        blocks: int (n,), the block of each photo, 0 to b - 1. Every block has a photo. ``None`` means a single block.
    """
    n, k = targets.shape
    blocks = np.zeros(n, np.int64) if blocks is None else blocks
    order = np.argsort(blocks, kind="stable")
    starts = np.flatnonzero(np.diff(blocks[order], prepend=-1))
    photos, labels = np.zeros((len(starts), 6)), np.zeros((len(starts), 4, k))
    step = max(1, ROWS // max(1, k))
    for start in range(0, n, step):
        rows = order[start : start + step]
        t, p = targets[rows], probabilities[rows]
        known, present = t >= 0, t == 1
        assigned = (p >= np.asarray(thresholds, dtype=np.float32)) & known
        hits = assigned & present
        f1 = np.nan_to_num(photo_f1(t, p, thresholds))
        by_photo = np.stack([np.ones(len(rows)), f1, (assigned == present).all(axis=1, where=known), *_ranking(t, p)])
        by_photo *= known.any(axis=1)
        here = blocks[rows]
        at = np.flatnonzero(np.diff(here, prepend=-1))
        photos[here[at]] += np.add.reduceat(by_photo, at, axis=1).T
        for i, counts in enumerate((hits, assigned, present, known)):
            labels[here[at], i] += np.add.reduceat(counts, at, axis=0, dtype=np.float64)
    return Sums(photos, labels)


def scores(
    targets: NDArray[np.int8],
    probabilities: NDArray[np.float32],
    thresholds: ArrayLike = 0.5,
    judged: Judged = None,
) -> dict[str, float]:
    """Compute all scores in `TITLES` except the calibration error.

    Scores that scikit-learn also has agree with scikit-learn.

    Args:
        targets: int8 (n, k), 1, 0 or -1 for unknown.
        probabilities: float (n, k), 0 to 1.
        thresholds: minimum probability for assigning a label; (k,) or one for all.
        judged: bool (k,), the labels that count in mAP and macro-F1; ``None`` means all labels.

    Returns:
        The scores by key. mAP skips labels without a known positive, macro-F1 skips labels that are neither present nor
        assigned, and every score skips photos without a known label. A score with nothing left is NaN. If a photo
        has no labels and none is assigned, its samples-F1 is 1.
    """
    found = summed(targets, probabilities, thresholds).scores(judged)
    average_precision = label_mean(average_precisions(targets, probabilities)[None], judged)
    found["mean_average_precision"] = average_precision
    return {name: float(found[name][0]) for name in TITLES if name in found}


def label_scores(
    targets: NDArray[np.int8], probabilities: NDArray[np.float32], thresholds: ArrayLike = 0.5
) -> dict[str, NDArray[np.float64]]:
    """Compute the accuracy, precision, recall, F1 and average precision of each label.

    The arguments are the same as for `scores`.

    Returns:
        The scores by key, each float64 (k,). If a label is never assigned, its precision is NaN. If it is never
        present, its recall and average precision are NaN. If it is neither, its F1 is NaN.
    """
    found = {name: value[0] for name, value in summed(targets, probabilities, thresholds).label_scores().items()}
    return found | {"average_precision": average_precisions(targets, probabilities)}


def photo_f1(
    targets: NDArray[np.int8], probabilities: NDArray[np.float32], thresholds: ArrayLike = 0.5
) -> NDArray[np.float64]:
    """Compute the F1 of each photo's labels, float64 (n,), whose mean is samples-F1; NaN if no label is known."""
    known, present = targets >= 0, targets == 1
    assigned = (probabilities >= np.asarray(thresholds, dtype=np.float32)) & known
    both, either = 2.0 * (assigned & present).sum(axis=1), (assigned.sum(axis=1) + present.sum(axis=1)).astype(float)
    f1 = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    return np.where(known.any(axis=1), f1, np.nan)


def average_precisions(targets: NDArray[np.int8], probabilities: NDArray) -> NDArray[np.float64]:
    """Compute the all-point average precision of each label, Σ (recall step × precision), float64 (k,).

    Photos with equal probabilities are ranked together. The result is NaN for labels without a known positive.
    """
    with np.errstate(invalid="ignore"):
        return precisions_at_positives(targets, probabilities).sum(axis=0) / (targets == 1).sum(axis=0)


def precisions_at_positives(targets: NDArray[np.int8], probabilities: NDArray) -> NDArray[np.float64]:
    """Compute, for each photo with a label, the precision if all photos at least as probable are assigned the label.

    A label's average precision is the mean of these values over its photos.

    Returns:
        float64 (n, k); 0 where the label is not present.
    """
    found = np.zeros(targets.shape)
    for j, known in enumerate((targets >= 0).T):
        rows = np.flatnonzero(known)
        positives, rank, _, _ = ranked_positives(targets[rows, j] == 1, probabilities[rows, j])
        found[rows[positives], j] = np.searchsorted(rank, rank, side="right") / rank
    return found


def ranked_positives(
    present: NDArray[np.bool_], probabilities: NDArray
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the positives of one label in descending order of probability.

    Args:
        present: bool (n,).
        probabilities: float (n,).

    Returns:
        The indices (m,) and ranks (m,) of the positives, then the order (n,) of all photos and the ranks (n,) in that
        order. A rank is the number of photos with at least the same probability.
    """
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(ordered) else np.empty(0, np.int64)
    ranks = np.repeat(last + 1, np.diff(last, prepend=-1))
    at = np.flatnonzero(present[order])
    return order[at], ranks[at], order, ranks


def argmax_accuracy(targets: NDArray[np.int8], probabilities: NDArray[np.float32]) -> float:
    """Compute the fraction of photos whose most probable label is the *first* one present, Keras' "accuracy".

    A photo without labels counts as having the first label. The score says little about multi-label tagging and exists
    only for comparison with other work.
    """
    return float(np.mean(probabilities.argmax(axis=1) == (targets == 1).argmax(axis=1)))


def label_mean(values: NDArray[np.float64], judged: Judged = None) -> NDArray[np.float64]:
    """Return the mean of the values (b, k) over the scored labels, float64 (b,), ignoring NaN."""
    defined = np.isfinite(values) & (True if judged is None else judged)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(axis=1) / defined.sum(axis=1)


def _ranking(targets: NDArray[np.int8], probabilities: NDArray) -> NDArray[np.float64]:
    """Return label ranking average precision, coverage error and ranking loss of each photo, float64 (3, n)."""
    known = np.where(targets >= 0, probabilities, -np.inf)
    order = np.argsort(-known, axis=1, kind="stable")
    p, t = np.take_along_axis(known, order, axis=1), np.take_along_axis(targets, order, axis=1)
    # Labels with equal probabilities all take the last of their places in the ranking.
    places = np.broadcast_to(np.arange(p.shape[1]), p.shape)
    ends = np.where(np.append(p[:, 1:] != p[:, :-1], np.ones((len(p), 1), bool), axis=1), places, p.shape[1])
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    present = t == 1
    rank, above = ends + 1, np.take_along_axis(np.cumsum(present, axis=1), ends, axis=1)
    n_present, n_absent = present.sum(axis=1), (t == 0).sum(axis=1)
    trivial = (n_present == 0) | (n_absent == 0)
    precision = np.where(present, above / rank, 0).sum(axis=1) / np.maximum(n_present, 1)
    wrong_pairs = np.where(present, rank - above, 0).sum(axis=1)
    return np.stack(
        [
            np.where(trivial, 1.0, precision),
            np.where(present, rank, 0).max(axis=1),
            np.where(trivial, 0.0, wrong_pairs / np.maximum(n_present * n_absent, 1)),
        ]
    )

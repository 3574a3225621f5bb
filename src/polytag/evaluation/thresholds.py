"""Thresholds: the minimum probability for assigning a label, chosen on validation data and never on test data.

With few positives, the best threshold of a label is mostly luck. Three things reduce that luck. Probabilities are
calibrated first, so they predict what a threshold is worth. Counts on validation photos only correct that prediction,
by as much as their number allows. And for F1, each label's threshold is drawn half-way to the best common one.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import beta

from polytag.evaluation.objectives import parse_objective

PRIOR = 30.0
"""Photos with a label at which counting them weighs as much as their probabilities."""

PRECISION_PRIOR = 5.0
"""Photos that the probabilities count for in a bound on precision (benchmarks/objectives.py)."""

CONFIDENCE = 0.95
"""Confidence of the lower bound on precision at one threshold. Choosing the lowest threshold uses up some of it."""

MARGIN = 1e-6
"""Least distance of thresholds from 0 and 1."""

STEPS = expit(np.linspace(-4, 4, 81))
"""Thresholds that the objective "subset" tries for each label."""


def choose_thresholds(
    targets: NDArray[np.int8],
    probabilities: NDArray[np.float32],
    objective: str = "f1",
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Choose the threshold of each label.

    Args:
        targets: int8 (n, k) of the validation photos, 1, 0 or -1 for unknown.
        probabilities: float32 (n, k), calibrated.
        objective: what the thresholds are for.

            - "f1": the F1 of each label. The best threshold is half of the highest F1 that can be expected (Lipton et
              al. 2014, Optimal Thresholding of Classifiers to Maximize F1 Measure). The middle, on the logit scale,
              between it and the common threshold with the best F1 is taken.
            - "subset": photos with exactly the right labels. Starting from "f1", one label after the other takes the
              threshold with which most photos are right, until none moves. The middle of that, "f1" and 0.5 is taken.
            - "precision=0.9": for each label the lowest threshold at which a lower confidence bound of its precision
              reaches the value, so that recall is as high as possible. If none does, the one with the highest bound.
            - "recall=0.9": for each label the highest threshold whose expected recall reaches the value.
            - "fnr=0.1": one threshold for all labels, the highest at which the expected share of a photo's labels that
              are missed is at most the value. This holds for new photos that are exchangeable with the validation
              photos (conformal risk control, Angelopoulos et al. 2022).
        groups: int64 (n,), the group of each photo, for "fnr": photos of one group count as one. Each photo is its own
            group when ``None``.

    Returns:
        float32 (k,), above 0 and below 1; 0.5 throughout if no label is ever present.

    Raises:
        SettingsError: unknown objective.
    """
    name, wanted = parse_objective(objective)
    known, present = targets >= 0, targets == 1
    if not present.any():
        return np.full(targets.shape[1], 0.5, np.float32)
    if name == "fnr":
        return np.full(targets.shape[1], _risk_controlled(present, probabilities, wanted, groups)[0], np.float32)
    common = best_f1_threshold(present[known], probabilities[known])
    chosen = np.full(targets.shape[1], common)
    for j, rows in enumerate(known.T):
        if not rows.any():
            continue
        label, p = present[rows, j], probabilities[rows, j]
        if name == "precision":
            cuts, bound = _precision_bounds(label, p)
            reached = np.flatnonzero(bound >= wanted)
            chosen[j] = cuts[reached[-1] if len(reached) else bound.argmax()]
            continue
        cuts, recall, f1 = _expected(label, p)
        if name == "recall":
            chosen[j] = cuts[np.flatnonzero(recall >= wanted - 1e-9)[0]]
        else:
            chosen[j] = _midway(np.clip(f1.max() / 2, MARGIN, 1 - MARGIN), common)
    if name == "subset":
        chosen = _for_whole_photos(targets, probabilities, chosen)
    return chosen.astype(np.float32)


def out_of_reach(
    targets: NDArray[np.int8],
    probabilities: NDArray[np.float32],
    objective: str,
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Return which labels cannot reach the objective, as far as validation photos show; bool (k,).

    With "precision=0.9" these are labels whose lower bound reaches the value at no threshold, with "recall=0.9" labels
    that no photo shows, and with "fnr=0.1" all labels if there are too few photos. The other objectives promise
    nothing. Arguments as for `choose_thresholds`.
    """
    name, wanted = parse_objective(objective)
    known, present = targets >= 0, targets == 1
    if name == "recall":
        return ~present.any(axis=0)
    beyond = np.zeros(targets.shape[1], bool)
    if name == "fnr":
        beyond[:] = not present.any() or not _risk_controlled(present, probabilities, wanted, groups)[1]
    if name == "precision":
        for j, rows in enumerate(known.T):
            beyond[j] = not rows.any() or _precision_bounds(present[rows, j], probabilities[rows, j])[1].max() < wanted
    return beyond


def _risk_controlled(
    present: NDArray[np.bool_], probabilities: NDArray[np.float32], wanted: float, groups: NDArray[np.int64] | None
) -> tuple[float, bool]:
    """The highest common threshold at which the risk is controlled, and whether there is one.

    The loss of a photo is the share of its labels that are missed, that of a group the mean over its photos. Photos
    without labels miss none and are left out. With m groups, the risk is controlled where (sum of losses + 1) / (m + 1)
    is at most the value wanted.
    """
    rows = np.flatnonzero(present.any(axis=1))
    present, probabilities = present[rows], probabilities[rows]
    _, member = np.unique(rows if groups is None else groups[rows], return_inverse=True)
    size = np.bincount(member)
    photos, labels = np.nonzero(present)
    # Each present label adds its part of the loss as soon as the threshold exceeds its probability.
    part = 1 / (present.sum(axis=1)[photos] * size[member[photos]])
    p = probabilities[photos, labels].astype(np.float64)
    order = np.argsort(p, kind="stable")
    allowed = wanted * (len(size) + 1) - 1
    missed = np.cumsum(part[order])
    if allowed < 0:
        return MARGIN, False
    first = int(np.searchsorted(missed, allowed + 1e-9, side="right"))
    # All present labels below this one may be missed; it is assigned itself, since its threshold is inclusive.
    highest = p[order[first]] if first < len(order) else 1.0
    return float(np.clip(highest, MARGIN, 1 - MARGIN)), bool(highest >= MARGIN)


def best_f1_threshold(present: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> float:
    """Return the threshold with the best F1, half-way between the two neighboring probabilities."""
    if not present.any():
        return 0.5
    cuts, hits, given = _counted(present, probabilities)
    return float(cuts[np.argmax(2 * hits / (given + hits[-1]))])


def _counted(
    truth: NDArray, probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """All thresholds that separate probabilities (n,), from the highest down; with each of them the sum of truth (n,)
    over the photos that get the label, and their number.
    """
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order].astype(np.float64)
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    cuts = (ordered[last] + np.append(ordered[last[:-1] + 1], 0.0)) / 2
    return np.clip(cuts, MARGIN, 1 - MARGIN), np.cumsum(truth[order], dtype=float)[last], last + 1


def _expected(
    present: NDArray[np.bool_], probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Thresholds from the highest down, and the recall and F1 to expect from each on new photos.

    A photo counts as showing the label partly by its truth and partly by its probability. The truth weighs more the
    more photos show the label.
    """
    weight = present.sum() / (present.sum() + PRIOR)
    cuts, hits, given = _counted(weight * present + (1 - weight) * probabilities, probabilities)
    hits += 1e-12  # without any hit, recall is full at once
    return cuts, hits / hits[-1], 2 * hits / (given + hits[-1])


def _precision_bounds(
    present: NDArray[np.bool_], probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Thresholds from the highest down, and a lower confidence bound of the precision of each.

    The bound is a quantile of the Beta distribution of the precision. Its prior is the mean probability of the photos
    that get the label, which counts like `PRECISION_PRIOR` photos.
    """
    cuts, hits, given = _counted(present, probabilities)
    expected = _counted(probabilities, probabilities)[1] / given
    a = hits + PRECISION_PRIOR * expected
    return cuts, beta.ppf(1 - CONFIDENCE, a, given + PRECISION_PRIOR - a + 1e-9)


def _midway(a: NDArray[np.float64] | float, b: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return expit((logit(a) + logit(b)) / 2)


def _for_whole_photos(
    targets: NDArray[np.int8], probabilities: NDArray[np.float32], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Thresholds (k,) with which more photos have all their known labels right than with the starting ones."""
    known, present = targets >= 0, targets == 1

    def wrong(thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
        return known & ((probabilities >= thresholds) != present)

    best, errors = start.copy(), wrong(start)
    for _ in range(10):
        moved = False
        for j in np.argsort(-present.sum(axis=0), kind="stable"):
            # Only photos whose other labels are right can become right or wrong as a whole.
            rows = known[:, j] & (errors.sum(axis=1) == errors[:, j])
            given = probabilities[rows, j, None] >= np.append(STEPS, best[j])
            *lost, now = (given != present[rows, j, None]).sum(axis=0)
            if min(lost) < now:
                least = STEPS[np.array(lost) == min(lost)]
                best[j] = least[np.abs(logit(least) - logit(best[j])).argmin()]
                errors, moved = wrong(best), True
        if not moved:
            break
    # If labels were independent, 0.5 would be best; its logit is 0.
    middle = expit((logit(best) + logit(start)) / 3)
    return middle if wrong(middle).any(axis=1).sum() <= wrong(start).any(axis=1).sum() else start

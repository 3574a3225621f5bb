"""Thresholds: the minimum probability for assigning a label, chosen on validation data and never on test data.

With few positives, which threshold is best on the validation photos is mostly luck. Three measures reduce the role of
luck. First, probabilities are calibrated, so they predict how well a threshold will work. Second, the counts on the
validation photos only correct that prediction, and the correction grows with the number of positives. Third, for F1,
each label's threshold is moved halfway to the best common threshold.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import beta

from polytag.evaluation.objectives import parse_objective

PRIOR = 30.0
"""Number of photos with a label at which the counts and the predicted probabilities have equal weight."""

PRECISION_PRIOR = 5.0
"""Weight of the probabilities in a bound on precision, in photos (chosen with benchmarks/objectives.py)."""

CONFIDENCE = 0.95
"""Confidence of the lower bound on precision at one threshold. The actual confidence is lower, because the lowest of
many thresholds is chosen."""

MARGIN = 1e-6
"""Minimum distance of thresholds from 0 and 1."""

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
        objective: the goal of the thresholds.

            - "f1": the F1 of each label. The best threshold is half of the highest expected F1 (Lipton et al. 2014,
              Optimal Thresholding of Classifiers to Maximize F1 Measure). The result is the midpoint, on the logit
              scale, between this threshold and the common threshold with the best F1.
            - "subset": the number of photos with exactly the right labels. Starting from the "f1" thresholds, each
              label in turn gets the threshold with the most correct photos, until none changes. The result is the mean
              of these thresholds, the "f1" thresholds and 0.5 on the logit scale.
            - "precision=0.9": for each label, the lowest threshold at which a lower confidence bound on the precision
              reaches the value, so that recall is as high as possible. If no threshold reaches the value, the threshold
              with the highest bound.
            - "recall=0.9": for each label, the highest threshold whose expected recall reaches the value.
            - "fnr=0.1": one threshold for all labels. It is the highest threshold at which the expected fraction of a
              photo's labels that are missed is at most the value. The guarantee holds for new photos that are
              exchangeable with the validation photos (conformal risk control, Angelopoulos et al. 2022).
        groups: int64 (n,), the group of each photo. Only "fnr" uses the groups and counts each group as one photo.
            ``None`` means that each photo is its own group.

    Returns:
        float32 (k,), above 0 and below 1. If no label is ever present, all thresholds are 0.5.

    Raises:
        SettingsError: the objective is unknown.
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
    """Return which labels cannot reach the objective according to the validation photos, bool (k,).

    For "precision=0.9", these are labels with no threshold at which the lower bound reaches the value. For
    "recall=0.9", they are labels that no photo shows. For "fnr=0.1", all labels are out of reach if there are too few
    photos. The other objectives promise nothing. The arguments are the same as for `choose_thresholds`.
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
    """Return the highest common threshold at which the risk is controlled, and whether such a threshold exists.

    The loss of a photo is the fraction of its labels that are missed. The loss of a group is the mean over its photos.
    Photos without labels are ignored, because no label can be missed. With m groups, the risk is controlled if
    (sum of losses + 1) / (m + 1) is at most the wanted value.
    """
    rows = np.flatnonzero(present.any(axis=1))
    present, probabilities = present[rows], probabilities[rows]
    _, member = np.unique(rows if groups is None else groups[rows], return_inverse=True)
    size = np.bincount(member)
    photos, labels = np.nonzero(present)
    # Each present label contributes to the loss as soon as the threshold exceeds its probability.
    part = 1 / (present.sum(axis=1)[photos] * size[member[photos]])
    p = probabilities[photos, labels].astype(np.float64)
    order = np.argsort(p, kind="stable")
    allowed = wanted * (len(size) + 1) - 1
    missed = np.cumsum(part[order])
    if allowed < 0:
        return MARGIN, False
    first = int(np.searchsorted(missed, allowed + 1e-9, side="right"))
    # All present labels below this one may be missed. This one is still assigned, because thresholds are inclusive.
    highest = p[order[first]] if first < len(order) else 1.0
    return float(np.clip(highest, MARGIN, 1 - MARGIN)), bool(highest >= MARGIN)


def best_f1_threshold(present: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> float:
    """Return the threshold with the best F1, halfway between the two neighboring probabilities."""
    if not present.any():
        return 0.5
    cuts, hits, given = _counted(present, probabilities)
    return float(cuts[np.argmax(2 * hits / (given + hits[-1]))])


def _counted(
    truth: NDArray, probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return all thresholds that separate probabilities (n,), in descending order.

    Also return, for each threshold, the number of photos that get the label and the sum of ``truth`` (n,) over them.
    """
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order].astype(np.float64)
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    cuts = (ordered[last] + np.append(ordered[last[:-1] + 1], 0.0)) / 2
    return np.clip(cuts, MARGIN, 1 - MARGIN), np.cumsum(truth[order], dtype=float)[last], last + 1


def _expected(
    present: NDArray[np.bool_], probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return thresholds in descending order, and the expected recall and F1 of each threshold on new photos.

    Each photo counts with a weighted mean of its target and its probability. The weight of the targets grows
    with the number of photos that show the label.
    """
    weight = present.sum() / (present.sum() + PRIOR)
    cuts, hits, given = _counted(weight * present + (1 - weight) * probabilities, probabilities)
    hits += 1e-12  # Without any hit, recall is 1 at every threshold.
    return cuts, hits / hits[-1], 2 * hits / (given + hits[-1])


def _precision_bounds(
    present: NDArray[np.bool_], probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return thresholds in descending order, and a lower confidence bound on the precision at each threshold.

    The bound is a quantile of the Beta distribution of the precision. The mean of its prior is the mean probability of
    the photos that get the label, and the prior counts as `PRECISION_PRIOR` photos.
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
    """Return thresholds (k,) at which more photos have all their known labels right than at the starting thresholds."""
    known, present = targets >= 0, targets == 1

    def wrong(thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
        return known & ((probabilities >= thresholds) != present)

    best, errors = start.copy(), wrong(start)
    for _ in range(10):
        moved = False
        for j in np.argsort(-present.sum(axis=0), kind="stable"):
            # A photo can become right or wrong as a whole only if all its other labels are right.
            rows = known[:, j] & (errors.sum(axis=1) == errors[:, j])
            given = probabilities[rows, j, None] >= np.append(STEPS, best[j])
            *lost, now = (given != present[rows, j, None]).sum(axis=0)
            if min(lost) < now:
                least = STEPS[np.array(lost) == min(lost)]
                best[j] = least[np.abs(logit(least) - logit(best[j])).argmin()]
                errors, moved = wrong(best), True
        if not moved:
            break
    # If labels were independent, 0.5 would be best. Its logit is 0 and adds nothing to the sum.
    middle = expit((logit(best) + logit(start)) / 3)
    return middle if wrong(middle).any(axis=1).sum() <= wrong(start).any(axis=1).sum() else start

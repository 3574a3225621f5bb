"""From which probability upward a label is given: chosen on validation data, never on test data.

With few positives the best cut of one label is mostly luck. Three things keep that luck out: probabilities are
calibrated first, and then say themselves what a cut is worth on average; counted photos only correct them, as far
as there are enough; and each label's own cut is drawn half-way to the one that is best for all labels together.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from polytag.evaluation.objectives import parse_objective

PRIOR = 30.0
"""How many photos with a label it takes until counting them weighs as much as what their probabilities say."""

MARGIN = 1e-6
"""Thresholds are at least this far from 0 and 1."""

STEPS = expit(np.linspace(-4, 4, 81))
"""Thresholds that the objective "subset" tries for each label."""


def choose_thresholds(
    targets: NDArray[np.int8], probabilities: NDArray[np.float32], objective: str = "f1"
) -> NDArray[np.float32]:
    """The threshold of each label.

    Args:
        targets: int8 (n, k) of the validation photos, 1, 0 or -1 for unknown.
        probabilities: float32 (n, k), calibrated.
        objective: what the thresholds are for.

            - "f1": each label's F1. The best cut is half of the highest F1 that can be expected (Lipton et al. 2014,
              Optimal Thresholding of Classifiers to Maximize F1 Measure); its middle, on the scale of logits, with the
              one cut for all labels that has the best F1.
            - "subset": photos with exactly the right labels. Beginning with "f1", one label after the other takes the
              cut with which most photos are right, until none moves; the middle of that, "f1" and 0.5.
            - "precision=0.9": for each label the lowest cut whose precision reaches the value, so recall is as high
              as it can be; where none does, the cut with the highest precision.
            - "recall=0.9": for each label the highest cut whose recall reaches the value.

    Returns:
        float32 (k,), above 0 and below 1; 0.5 throughout where no label is ever present.

    Raises:
        SettingsError: an unknown objective.
    """
    name, wanted = parse_objective(objective)
    known, present = targets >= 0, targets == 1
    if not present.any():
        return np.full(targets.shape[1], 0.5, np.float32)
    common = best_f1_threshold(present[known], probabilities[known])
    chosen = np.full(targets.shape[1], common)
    for j, rows in enumerate(known.T):
        if not rows.any():
            continue
        cuts, precision, recall, f1 = _expected(present[rows, j], probabilities[rows, j])
        if name == "precision":
            reached = np.flatnonzero(precision >= wanted)
            chosen[j] = cuts[reached[-1] if len(reached) else precision.argmax()]
        elif name == "recall":
            chosen[j] = cuts[np.flatnonzero(recall >= wanted - 1e-9)[0]]
        else:
            chosen[j] = _midway(np.clip(f1.max() / 2, MARGIN, 1 - MARGIN), common)
    if name == "subset":
        chosen = _for_whole_photos(targets, probabilities, chosen)
    return chosen.astype(np.float32)


def out_of_reach(targets: NDArray[np.int8], probabilities: NDArray[np.float32], objective: str) -> NDArray[np.bool_]:
    """Which labels cannot keep what the objective promises, by the validation photos; bool (k,).

    With "precision=0.9" those that reach it at no cut, with "recall=0.9" those that no photo shows, whose recall
    nothing could confirm. The other objectives promise nothing. Arguments as for `choose_thresholds`.
    """
    name, wanted = parse_objective(objective)
    known, present = targets >= 0, targets == 1
    if name == "recall":
        return ~present.any(axis=0)
    beyond = np.zeros(targets.shape[1], bool)
    if name == "precision":
        for j, rows in enumerate(known.T):
            beyond[j] = not rows.any() or _expected(present[rows, j], probabilities[rows, j])[1].max() < wanted
    return beyond


def best_f1_threshold(present: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> float:
    """The threshold with the best F1, half-way between the two neighbouring probabilities."""
    if not present.any():
        return 0.5
    cuts, hits, given = _counted(present, probabilities)
    return float(cuts[np.argmax(2 * hits / (given + hits[-1]))])


def _counted(
    truth: NDArray, probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """All thresholds that tell probabilities (n,) apart, from the highest down, and with each of them how many photos
    are given the label, and the sum of truth (n,) over those.
    """
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order].astype(np.float64)
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    cuts = (ordered[last] + np.append(ordered[last[:-1] + 1], 0.0)) / 2
    return np.clip(cuts, MARGIN, 1 - MARGIN), np.cumsum(truth[order], dtype=float)[last], last + 1


def _expected(
    present: NDArray[np.bool_], probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Thresholds from the highest down, and the precision, recall and F1 to expect of each on photos to come.

    A photo counts as showing the label partly by what is known and partly by its probability: known truth weighs
    more the more photos show the label.
    """
    weight = present.sum() / (present.sum() + PRIOR)
    cuts, hits, given = _counted(weight * present + (1 - weight) * probabilities, probabilities)
    hits += 1e-12  # where there are none, recall is full at once
    return cuts, hits / given, hits / hits[-1], 2 * hits / (given + hits[-1])


def _midway(a: NDArray[np.float64] | float, b: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return expit((logit(a) + logit(b)) / 2)


def _for_whole_photos(
    targets: NDArray[np.int8], probabilities: NDArray[np.float32], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Thresholds (k,) with which more photos have all their known labels right than with those of the start."""
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
    # Were labels independent of each other, 0.5 would be best; its logit is 0.
    middle = expit((logit(best) + logit(start)) / 3)
    return middle if wrong(middle).any(axis=1).sum() <= wrong(start).any(axis=1).sum() else start

"""From which probability upward a label is given: chosen on validation data, never on test data."""

import numpy as np
from numpy.typing import NDArray

PRIOR = 10.0
"""How many photos with a label weigh as much as all labels together when its threshold is chosen."""


def choose_thresholds(targets: NDArray[np.int8], probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """The threshold of each label that maximises its F1, drawn toward the common one.

    With few positives the best cut of one label is mostly luck, so each label's threshold is the mean of
    its own and the common one, weighted by its number of positives against `PRIOR`.

    Args:
        targets: int8 (n, k) of the validation photos, 1, 0 or -1 for unknown.
        probabilities: float (n, k).

    Returns:
        float32 (k,), above 0 and below 1; 0.5 throughout where no label is ever present.
    """
    known = targets >= 0
    common = best_f1_threshold(targets[known] == 1, probabilities[known])
    chosen = np.full(targets.shape[1], common)
    for j, rows in enumerate(known.T):
        present = targets[rows, j] == 1
        positives = present.sum()
        if positives:
            own = best_f1_threshold(present, probabilities[rows, j])
            chosen[j] = (positives * own + PRIOR * common) / (positives + PRIOR)
    return chosen.astype(np.float32)


def best_f1_threshold(present: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> float:
    """The threshold with the best F1, half-way between the two neighbouring probabilities."""
    if not present.any():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order].astype(np.float64)
    hits = np.cumsum(present[order])
    cuts = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    f1 = 2 * hits[cuts] / (cuts + 1 + hits[-1])
    best = cuts[int(np.argmax(f1))]
    below = ordered[best + 1] if best + 1 < len(ordered) else 0.0
    return float(np.clip((ordered[best] + below) / 2, 1e-4, 1 - 1e-4))

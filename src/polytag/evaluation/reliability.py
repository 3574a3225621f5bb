"""Reliability: whether 70% of the labels with a probability of 0.7 are really present."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Number of bins of equal width between 0 and 1, as in Naeini et al. 2015."""


def calibration_error(
    targets: NDArray[np.int8], probabilities: NDArray[np.float32], groups: NDArray[np.int64]
) -> float:
    """Estimate the root mean square distance between probability and frequency, per label and bin, without noise.

    A plain mean over bins is above zero even for perfect probabilities, because frequencies from few photos
    scatter. This estimate uses only products of errors from different groups. Their expectation is zero for perfect
    probabilities (the debiased error of Kumar et al. 2019, Verified Uncertainty Calibration, computed per label and
    for grouped photos). Errors of different labels cannot cancel. The error has no interval, because its true value is
    often near the lower bound of zero, where neither the jackknife nor the bootstrap is valid.

    Args:
        targets: int8 (n, k), 1, 0 or -1 for unknown.
        probabilities: float32 (n, k), 0 to 1.
        groups: int64 (n,).

    Returns:
        The error, 0 to 1; NaN if all targets are unknown.
    """
    _, member = np.unique(groups, return_inverse=True)
    total, entries = 0.0, 0
    for target, p in zip(targets.T, probabilities.T, strict=True):
        rows = target >= 0
        bins = bins_of(p[rows])
        error = p[rows].astype(np.float64) - target[rows]
        cells, inverse = np.unique(member[rows] * BINS + bins, return_inverse=True)
        by_group = np.bincount(inverse, error, len(cells))
        squares = np.bincount(cells % BINS, by_group**2, BINS)
        sums, count = np.bincount(bins, error, BINS), np.bincount(bins, minlength=BINS)
        total += float(((sums**2 - squares) / np.maximum(count, 1)).sum())
        entries += int(rows.sum())
    return float(np.sqrt(max(0.0, total) / entries)) if entries else float("nan")


def reliability_bins(
    targets: NDArray[np.int8], probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean probability, the fraction present and the number of known entries in each non-empty bin.

    The targets and probabilities can have any common shape.
    """
    known = targets >= 0
    p, present = probabilities[known].astype(np.float64), targets[known] == 1
    bins = bins_of(p)
    count = np.bincount(bins, minlength=BINS)
    filled = count > 0
    mean = np.bincount(bins, p, BINS)[filled] / count[filled]
    share = np.bincount(bins, present, BINS)[filled] / count[filled]
    return mean, share, count[filled]


def bins_of(probabilities: NDArray) -> NDArray[np.int64]:
    """Return the bin of each probability, 0 to `BINS` - 1."""
    return np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)


def in_words(kind: str, log_loss: Mapping[str, float]) -> str:
    """Describe in one sentence how probabilities were calibrated and how much the log loss improved.

    The arguments come from `polytag.evaluation.calibration.choose_calibration`.
    """
    if not log_loss:
        return "probabilities are not calibrated, because there are too few validation photos."
    if kind == "none":
        return f"probabilities are not calibrated: no curve clearly improved their log loss of {log_loss[kind]:.4f}."
    curve = {
        "temperature": "one slope for all labels",
        "platt": "a slope and a bias for each label",
        "isotonic": "a bent curve for each label",
    }[kind]
    return (
        f"probabilities were calibrated by {curve} ({kind}), which lowered the log loss "
        f"from {log_loss['none']:.4f} to {log_loss[kind]:.4f}."
    )

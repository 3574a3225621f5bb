"""95% intervals of scores and of differences between models, from the jackknife.

`benchmarks/coverage.py` shows by simulation how often each interval covers the true value.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

LEVEL = 0.95
"""Nominal coverage, the fraction of intervals that should contain the true value."""

DRAWS = 10_000
"""Number of random draws that determine the width of simultaneous intervals. The quantile varies by about 1%."""

FEW_BLOCKS = 50
"""Minimum number of blocks for estimating correlations. With fewer, scores count as independent, which is conservative.
"""

Interval = tuple[float, float]

FEW_GROUPS = 5
"""A difference between two parts of the photos is unknown if one of them has fewer groups than this."""

ROUNDING = 1e-10
"""Values below this are 0 but for rounding."""

UNDEFINED: Interval = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Spread:
    """Jackknife estimates for c scores.

    Attributes:
        bias: float64 (c,), the average amount by which a score on a sample like this one exceeds the true score.
        error: float64 (c,), the standard error, which includes the uncertainty of the bias.
        blocks: number of blocks.
        deviations: float64 (blocks, c), the contribution of each block. Their correlations are those of the scores.
    """

    bias: NDArray[np.float64]
    error: NDArray[np.float64]
    blocks: int
    deviations: NDArray[np.float64]


def spread(scores: ArrayLike, left_out: NDArray[np.float64]) -> Spread:
    """Estimate the bias and standard error of scores (c,) from their values without each block, float64 (b, c).

    If a score is undefined without a block, that block is ignored for the score.
    """
    values = np.asarray(left_out, np.float64)
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(defined, values, 0).sum(axis=0) / count
        deviations = _exactly(np.where(defined, mean - values, 0))
        bias = _exactly((count - 1) * (mean - scores))
        variance = (count - 1) / count * (deviations**2).sum(axis=0)
    error = np.where(count > 1, np.sqrt(variance + bias**2), np.nan)
    return Spread(np.where(count > 1, bias, np.nan), error, len(values), deviations)


def _exactly(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace what only rounding keeps from 0, such as the spread of equal values."""
    return np.where(np.abs(values) < ROUNDING, 0.0, values)


def interval(score: float, left_out: NDArray[np.float64], upper: float | None = 1.0, evidence: int = 0) -> Interval:
    """Return the interval of one score.

    It extends downward from the bias-corrected score and upward from the score itself, or the other way round, so it
    always contains the score. The quantile is Student's, because a few groups give a poor estimate of their spread. A
    score between 0 and 1 gets Wilson's interval (Wilson 1927), based on the number of independent photos that its
    standard error implies.

    Args:
        score: the score on all photos.
        left_out: float64 (b,), the score without each block.
        upper: 1 for a score between 0 and 1, ``None`` for a score without an upper bound. No score is negative.
        evidence: number of blocks that affect the score; 0 means all of them.

    Returns:
        The lower and upper ends; NaN if the score is undefined. With a single block, the interval is 0 to 1, or NaN if
        the score has no upper bound.
    """
    found = spread(score, left_out[:, None])
    evidence = min(evidence or found.blocks, found.blocks)
    if not np.isfinite(score):
        return UNDEFINED
    if evidence < 2 or not np.isfinite(found.error[0]):
        return UNDEFINED if upper is None else (0.0, upper)
    bias, error = float(found.bias[0]), float(found.error[0])
    quantile = _student(evidence - 1)
    low, high = sorted((score, score - bias))
    if upper is None:
        return max(0.0, low - quantile * error), high + quantile * error
    return _wilson(low, score, error, evidence, quantile)[0], _wilson(high, score, error, evidence, quantile)[1]


def _wilson(center: float, score: float, error: float, evidence: int, quantile: float) -> Interval:
    """Return Wilson's interval around a center between 0 and 1 for a score with this standard error."""
    center = min(max(center, 0.0), 1.0)
    photos = score * (1 - score) / error**2 if error > 0 and 0 < score < 1 else float(evidence)
    share = quantile**2 / photos
    middle = (center + share / 2) / (1 + share)
    half = quantile * np.sqrt(center * (1 - center) / photos + share / (4 * photos)) / (1 + share)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def simultaneous_intervals(
    differences: NDArray[np.float64],
    left_out: NDArray[np.float64],
    seed: int = 0,
    evidence: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Return intervals of differences between scores from 0 to 1 that all hold simultaneously at `LEVEL`.

    The quantile is that of the maximum of correlated Student variables (single-step max-T; Hothorn, Bretz &
    Westfall 2008, Simultaneous Inference in General Parametric Models).

    Args:
        differences: float64 (c,); NaN where undefined.
        left_out: float64 (b, c), the differences without each block.
        seed: seed of the draws that determine the quantile.
        evidence: int64 (c,), for differences between two parts of the photos, the number of groups in the part with
            fewer. ``None`` if all groups affect all differences.

    Returns:
        float64 (c, 2), the lower and upper ends; NaN where undefined.
    """
    found = spread(differences, left_out)
    usable = np.isfinite(differences) & np.isfinite(found.error)
    ends = np.full((len(differences), 2), np.nan)
    if found.blocks < 2 or not usable.any():
        return ends
    quantile = _largest(found.deviations[:, usable & (found.error > 0)], found.blocks, seed)
    centers = np.stack([differences, differences - found.bias])
    # A few photos that all differ by the same do not make the next one certain.
    error = np.where((found.error == 0) & (np.abs(differences) > ROUNDING), 1 / found.blocks, found.error)
    half = quantile * error
    if evidence is not None:
        half = error * [
            max(quantile, _student(int(groups) - 1, int(usable.sum()))) for groups in np.maximum(2, evidence)
        ]
        half[evidence < FEW_GROUPS] = 2.0
    ends[usable, 0] = (centers.min(axis=0) - half)[usable]
    ends[usable, 1] = (centers.max(axis=0) + half)[usable]
    return np.clip(ends, -1, 1)


def _largest(deviations: NDArray[np.float64], blocks: int, seed: int) -> float:
    """Return the quantile of the maximum absolute value of Student variables correlated like the deviations (b, c)."""
    if deviations.shape[1] < 2 or blocks < FEW_BLOCKS:
        return _student(blocks - 1, max(1, deviations.shape[1]))
    scaled = deviations / np.sqrt((deviations**2).sum(axis=0))
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    # Differences between m models span only m - 1 dimensions, no matter how many pairs there are.
    kept = values > 1e-9 * values[-1]
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((DRAWS, int(kept.sum()))) @ (vectors[:, kept] * np.sqrt(values[kept])).T
    scale = np.sqrt(rng.chisquare(blocks - 1, DRAWS) / (blocks - 1))
    return float(np.quantile(np.abs(normal).max(axis=1) / scale, LEVEL))


@cache
def _student(freedom: int, count: int = 1) -> float:
    """Return the two-sided quantile at `LEVEL` of the maximum of independent Student variables (Šidák 1967)."""
    return float(student.ppf((1 + LEVEL ** (1 / count)) / 2, freedom))

"""95 % intervals of scores and of differences between models, from the jackknife.

`benchmarks/coverage.py` shows by simulation how often each of them covers the truth.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

LEVEL = 0.95
"""Share of intervals that should cover the truth."""

DRAWS = 10_000
"""Draws that decide how wide simultaneous intervals must be. The quantile then varies by about 1 %."""

FEW_BLOCKS = 50
"""Blocks below which correlations cannot be estimated. Scores then count as independent, which is on the safe side."""

Interval = tuple[float, float]

UNDEFINED: Interval = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Spread:
    """What the jackknife says about c scores.

    Attributes:
        bias: float64 (c,): how much the score on these photos exceeds that on all photos, on average.
        error: float64 (c,): standard error, which includes the uncertainty of the bias.
        blocks: number of blocks.
        deviations: float64 (blocks, c): what each block contributes; their correlation is that of the scores.
    """

    bias: NDArray[np.float64]
    error: NDArray[np.float64]
    blocks: int
    deviations: NDArray[np.float64]


def spread(scores: ArrayLike, left_out: NDArray[np.float64]) -> Spread:
    """Bias and standard error of scores (c,) from their values without each block, float64 (b, c).

    Blocks whose removal leaves a score undefined say nothing about that score.
    """
    values = np.asarray(left_out, np.float64)
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(defined, values, 0).sum(axis=0) / count
        deviations = np.where(defined, mean - values, 0)
        bias = (count - 1) * (mean - scores)
        variance = (count - 1) / count * (deviations**2).sum(axis=0)
    error = np.where(count > 1, np.sqrt(variance + bias**2), np.nan)
    return Spread(np.where(count > 1, bias, np.nan), error, len(values), deviations)


def interval(score: float, left_out: NDArray[np.float64], upper: float | None = 1.0, evidence: int = 0) -> Interval:
    """The interval of one score.

    It reaches from the bias-corrected score down and from the score itself up (or the other way round), so it always
    contains the score. The quantile is Student's, because few groups say little about their own spread. A score
    between 0 and 1 gets Wilson's interval (Wilson 1927) for as many independent photos as its standard error implies.

    Args:
        score: the score on all photos.
        left_out: float64 (b,), the score without each block.
        upper: 1 for a score between 0 and 1, ``None`` for a score without an upper bound.
        evidence: number of blocks that bear on the score; all when 0.

    Returns:
        Lower and upper end; NaN if the score is undefined. A single block says nothing: the interval is then all of 0
        to 1, or NaN without an upper bound.
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
        return low - quantile * error, high + quantile * error
    return _wilson(low, score, error, evidence, quantile)[0], _wilson(high, score, error, evidence, quantile)[1]


def _wilson(center: float, score: float, error: float, evidence: int, quantile: float) -> Interval:
    """Wilson's interval around a center in 0 to 1 for a score with this standard error."""
    center = min(max(center, 0.0), 1.0)
    photos = score * (1 - score) / error**2 if error > 0 and 0 < score < 1 else float(evidence)
    share = quantile**2 / photos
    middle = (center + share / 2) / (1 + share)
    half = quantile * np.sqrt(center * (1 - center) / photos + share / (4 * photos)) / (1 + share)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def simultaneous_intervals(
    differences: NDArray[np.float64], left_out: NDArray[np.float64], seed: int = 0
) -> NDArray[np.float64]:
    """Intervals of several differences that hold all together with probability `LEVEL`.

    The quantile is that of the largest of the correlated Student variables (single-step max-T; Hothorn, Bretz &
    Westfall 2008, Simultaneous Inference in General Parametric Models).

    Args:
        differences: float64 (c,); NaN where undefined.
        left_out: float64 (b, c), the differences without each block.
        seed: seed of the draws that decide the quantile.

    Returns:
        float64 (c, 2), lower and upper ends; NaN where undefined.
    """
    found = spread(differences, left_out)
    usable = np.isfinite(differences) & np.isfinite(found.error)
    ends = np.full((len(differences), 2), np.nan)
    if found.blocks < 2 or not usable.any():
        return ends
    quantile = _largest(found.deviations[:, usable & (found.error > 0)], found.blocks, seed)
    centers = np.stack([differences, differences - found.bias])
    ends[usable, 0] = (centers.min(axis=0) - quantile * found.error)[usable]
    ends[usable, 1] = (centers.max(axis=0) + quantile * found.error)[usable]
    return ends


def _largest(deviations: NDArray[np.float64], blocks: int, seed: int) -> float:
    """Quantile of the largest absolute value of Student variables that correlate as deviations (b, c) do."""
    if deviations.shape[1] < 2 or blocks < FEW_BLOCKS:
        return _student(blocks - 1, max(1, deviations.shape[1]))
    scaled = deviations / np.sqrt((deviations**2).sum(axis=0))
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    # Differences between m models span m - 1 dimensions, however many pairs there are.
    kept = values > 1e-9 * values[-1]
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((DRAWS, int(kept.sum()))) @ (vectors[:, kept] * np.sqrt(values[kept])).T
    scale = np.sqrt(rng.chisquare(blocks - 1, DRAWS) / (blocks - 1))
    return float(np.quantile(np.abs(normal).max(axis=1) / scale, LEVEL))


@cache
def _student(freedom: int, count: int = 1) -> float:
    """Two-sided quantile at `LEVEL` of the largest of some independent Student variables (Šidák 1967)."""
    return float(student.ppf((1 + LEVEL ** (1 / count)) / 2, freedom))

"""Stratify groups of photos across the parts of a split.

Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011) deals out the groups, rarest label first. A local search
then moves single groups until the parts are as close to their targets as single moves can bring them. Both work on
arrays, and their time grows linearly with the number of groups: the search considers a sample of the groups only,
because after the first step only a few groups still have to move.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.data.splitting.refine import refine
from polytag.errors import DataError, counted

RATIOS = (0.70, 0.15, 0.15)


COMBINATIONS = 100
"""Maximum number of label combinations that the split balances in addition to each label. The most common ones are
used."""


def stratify(dataset: Dataset, rows: NDArray[np.int64], ratios: Sequence[float], seed: int) -> NDArray[np.int64]:
    """Deal groups of photos to the parts of a split so that each part gets its share of every label.

    Args:
        dataset: the photos.
        rows: int64 (n,), the photos to deal.
        ratios: the fraction of photos in each part. They sum to 1.
        seed: seed of the order in which groups with the same labels are dealt.

    Returns:
        The part of each photo as a number, int64 (n,).

    Raises:
        DataError: there are fewer groups than parts.
    """
    groups, member, sizes = np.unique(dataset.groups[rows], return_inverse=True, return_counts=True)
    if len(groups) < len(ratios):
        raise DataError(
            f"{counted(len(groups), 'different image')}: expected at least {len(ratios)}, one for each part"
        )
    present = dataset.targets[rows] == 1
    everything = np.column_stack([present, _commonest(present), np.ones(len(rows), bool)])
    counts = _counts(everything, member, sizes)
    rng = np.random.default_rng(seed)
    assigned = _deal(counts, np.asarray(ratios), rng)
    return refine(counts, len(dataset.labels), assigned, np.asarray(ratios), rng)[member]


def _commonest(present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the most common combinations of two or more labels each photo has, bool (n, combinations)."""
    # Rows of bits, seen as single values, sort much faster than rows of booleans.
    bits = np.packbits(present, axis=1)
    keys = bits.view(np.dtype((np.void, bits.shape[1]))).ravel()
    _, first, which, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    several = np.flatnonzero((present[first].sum(axis=1) > 1) & (count >= 1 / min(RATIOS)))
    chosen = several[np.argsort(-count[several], kind="stable")][:COMBINATIONS]
    # NumPy 2.0 keeps an axis of the inverse, unlike other versions.
    return which.ravel()[:, None] == chosen


def _counts(columns: NDArray[np.bool_], member: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray:
    """Count the photos of each group for which each column is true, unsigned (groups, columns)."""
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    by_group = columns[np.argsort(member, kind="stable")]
    return np.add.reduceat(by_group, starts, axis=0, dtype=np.min_scalar_type(int(sizes.max())))


def _deal(counts: NDArray, ratios: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Deal groups by iterative stratification, int64 (groups,).

    The column with the fewest groups left is dealt first, because later groups cannot make up for its errors. Each of
    its groups goes to the part that still wants most photos of that column, or else most photos. Groups without labels
    come last.

    Args:
        counts: unsigned (groups, columns), the number of photos per group with each label and each combination. The
            last column counts all photos.
        ratios: float64 (parts,), the fraction of photos in each part.
        rng: source of the order of groups with the same labels.
    """
    # Groups come in random order: if large groups came first, the largest part would get all of them.
    order = rng.permutation(len(counts))
    carried = np.ascontiguousarray((counts[order] > 0).T)
    left = carried.sum(axis=1)
    wanted = np.outer(ratios, counts.sum(axis=0, dtype=np.float64))
    waiting = np.ones(len(counts), bool)
    assigned = np.empty(len(counts), np.int64)
    parts = range(len(ratios))
    while waiting.any():
        # All groups have the last column, so it is chosen when no other column has groups left.
        column = int(np.argmin(np.where(left[:-1] > 0, left[:-1], len(counts) + 1))) if left[:-1].any() else -1
        places = np.flatnonzero(carried[column] & waiting)
        for group in order[places].tolist():
            part = max(parts, key=wanted[:, [column, -1]].tolist().__getitem__)
            wanted[part] -= counts[group]
            assigned[group] = part
        waiting[places] = False
        left -= carried[:, places].sum(axis=1)
    return assigned

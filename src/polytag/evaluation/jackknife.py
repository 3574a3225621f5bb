"""Jackknife: each score is recomputed without one block of photos at a time.

The jackknife estimates both the standard error of a score and its bias, and an interval needs both. Average precision
is biased upward when few photos show a label. A percentile bootstrap doubles that bias, so polytag does not use one.
`benchmarks/coverage.py` shows the difference.
"""

import numpy as np
from numpy.typing import NDArray

from polytag.evaluation.metrics import Judged, Sums, label_mean, ranked_positives, summed

BLOCKS = 250
"""Maximum number of blocks. More blocks take proportionally longer and hardly change an interval."""


POSITIVES = 2048
"""Number of positives that are counted for all blocks at once."""


def blocks_of(groups: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """Assign each photo to one of the blocks that the jackknife leaves out one after the other.

    A block is a group, because photos in one group are not independent evidence. If there are more than `BLOCKS`
    groups, they are distributed at random over that many blocks of almost equal size.

    Args:
        groups: int64 (n,), the group of each photo.
        seed: seed of the random assignment.

    Returns:
        int64 (n,), 0 to b - 1. The blocks depend only on the groups and the seed, so models can be compared by block.
    """
    names, member = np.unique(groups, return_inverse=True)
    if len(names) <= BLOCKS:
        return member
    return (np.random.default_rng(seed).permutation(len(names)) % BLOCKS)[member]


def left_out(
    targets: NDArray[np.int8],
    probabilities: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    blocks: NDArray[np.int64],
    judged: Judged = None,
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Compute all scores without each of b blocks in turn.

    Args:
        targets: int8 (n, k), 1, 0 or -1 for unknown.
        probabilities: float32 (n, k), 0 to 1.
        thresholds: float32 (k,).
        blocks: int64 (n,), as `blocks_of` returns them.
        judged: bool (k,), the labels that count in mAP and macro-F1; ``None`` means all labels.

    Returns:
        Each score of `polytag.evaluation.metrics.scores`, float64 (b,), and each of `label_scores`, float64 (b, k).
    """
    by_block = summed(targets, probabilities, thresholds, blocks)
    rest = Sums(by_block.photos.sum(axis=0) - by_block.photos, by_block.labels.sum(axis=0) - by_block.labels)
    n_blocks = len(by_block.photos)
    average_precision = np.stack(
        [
            _average_precision(targets[rows, j] == 1, probabilities[rows, j], blocks[rows], n_blocks)
            for j, rows in enumerate((targets >= 0).T)
        ],
        axis=1,
    )
    return (
        rest.scores(judged) | {"mean_average_precision": label_mean(average_precision, judged)},
        rest.label_scores() | {"average_precision": average_precision},
    )


def _average_precision(
    present: NDArray[np.bool_], probabilities: NDArray, blocks: NDArray[np.int64], n_blocks: int
) -> NDArray[np.float64]:
    """Return the average precision of one label without each block, float64 (b,); NaN if no positive is left.

    Only the precision at the positives is needed, so the cost is n + b × positives rather than b × n.
    """
    positives, rank, order, ranks = ranked_positives(present, probabilities)
    n_positives = len(positives)
    if not n_positives:
        return np.full(n_blocks, np.nan)
    hits = np.searchsorted(rank, rank, side="right")
    # Count, per block, the photos that a positive's rank includes. Enter each at its first such positive, then sum.
    first = np.searchsorted(rank, ranks, side="left")
    here, hit = blocks[order], present[order]
    total, n_left = np.zeros(n_blocks), n_positives - np.bincount(blocks[positives], minlength=n_blocks)
    block_rank, block_hits = (np.zeros((n_blocks, 1), np.int64) for _ in range(2))
    for start in range(0, n_positives, POSITIVES):
        end = min(start + POSITIVES, n_positives)
        some = (first >= start) & (first < end)
        shape = (n_blocks, end - start)
        ranked = block_rank + _counts(here[some], first[some] - start, shape).cumsum(axis=1)
        hitting = block_hits + _counts(here[some & hit], first[some & hit] - start, shape).cumsum(axis=1)
        left = np.ones(shape, bool)
        left[blocks[positives[start:end]], np.arange(end - start)] = False
        with np.errstate(invalid="ignore", divide="ignore"):
            total += np.where(left, (hits[start:end] - hitting) / (rank[start:end] - ranked), 0).sum(axis=1)
        block_rank, block_hits = ranked[:, -1:], hitting[:, -1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / n_left


def _counts(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Count the occurrences of each table cell."""
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)

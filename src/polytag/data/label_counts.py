"""Count how often labels occur together, and which sets of labels occur."""

import numpy as np
from numpy.typing import NDArray

CHUNK = 65_536
"""Number of photos counted at once. Below 2**24 photos, float32 counts are exact, so BLAS can do the counting."""


def cooccurrence(targets: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count photos for each pair of labels.

    Args:
        targets: int8 (n, k), 1 for present, 0 for absent, -1 for unknown.

    Returns:
        Two int64 arrays (k, k). The first counts the photos on which both labels are present. The second counts the
        photos on which the label of the row is present and the label of the column is known.
    """
    k = targets.shape[1]
    both, known = np.zeros((k, k), np.int64), np.zeros((k, k), np.int64)
    for start in range(0, len(targets), CHUNK):
        part = targets[start : start + CHUNK]
        present = (part == 1).astype(np.float32).T
        both += (present @ present.T).astype(np.int64)
        known += (present @ (part >= 0).astype(np.float32)).astype(np.int64)
    return both, known


def label_sets(present: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the distinct sets of labels.

    Args:
        present: bool (n, k), the labels of each photo.

    Returns:
        int64 (n,), the number of the label set of each photo, and int64 (m,), an example photo for each set. If two
        sets have the same size, the one with the earlier label at the first difference has the lower number.
    """
    n = len(present)
    if not n:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    packed = np.packbits(~present, axis=1)
    packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    # Sorting a few 64-bit integers per photo is many times faster than sorting rows.
    words = packed.view(">u8").astype(np.uint64)
    order = np.lexsort(words.T[::-1]) if words.shape[1] else np.arange(n)
    starts = np.append(True, (words[order[1:]] != words[order[:-1]]).any(axis=1))
    which = np.empty(n, np.int64)
    which[order] = np.cumsum(starts) - 1
    return which, order[starts]

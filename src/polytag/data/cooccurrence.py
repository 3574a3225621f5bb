"""How often labels occur together."""

import numpy as np
from numpy.typing import NDArray

CHUNK = 65_536
"""Photos counted at once. Below 2**24 photos float32 counts are exact, so BLAS can do the counting."""


def cooccurrence(targets: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count photos for each pair of labels.

    Args:
        targets: int8 (n, k): 1 present, 0 absent, -1 unknown.

    Returns:
        Two int64 arrays (k, k). The first counts the photos on which both labels are present. The second counts the
        photos on which the row's label is present and the column's label is known.
    """
    k = targets.shape[1]
    both, known = np.zeros((k, k), np.int64), np.zeros((k, k), np.int64)
    for start in range(0, len(targets), CHUNK):
        part = targets[start : start + CHUNK]
        present = (part == 1).astype(np.float32).T
        both += (present @ present.T).astype(np.int64)
        known += (present @ (part >= 0).astype(np.float32)).astype(np.int64)
    return both, known

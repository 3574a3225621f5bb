"""Groups of photos with the same content or linked by pairs."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from polytag.photos.content import content_hash
from polytag.photos.decode import Paths


def grouped(paths: Paths) -> NDArray[np.int64]:
    """Number photos so that files of identical content share a number, int64 (n,), from 0 upward."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(content_hash(path), len(numbers)) for path in paths], dtype=np.int64)


def connected(n: int, links: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Number n things so that any two that are linked, directly or through others, share a number.

    Returns:
        int64 (n,), numbered from 0 in order of first appearance.
    """
    leader = list(range(n))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = i = leader[leader[i]]
        return i

    for a, b in links:
        a, b = find(a), find(b)
        leader[max(a, b)] = min(a, b)
    # A leader is the first of its kind, so that the leaders in order are the order of appearance.
    return np.unique([find(i) for i in range(n)], return_inverse=True)[1].astype(np.int64)

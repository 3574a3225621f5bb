"""Group photos that have the same content or are linked by pairs."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from polytag.photos.content import content_hashes
from polytag.photos.decode import Paths


def grouped(paths: Paths) -> NDArray[np.int64]:
    """Number photos so that files with identical content share a number: int64 (n,), from 0 in order.

    Raises:
        OSError: a file cannot be read.
    """
    numbers: dict[str, int] = {}
    found = []
    for content in content_hashes(paths):
        if isinstance(content, OSError):
            raise content
        found.append(numbers.setdefault(content, len(numbers)))
    return np.array(found, dtype=np.int64)


def connected(n: int, links: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Number n things so that linked ones share a number, whether they are linked directly or through others.

    Returns:
        int64 (n,), numbered from 0 in order of first appearance.
    """
    return _joined(n, (), links, n)


def connected_up_to(
    n: int, always: Iterable[tuple[int, int]], links: Iterable[tuple[int, int]], most: int
) -> NDArray[np.int64]:
    """Number n things as `connected` does, but skip links that would join too many.

    Args:
        n: number of things.
        always: links that are never skipped.
        links: further links, the most important first.
        most: largest number of things that ``links`` may join.

    Returns:
        int64 (n,), numbered from 0 in order of first appearance.
    """
    return _joined(n, always, links, most)


def _joined(
    n: int, always: Iterable[tuple[int, int]], links: Iterable[tuple[int, int]], most: int
) -> NDArray[np.int64]:
    leader, size = list(range(n)), [1] * n

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = i = leader[leader[i]]
        return i

    for some, limit in ((always, n), (links, most)):
        for a, b in some:
            a, b = find(a), find(b)
            if a != b and size[a] + size[b] <= limit:
                first, second = min(a, b), max(a, b)
                leader[second] = first
                size[first] += size[second]
    # A leader is the first of its group, so that sorted leaders are in order of first appearance.
    return np.unique([find(i) for i in range(n)], return_inverse=True)[1].astype(np.int64)

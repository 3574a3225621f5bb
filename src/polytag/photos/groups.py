"""Group photos that have the same content or are linked in pairs."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from polytag.photos.content import content_hashes
from polytag.photos.decode import Paths


def grouped(paths: Paths, on_progress: Callable[[int], object] = lambda n: None) -> NDArray[np.int64]:
    """Assign a group number to each photo so that files with identical content share one.

    Args:
        paths: paths of the photo files.
        on_progress: called with the number of photos hashed since the last call.

    Returns:
        int64 (n,), numbered from 0 in order of first appearance.

    Raises:
        OSError: a file cannot be read.
    """
    numbers: dict[str, int] = {}
    found = []
    for content in content_hashes(paths, on_progress):
        if isinstance(content, OSError):
            raise content
        found.append(numbers.setdefault(content, len(numbers)))
    return np.array(found, dtype=np.int64)


def connected(n: int, links: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Assign a group number to each of n items so that directly or indirectly linked items share one.

    Returns:
        int64 (n,), numbered from 0 in order of first appearance.
    """
    return _joined(n, (), links, n)


def connected_up_to(
    n: int, always: Iterable[tuple[int, int]], links: Iterable[tuple[int, int]], most: int
) -> NDArray[np.int64]:
    """Assign group numbers to n items as `connected` does, but skip links that would make a group too large.

    Args:
        n: number of items.
        always: links that are never skipped.
        links: further links, most important first.
        most: maximum size of a group that ``links`` may create.

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
    # Each group's leader is its first member, so sorted leaders are in order of first appearance.
    return np.unique([find(i) for i in range(n)], return_inverse=True)[1].astype(np.int64)

"""Look up the neighbours of unit vectors in time that grows little faster than their number.

Vectors are divided into lists around centres that k-means finds, and each query is compared only with the vectors in
the lists of its nearest centres (IVF: Jégou, Douze & Schmid 2011). All queries of a list are compared at once, as a
matrix product, which keeps all cores busy and gives the same result every time.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

EXACT = 10_000
"""Maximum number of vectors that are all compared with each other."""

LISTS_PER_ROOT = 2
"""Number of lists for n vectors, as a multiple of √n. Finding the centre and searching the list then cost about the
same."""

PROBES = 16
"""Number of lists that each query is compared with."""

ROUNDS, SAMPLE = 5, 64
"""Rounds of k-means, and number of sampled vectors per list that it sees."""

PRODUCTS = 2**22
"""Maximum number of dot products that a thread computes at once."""

Hits = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Positions of queries, positions of vectors near them, and dot products."""


@contextmanager
def on_all_cores() -> Iterator[ThreadPoolExecutor]:
    """Open a pool of threads, one per core, that compute matrix products on one core each.

    Matrix products that use all cores themselves would wait for each other: lookups then take eight times as long.
    """
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        yield pool


class Index:
    """Unit vectors whose neighbours can be looked up.

    Args:
        vectors: float32 (n, d).
    """

    def __init__(self, vectors: NDArray[np.float32]):
        n = len(vectors)
        self._centres = np.zeros((1, vectors.shape[1]), np.float32)
        if n > EXACT:
            self._centres = _centres(vectors, int(LISTS_PER_ROOT * n**0.5))
        lists = _nearest(vectors, self._centres, 1)[:, 0]
        self._positions = np.argsort(lists, kind="stable")
        self._vectors = vectors[self._positions]
        self._starts = np.searchsorted(lists[self._positions], np.arange(len(self._centres) + 1))

    def neighbours(self, queries: NDArray[np.float32], start: int, least: float, most: int) -> Hits:
        """Return for each query up to ``most`` vectors whose dot product with it is at least ``least``.

        Args:
            queries: float32 (m, d). Each is a view of the photo with the vector in the same place after ``start``,
                which is not a neighbour.
            start: position of the first query's own vector.
            least: minimum dot product.
            most: maximum number of neighbours of a query.

        Returns:
            Positions of queries (plus ``start``) and of vectors, both int64, and dot products, float32.
        """
        probed = _nearest(queries, self._centres, min(PROBES, len(self._centres)))
        order = np.argsort(probed, axis=None, kind="stable")
        cuts = np.searchsorted(probed.ravel()[order], np.arange(len(self._centres) + 1))
        of_list = np.split(order // probed.shape[1], cuts[1:-1])

        def search(number: int) -> list[Hits]:
            first, end = self._starts[number : number + 2]
            rows = of_list[number]
            step = max(1, PRODUCTS // max(1, end - first))
            return [
                self._compare(queries, rows[at : at + step], first, end, start, least, most)
                for at in range(0, max(1, len(rows)), step)
            ]

        with on_all_cores() as pool:
            found = _joined(hits for several in pool.map(search, range(len(of_list))) for hits in several)
        return _best(found, most)

    def _compare(
        self,
        queries: NDArray[np.float32],
        rows: NDArray[np.int64],
        first: int,
        end: int,
        start: int,
        least: float,
        most: int,
    ) -> Hits:
        """Compare some queries with the vectors of a list."""
        products = queries[rows] @ self._vectors[first:end].T
        near = products >= least
        # One more, because the query's own vector may be among them.
        for row in np.flatnonzero(near.sum(axis=1) > most + 1):
            near[row] = False
            near[row, np.argpartition(products[row], -most - 1)[-most - 1 :]] = True
        at, column = np.nonzero(near)
        query, vector = start + rows[at], self._positions[first + column]
        others = query != vector
        return query[others], vector[others], products[at, column][others]


def _centres(vectors: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """Return the centres of clusters as unit vectors, float32 (number, d).

    The first centres are sampled vectors. Many similar photos therefore get many centres, so that no list is long.
    """
    rng = np.random.default_rng(0)
    sample = vectors[np.sort(rng.choice(len(vectors), min(len(vectors), SAMPLE * number), replace=False))]
    centres = sample[rng.choice(len(sample), number, replace=False)]
    for _ in range(ROUNDS):
        nearest = _nearest(sample, centres, 1)[:, 0]
        order = np.argsort(nearest, kind="stable")
        taken, starts = np.unique(nearest[order], return_index=True)
        sums = np.add.reduceat(sample[order], starts, axis=0)
        centres[taken] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return centres


def _nearest(vectors: NDArray[np.float32], centres: NDArray[np.float32], number: int) -> NDArray[np.int64]:
    """Return the nearest centres of each vector, int64 (n, number), the nearest first."""
    if number == len(centres):
        return np.tile(np.arange(number), (len(vectors), 1))

    def some(start: int) -> NDArray[np.int64]:
        products = vectors[start : start + step] @ centres.T
        rows, found = np.arange(len(products)), np.empty((len(products), number), np.int64)
        for place in range(number):  # For few of many centres, this is faster than sorting parts.
            found[:, place] = products.argmax(axis=1)
            products[rows, found[:, place]] = -np.inf
        return found

    step = max(1, PRODUCTS // len(centres))
    with on_all_cores() as pool:
        return np.concatenate(list(pool.map(some, range(0, len(vectors), step))))


def _joined(hits: Iterable[Hits]) -> Hits:
    query, vector, product = zip(*hits, strict=True)
    return np.concatenate(query), np.concatenate(vector), np.concatenate(product)


def _best(hits: Hits, most: int) -> Hits:
    """Keep the ``most`` nearest vectors of each query."""
    query, vector, product = hits
    order = np.lexsort((-product, query))
    query, vector, product = query[order], vector[order], product[order]
    starts = np.flatnonzero(np.append(True, np.diff(query) != 0)[: len(query)])
    rank = np.arange(len(query)) - np.repeat(starts, np.diff(np.append(starts, len(query))))
    kept = rank < most
    return query[kept], vector[kept], product[kept]

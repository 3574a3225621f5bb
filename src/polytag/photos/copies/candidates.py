"""Find candidates for photos that show the same picture: pairs whose coarse thumbnails or embeddings are similar.

Up to 50,000 photos, each photo is compared with all others. Larger collections are searched with an index, a graph of
neighbours (HNSW: Malkov & Yashunin 2018, from faiss), whose time grows almost linearly with the number of photos.
"""

import logging
import os
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.photos.copies.alignment import high_pass, pooled, zoomed

log = logging.getLogger(__name__)

ZOOMS = (1.0, 0.9, 0.8)
"""Central parts of a photo, as fractions of its side. They are compared with other whole photos to find crops."""

SIMILAR = 0.62
"""Minimum correlation between two coarse thumbnails that makes a pair a candidate."""

NEIGHBOUR = 0.85
"""Minimum cosine similarity between two embeddings that makes a pair a candidate."""

PER_PHOTO = 20
"""Maximum number of candidates per photo. In a burst of similar photos, the most similar pairs connect all photos."""

FLAT = 1.0
"""Minimum deviation of details in a coarse thumbnail, in grey levels (0 to 255). Blank photos resemble every photo."""

EXACT = 50_000
"""Maximum number of photos that are all compared with each other. More photos are searched with an index."""

LINKS, EXPLORED_BUILDING, EXPLORED_SEARCHING = 16, 40, 32
"""Links of each vector in the index, and number of vectors kept in view while building and searching. On 100,000 parts
of real photos, the index found 99% of the pairs that the exact search finds."""

BATCH = 256
"""Number of photos compared at once."""

CANDIDATE = np.dtype([("first", "<i8"), ("second", "<i8"), ("zoom", "<f4")])
"""A pair of photos: their positions, and the zoom at which the second resembles the first."""


class CandidateSearch:
    """Search for pairs of photos that may show the same picture.

    Args:
        thumbnails: thumbnails of all photos, see `Measurements`.
        rows: int64 (n,), positions of the photos to pair.
        embeddings: float32, used to find more candidates, a row for each thumbnail, or ``None``. Rows of photos without
            an embedding are NaN.
    """

    def __init__(
        self, thumbnails: NDArray[np.uint8], rows: NDArray[np.int64], embeddings: NDArray[np.float32] | None = None
    ):
        vectors, has_details = coarse(thumbnails, rows, False, 1.0)
        self.thumbnails, self.rows = thumbnails, rows[has_details]
        self.index = Index(vectors[has_details])
        self.alike = _alike(embeddings, self.rows)

    def pairs(self, mirrored: bool) -> NDArray[Any]:
        """Return the candidates, an array of `CANDIDATE`, ordered by position.

        Args:
            mirrored: whether the second photo of each pair is mirrored before the comparison.
        """
        n = len(self.rows)
        found = [(*self.alike, np.zeros(len(self.alike[0]), np.float32), np.ones(len(self.alike[0]), np.float32))]
        for zoom in ZOOMS:
            for start in range(0, n, BATCH):
                block = coarse(self.thumbnails, self.rows[start : start + BATCH], mirrored, zoom)[0]
                first, second, products = self.index.neighbours(block, start, SIMILAR)
                if zoom == 1:  # Without zoom, each pair is found twice.
                    first, second = np.minimum(first, second), np.maximum(first, second)
                found.append((first, second, products, np.full(len(first), zoom, np.float32)))
        first, second, products, zooms = (np.concatenate(column) for column in zip(*found, strict=True))
        keys = first * n + second
        order = np.lexsort((-products, keys))
        best = order[np.append(True, np.diff(keys[order]) != 0)[: len(order)]]
        candidates = np.empty(len(best), CANDIDATE)
        candidates["first"], candidates["second"] = self.rows[first[best]], self.rows[second[best]]
        candidates["zoom"] = zooms[best]
        return candidates


def _alike(
    embeddings: NDArray[np.float32] | None, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of positions in ``rows`` whose embeddings are neighbours."""
    pairs = [np.zeros((2, 0), np.int64)]
    if embeddings is not None:
        vectors = np.nan_to_num(embeddings[rows], copy=False)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        index = Index(vectors)
        for start in range(0, len(rows), BATCH):
            pairs.append(np.stack(index.neighbours(vectors[start : start + BATCH], start, NEIGHBOUR)[:2]))
    i, j = np.concatenate(pairs, axis=1)
    return np.minimum(i, j), np.maximum(i, j)


class Index:
    """Unit vectors whose neighbours can be looked up.

    Args:
        vectors: float32 (n, d).
    """

    def __init__(self, vectors: NDArray[np.float32]):
        self.vectors = vectors
        self.graph = _graph(vectors) if len(vectors) > EXACT else None
        if self.graph is not None:
            self.vectors = vectors[:0]

    def neighbours(
        self, queries: NDArray[np.float32], start: int, least: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return for each query up to `PER_PHOTO` vectors whose dot product with it is at least ``least``.

        Args:
            queries: float32 (m, d). Each is a view of the photo with the vector in the same place after ``start``,
                which is not a neighbour.
            start: position of the first query's own vector.
            least: minimum dot product.

        Returns:
            Positions of vectors and of queries (plus ``start``), both int64, and dot products.
        """
        if self.graph is not None:
            products, vectors = self.graph.search(queries, PER_PHOTO + 1)
            own = vectors == np.arange(start, start + len(queries))[:, None]
            query, place = np.nonzero((products >= least) & ~own)
            return vectors[query, place], start + query, products[query, place]
        products = queries @ self.vectors.T
        products[np.arange(len(products)), np.arange(start, start + len(products))] = -1
        near = products >= least
        for row in np.flatnonzero(near.sum(axis=1) > PER_PHOTO):
            near[row] = False
            near[row, np.argpartition(products[row], -PER_PHOTO)[-PER_PHOTO:]] = True
        query, vector = np.nonzero(near)
        return vector, start + query, products[query, vector]


def _graph(vectors: NDArray[np.float32]) -> Any:
    """Build the index of vectors, or return ``None`` if faiss is not installed."""
    if find_spec("faiss") is None:
        log.warning(
            "comparing %s photos with each other takes long: pip install 'polytag[duplicates]' adds an index",
            f"{len(vectors):,}",
        )
        return None
    import faiss

    half: Any = faiss.ScalarQuantizer.QT_fp16
    graph = faiss.IndexHNSWSQ(vectors.shape[1], half, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = EXPLORED_BUILDING, EXPLORED_SEARCHING
    # Several threads would link the vectors in random order, so that the same photos gave different graphs.
    faiss.omp_set_num_threads(1)
    graph.train(vectors[:1])
    graph.add(vectors)
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    return graph


def coarse(
    thumbnails: NDArray[np.uint8], rows: NDArray[np.int64], mirrored: bool, zoom: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return high-passed 16×16 thumbnails as unit vectors, float32 (len(rows), 256), and whether each has details."""
    vectors = np.empty((len(rows), 256), np.float32)
    has_details = np.empty(len(rows), bool)
    for start in range(0, len(rows), BATCH):
        block = thumbnails[rows[start : start + BATCH]].astype(np.float32)
        if mirrored:
            block = block[:, :, ::-1]
        details = high_pass(pooled(zoomed(block, zoom), 16), 2).reshape(len(block), -1)
        norms = np.linalg.norm(details, axis=1, keepdims=True)
        vectors[start : start + BATCH] = details / np.maximum(norms, 1e-6)
        has_details[start : start + BATCH] = norms[:, 0] >= FLAT * 16
    return vectors, has_details


def textured(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which photos have enough details to be compared, bool (n,), from their thumbnails, see `Measurements`."""
    return coarse(thumbnails, np.arange(len(thumbnails)), False, 1.0)[1]

"""Find candidates for photos that show the same picture: pairs whose descriptors or embeddings are similar.

A descriptor holds the coarse structure of a thumbnail, after its details were given about the same contrast everywhere.
Without that, a horizon or another strong edge would make all photos that have one candidates.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.photos.copies.alignment import blur_matrix, details, high_pass, pooled
from polytag.photos.copies.index import Index, on_all_cores
from polytag.photos.pixels import View

ZOOMS = (1.0, 0.9, 0.8)
"""Central parts of a photo, as fractions of its side. They are compared with other whole photos to find crops."""

SIDE, WAVES = 32, 8
"""Side of the thumbnail that a descriptor is made from, and number of its lowest frequencies in each direction."""

SIGMA = 2.0
"""Width of the filters of a descriptor, in pixels of its thumbnail."""

SIMILAR = 0.82
"""Minimum cosine similarity between two descriptors that makes a pair a candidate. Among 3,000 changed copies of real
photos, 99.9% reach it, and of pairs of different photos one in a million."""

NEIGHBOUR = 0.85
"""Minimum cosine similarity between two embeddings that makes a pair a candidate."""

PROJECTED, TOLERANCE = 128, 0.06
"""Length to which embeddings are projected for the search, and how far that may lower a similarity."""

PER_PHOTO = 20
"""Maximum number of candidates per photo. In a burst of similar photos, the most similar pairs connect all photos."""

FLAT = 1.0
"""Minimum deviation of details in a coarse thumbnail, in grey levels (0 to 255). Blank photos resemble every photo."""

BATCH = 256
"""Number of photos described at once."""

QUERIES = 8_192
"""Number of photos looked up at once. If all photos are alike, each takes 25 kB of memory meanwhile."""

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
        self,
        thumbnails: NDArray[np.uint8] | View,
        rows: NDArray[np.int64],
        embeddings: NDArray[np.float32] | View | None = None,
    ):
        has_details = [textured(thumbnails[some]) for some in _batches(rows, BATCH)]
        self.thumbnails, self.rows = thumbnails, rows[np.concatenate([np.zeros(0, bool), *has_details])]
        self.index = Index(descriptors(thumbnails, self.rows, 1.0))
        self.alike = _alike(embeddings, self.rows)

    def pairs(self, mirrored: bool) -> NDArray[Any]:
        """Return the candidates, an array of `CANDIDATE`, ordered by position.

        Args:
            mirrored: whether the second photo of each pair is mirrored before the comparison.
        """
        n = len(self.rows)
        found = [(*self.alike, np.zeros(len(self.alike[0]), np.float32), np.ones(len(self.alike[0]), np.float32))]
        for zoom in ZOOMS:
            for start in range(0, n, QUERIES):
                views = descriptors(self.thumbnails, self.rows[start : start + QUERIES], zoom)
                views = views * MIRRORED if mirrored else views
                second, first, products = self.index.neighbours(views, start, SIMILAR, PER_PHOTO)
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
    embeddings: NDArray[np.float32] | View | None, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of positions in ``rows`` whose embeddings are neighbours."""
    pairs = [np.zeros((2, 0), np.int64)]
    if embeddings is not None and len(rows):
        vectors = np.concatenate([_projected(embeddings[some]) for some in _batches(rows, BATCH)])
        index = Index(vectors)
        for start in range(0, len(rows), QUERIES):
            i, j, _ = index.neighbours(vectors[start : start + QUERIES], start, NEIGHBOUR - TOLERANCE, PER_PHOTO)
            near = [
                _cosines(embeddings, rows[i[at]], rows[j[at]]) >= NEIGHBOUR for at in _batches(np.arange(len(i)), BATCH)
            ]
            pairs.append(np.stack([i, j])[:, np.concatenate([np.zeros(0, bool), *near])])
    i, j = np.concatenate(pairs, axis=1)
    return np.minimum(i, j), np.maximum(i, j)


def _projected(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return embeddings as unit vectors of at most `PROJECTED` numbers, float32. NaN becomes 0."""
    vectors = np.nan_to_num(embeddings)
    width = vectors.shape[1]
    if width > PROJECTED:
        # A random projection changes cosines by a few hundredths (Johnson & Lindenstrauss 1984).
        vectors = vectors @ _projection(width)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


@lru_cache(maxsize=1)
def _projection(width: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((width, PROJECTED), np.float32)


def _cosines(embeddings: NDArray[np.float32] | View, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float32]:
    a, b = embeddings[i], embeddings[j]
    return (a * b).sum(axis=1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-9)


def descriptors(thumbnails: NDArray[np.uint8] | View, rows: NDArray[np.int64], zoom: float) -> NDArray[np.float32]:
    """Return descriptors of photos as unit vectors, float32 (len(rows), `WAVES` ** 2).

    Args:
        thumbnails: thumbnails of all photos, see `Measurements`.
        rows: positions of the photos to describe.
        zoom: side of the central part to describe, as a fraction of the photo's side.
    """
    waves = _waves()

    def some(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        small = pooled(thumbnails[rows].astype(np.float32), SIDE, zoom)
        found = (waves @ details(small, SIGMA) @ waves.T).reshape(len(rows), WAVES**2)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)

    with on_all_cores() as pool:
        return np.concatenate([np.zeros((0, WAVES**2), np.float32), *pool.map(some, _batches(rows, BATCH))])


@lru_cache
def _waves() -> NDArray[np.float32]:
    """Return the matrix that blurs a row of `SIDE` pixels and transforms it to its lowest frequencies (DCT)."""
    angles = np.outer(np.arange(WAVES), np.arange(SIDE) + 0.5) * np.pi / SIDE
    return (np.cos(angles) @ blur_matrix(SIDE, SIGMA)).astype(np.float32)


MIRRORED = np.tile(np.where(np.arange(WAVES) % 2, -1, 1), WAVES).astype(np.float32)
"""The descriptor of a mirrored photo is that of the photo times this, because odd waves change their sign."""


def textured(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which photos have enough details to be compared, bool (n,), from their thumbnails, see `Measurements`."""
    details = high_pass(pooled(thumbnails.astype(np.float32), 16), 2).reshape(len(thumbnails), -1)
    return np.linalg.norm(details, axis=1) >= FLAT * 16


def _batches(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))

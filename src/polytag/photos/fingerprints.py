"""Fingerprints recognize a photo and its copies when the photo itself is no longer there.

A fingerprint says for each of 32 × 32 squares of the photo whether it is lighter than its surroundings: one bit each,
`BYTES` bytes in all. Grey levels, colors and everything smaller than a square are gone, so no photo can be rebuilt.

The search is that of `polytag.photos.duplicates`, with a fingerprint in place of one of the two thumbnails: coarse
squares give candidates, then the photo is aligned with the fingerprint, and the agreement of their details decides.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from polytag.photos.alignment import align, blurred, details, pixel_centers, pooled, sampling_matrices, zoomed
from polytag.photos.duplicates import PER_PHOTO, ZOOMS, textured
from polytag.photos.measure import Measurements

SIDE = 32
"""Squares along each side of a photo. Thumbnails are a multiple of it."""

BYTES = SIDE * SIDE // 8
"""Size of a fingerprint."""

SIGMA = 2.0
"""Width of the surroundings of a square, in squares."""

CANDIDATE = 0.45
"""Least correlation of coarse details that makes a photo a candidate."""

STAGES = ((16, 5, 1.5), (SIDE, 4, SIGMA))
"""Stages of the alignment: side in pixels, Gauss-Newton steps, width of the high-pass in pixels."""

AGREEMENT = 0.85
"""Least agreement of details that makes a photo a copy, from -1 to 1."""

OVERLAP = 0.5
"""Least share of the fingerprint that the photo must cover."""

PHOTOS, KNOWN = 512, 4096
"""Photos and fingerprints that are compared at once."""


def fingerprints(measured: Measurements) -> NDArray[np.uint8]:
    """Compute the fingerprints of photos, uint8 (n, `BYTES`).

    Photos that cannot be read or have hardly any details get zeros: they cannot be recognized.
    """
    found = np.zeros((len(measured.paths), BYTES), np.uint8)
    for start in range(0, len(found), PHOTOS):
        thumbnails = measured.thumbnails[start : start + PHOTOS]
        rows = np.flatnonzero(measured.readable[start : start + PHOTOS] & textured(thumbnails))
        lighter = details(pooled(thumbnails[rows].astype(np.float32), SIDE), SIGMA) > 0
        found[start + rows] = np.packbits(lighter.reshape(len(rows), SIDE * SIDE), axis=1)
    return found


def recognized(measured: Measurements, known: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which photos are copies of photos whose fingerprints are known: re-encoded, resized, cropped or mirrored.

    Args:
        measured: the n photos' measurements.
        known: uint8 (m, `BYTES`), as `fingerprints` returns them.

    Returns:
        bool (n,). False for photos that cannot be read or have hardly any details.
    """
    found = np.zeros(len(measured.paths), bool)
    known = known[known.any(axis=1)]
    for start in range(0, len(found), PHOTOS):
        thumbnails = measured.thumbnails[start : start + PHOTOS]
        rows = np.flatnonzero(measured.readable[start : start + PHOTOS] & textured(thumbnails))
        photos = thumbnails[rows].astype(np.float32)
        for oriented in (photos, photos[:, :, ::-1]):
            views = [_coarse(details(pooled(zoomed(oriented, zoom), SIDE), SIGMA)) for zoom in ZOOMS]
            small = pooled(oriented, SIDE)
            for first in range(0, len(known), KNOWN):
                signs = _signs(known[first : first + KNOWN])
                for some in _batches(_candidates(views, signs)):
                    copies = _agreement(small[some[0]], signs[some[1]], some[2]) >= AGREEMENT
                    found[start + rows[some[0][copies]]] = True
    return found


def _signs(known: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Fingerprints as 1 where lighter and -1 where not, float32 (m, SIDE, SIDE)."""
    return np.unpackbits(known, axis=1).reshape(-1, SIDE, SIDE).astype(np.float32) * 2 - 1


def _coarse(details: NDArray[np.float32]) -> NDArray[np.float32]:
    """Details as 16×16 unit vectors, float32 (n, 256)."""
    vectors = pooled(details, 16).reshape(len(details), 256)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


Candidates = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Pairs of a photo and a fingerprint, and the scale at which they resemble each other."""


def _candidates(views: list[NDArray[np.float32]], signs: NDArray[np.float32]) -> Candidates:
    """The most similar fingerprints of each photo, each with its best scale.

    Args:
        views: coarse details of the photos at each of `ZOOMS`, each float32 (n, 256).
        signs: the fingerprints, float32 (m, SIDE, SIDE).
    """
    whole = _coarse(signs)
    best, scale = views[0] @ whole.T, np.ones((len(views[0]), len(signs)), np.float32)
    for i, zoom in enumerate(ZOOMS[1:], start=1):
        for products, at in ((views[i] @ whole.T, zoom), (views[0] @ _coarse(zoomed(signs, zoom)).T, 1 / zoom)):
            better = products > best
            best[better], scale[better] = products[better], at
    if len(signs) > PER_PHOTO:
        least = np.partition(best, -PER_PHOTO, axis=1)[:, -PER_PHOTO, None]
        best[best < least] = -1
    photos, prints = np.nonzero(best >= CANDIDATE)
    return photos, prints, scale[photos, prints]


def _batches(candidates: Candidates, size: int = 256) -> Iterator[Candidates]:
    photos, prints, scales = candidates
    for start in range(0, len(photos), size):
        some = slice(start, start + size)
        yield photos[some], prints[some], scales[some]


def _agreement(
    photos: NDArray[np.float32], signs: NDArray[np.float32], scales: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Agreement of photos with fingerprints after alignment, float32 (n,), from -1 to 1.

    The agreement is the share of details whose sign agrees, weighted by how strong they are, less the share whose sign
    does not. It is -1 where the two overlap too little.

    Args:
        photos: grey photos, float32 (n, SIDE, SIDE).
        signs: the fingerprints to compare them with, float32 (n, SIDE, SIDE).
        scales: where the alignment starts, float32 (n,).
    """
    fit = np.zeros((len(photos), 4), np.float32)
    fit[:, 0] = fit[:, 2] = scales - 1
    for side, steps, sigma in STAGES:
        # Blurred, because steps between squares have no slope to follow.
        fit = align(blurred(pooled(signs, side), 0.7), details(pooled(photos, side), sigma), fit, steps)
    centers = pixel_centers(SIDE)
    across, inside_x = sampling_matrices(centers, fit[:, 0], fit[:, 1])
    down, inside_y = sampling_matrices(centers, fit[:, 2], fit[:, 3])
    mask = inside_y[:, :, None] & inside_x[:, None, :]
    laid = details((down @ photos @ across.transpose(0, 2, 1)).astype(np.float32), SIGMA) * mask
    agreement = (laid * signs).sum(axis=(1, 2)) / np.maximum(np.abs(laid).sum(axis=(1, 2)), 1e-6)
    return np.where(mask.mean(axis=(1, 2)) >= OVERLAP, agreement, -1)

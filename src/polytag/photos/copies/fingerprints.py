"""Compute fingerprints that recognize a photo and its copies when the photo itself is no longer available.

A fingerprint records for each of 32 × 32 squares of the photo whether the square is lighter than its surroundings. This
takes one bit per square, or `BYTES` bytes in total. Grey levels, colors and all details smaller than a square are lost,
so photos cannot be reconstructed.

The search works as in `duplicates`, with a fingerprint in place of one of the two thumbnails. Coarse squares give
candidates. Each candidate photo is then aligned with the fingerprint, and it counts as a copy if their
details agree well enough.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from polytag.photos.copies.alignment import align, blurred, details, pixel_centers, pooled, sampling_matrices, zoomed
from polytag.photos.copies.candidates import PER_PHOTO, ZOOMS, textured
from polytag.photos.measure import Measurements

SIDE = 32
"""Number of squares along each side of a photo. The side of a thumbnail is a multiple of this number."""

BYTES = SIDE * SIDE // 8
"""Size of a fingerprint in bytes."""

SIGMA = 2.0
"""Width of the surroundings that each square is compared with, in squares."""

CANDIDATE = 0.45
"""Minimum correlation of coarse details that makes a photo a candidate."""

STAGES = ((16, 5, 1.5), (SIDE, 4, SIGMA))
"""Stages of the alignment: side in pixels, number of Gauss-Newton steps, width of the high-pass filter in pixels."""

AGREEMENT = 0.85
"""Minimum agreement of details that makes a photo a copy, from -1 to 1."""

OVERLAP = 0.5
"""Minimum fraction of the fingerprint that the photo must cover."""

PHOTOS, KNOWN = 512, 4096
"""Number of photos and number of fingerprints that are compared at once."""


def fingerprints(measured: Measurements) -> NDArray[np.uint8]:
    """Compute the fingerprints of photos, uint8 (n, `BYTES`).

    Photos that cannot be read or have hardly any details get zeros, which means that they cannot be recognized.
    """
    found = np.zeros((len(measured.paths), BYTES), np.uint8)
    for start in range(0, len(found), PHOTOS):
        thumbnails = measured.thumbnails[start : start + PHOTOS]
        rows = np.flatnonzero(measured.readable[start : start + PHOTOS] & textured(thumbnails))
        lighter = details(pooled(thumbnails[rows].astype(np.float32), SIDE), SIGMA) > 0
        found[start + rows] = np.packbits(lighter.reshape(len(rows), SIDE * SIDE), axis=1)
    return found


def recognized(measured: Measurements, known: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which photos are copies of the photos with these fingerprints.

    Copies may be re-encoded, resized, cropped or mirrored.

    Args:
        measured: the measurements of n photos.
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
    """Return fingerprints as 1 for lighter squares and -1 for others, float32 (m, SIDE, SIDE)."""
    return np.unpackbits(known, axis=1).reshape(-1, SIDE, SIDE).astype(np.float32) * 2 - 1


def _coarse(details: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reduce details to 16×16 squares and return them as unit vectors, float32 (n, 256)."""
    vectors = pooled(details, 16).reshape(len(details), 256)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


Candidates = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Pairs of a photo and a fingerprint, each with the scale at which the two are most similar."""


def _candidates(views: list[NDArray[np.float32]], signs: NDArray[np.float32]) -> Candidates:
    """Return the most similar fingerprints for each photo, each with the best scale.

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
    """Return the agreement of photos with fingerprints after alignment, float32 (n,), from -1 to 1.

    The agreement is the fraction of details with the same sign minus the fraction with a different sign, both weighted
    by the strength of the details. The agreement is -1 if a photo and its fingerprint overlap too little.

    Args:
        photos: grey photos, float32 (n, SIDE, SIDE).
        signs: the fingerprint to compare with each photo, float32 (n, SIDE, SIDE).
        scales: initial scales for the alignment, float32 (n,).
    """
    fit = np.zeros((len(photos), 4), np.float32)
    fit[:, 0] = fit[:, 2] = scales - 1
    for side, steps, sigma in STAGES:
        # The squares are blurred because the alignment needs gradients, and steps between squares have none.
        fit = align(blurred(pooled(signs, side), 0.7), details(pooled(photos, side), sigma), fit, steps)
    centers = pixel_centers(SIDE)
    across, inside_x = sampling_matrices(centers, fit[:, 0], fit[:, 1])
    down, inside_y = sampling_matrices(centers, fit[:, 2], fit[:, 3])
    mask = inside_y[:, :, None] & inside_x[:, None, :]
    laid = details((down @ photos @ across.transpose(0, 2, 1)).astype(np.float32), SIGMA) * mask
    agreement = (laid * signs).sum(axis=(1, 2)) / np.maximum(np.abs(laid).sum(axis=(1, 2)), 1e-6)
    return np.where(mask.mean(axis=(1, 2)) >= OVERLAP, agreement, -1)

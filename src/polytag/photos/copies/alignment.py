"""Align small grey photos and compare their details where they overlap.

Shift and scale are fitted by the Gauss-Newton method, with free gain and offset (Lucas & Kanade 1981; Evangelidis &
Psarakis 2008).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def pooled(photos: NDArray, side: int, zoom: float = 1.0) -> NDArray[np.float32]:
    """Reduce photos (n, s, s) to means over squares, float32 (n, side, side). s must be a multiple of ``side``.

    Args:
        photos: the photos.
        side: width and height of the result.
        zoom: side of the central part to reduce, as a fraction of the photo's side.
    """
    means = _means(photos.shape[1], side, zoom)
    return (means @ photos @ means.T).astype(np.float32, copy=False)


@lru_cache
def _means(side: int, smaller: int, zoom: float) -> NDArray[np.float32]:
    means = np.repeat(np.eye(smaller, dtype=np.float32), side // smaller, axis=1) * np.float32(smaller / side)
    return means if zoom == 1 else (means @ _zoom(side, zoom)).astype(np.float32)


def zoomed(photos: NDArray[np.float32], zoom: float) -> NDArray[np.float32]:
    """Crop the centre of each photo and enlarge it to full size, float32 (n, side, side).

    ``zoom`` is the side of the crop as a fraction of the photo's side.
    """
    if zoom == 1:
        return photos
    sampling = _zoom(photos.shape[1], zoom)
    return (sampling @ photos @ sampling.T).astype(np.float32, copy=False)


@lru_cache
def _zoom(side: int, zoom: float) -> NDArray[np.float32]:
    return sampling_matrices(pixel_centers(side), np.array([zoom - 1], np.float32), np.zeros(1, np.float32))[0][0]


def blurred(photos: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Apply a Gaussian blur as two matrix products. For small photos, this is much faster than a sliding filter."""
    kernel = blur_matrix(photos.shape[1], sigma)
    return (kernel @ photos @ kernel.T).astype(np.float32, copy=False)


@lru_cache
def blur_matrix(side: int, sigma: float) -> NDArray[np.float32]:
    """Return the matrix that blurs a row of pixels, float32 (side, side)."""
    distance = np.subtract.outer(np.arange(side), np.arange(side))
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def high_pass(photos: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Subtract a blurred copy from each photo. ``sigma`` is the width of the blur in pixels."""
    return photos - blurred(photos, sigma)


def align(
    left: NDArray[np.float32], right: NDArray[np.float32], fit: NDArray[np.float32], steps: int
) -> NDArray[np.float32]:
    """Refine the position of each left photo on the corresponding right photo.

    Args:
        left, right: float32 (n, side, side), the photos.
        fit: float32 (n, 4), the initial positions. The point x of the left photo, from -1 to 1, lies at
            (1 + fit[0]) x + fit[1] on the right photo. fit[2] and fit[3] do the same for y.
        steps: number of Gauss-Newton steps.
    """
    n, side, _ = left.shape
    points = pixel_centers(side)
    slope_y, slope_x = (slope.astype(np.float32) for slope in np.gradient(right, 2 / side, axis=(1, 2)))
    for _ in range(steps):
        across, inside_x = sampling_matrices(points, fit[:, 0], fit[:, 1])
        down, inside_y = sampling_matrices(points, fit[:, 2], fit[:, 3])
        across = across.transpose(0, 2, 1)
        laid, by_x, by_y = (down @ image @ across for image in (right, slope_x, slope_y))
        mask = (inside_y[:, :, None] & inside_x[:, None, :]).astype(np.float32)
        # The gain and offset of the grey levels are fitted too, so that brightened copies also match.
        columns = np.stack([laid, np.ones_like(laid), by_x * points, by_x, by_y * points[:, None], by_y], axis=1)
        columns = (columns * mask[:, None]).reshape(n, 6, -1)
        normal = columns @ columns.transpose(0, 2, 1)
        normal += np.eye(6, dtype=np.float32) * (1e-3 * np.einsum("nii->ni", normal) + 1e-6)[:, :, None]
        solution = np.linalg.solve(normal, columns @ (left * mask).reshape(n, -1, 1))[..., 0]
        gain = np.where(np.abs(solution[:, :1]) < 0.1, 0.1, solution[:, :1])
        fit = np.clip(fit + np.clip(solution[:, 2:] / gain, -0.1, 0.1), -0.5, 0.5)
    return fit.astype(np.float32)


def pixel_centers(side: int) -> NDArray[np.float32]:
    """Return the coordinates of pixel centers, from -1 to 1."""
    return ((np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1).astype(np.float32)


def sampling_matrices(
    points: NDArray[np.float32], scale: NDArray[np.float32], shift: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return matrices that sample a row at (1 + scale) x + shift, and whether each sample is inside the photo.

    Returns:
        float32 (n, side, side) and bool (n, side).
    """
    side = len(points)
    places = (1 + scale[:, None]) * points + shift[:, None]
    position = np.clip((places + 1) * side / 2 - 0.5, 0, side - 1)
    # Triangular weights that extend one pixel to each side give linear interpolation.
    weights = np.maximum(0, 1 - np.abs(position[:, :, None] - np.arange(side, dtype=np.float32)))
    return weights.astype(np.float32), np.abs(places) <= 1


def correlation(
    left: NDArray[np.float32], right: NDArray[np.float32], fit: NDArray[np.float32], sigma: float, margin: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Correlate the details where two photos overlap, and measure which fraction of each is visible in the other.

    Args:
        left, right, fit: as in `align`.
        sigma: width of the high-pass, in pixels.
        margin: number of pixels at each edge of the left photo to ignore.
    """
    side = left.shape[1]
    across, inside_x = sampling_matrices(pixel_centers(side), fit[:, 0], fit[:, 1])
    down, inside_y = sampling_matrices(pixel_centers(side), fit[:, 2], fit[:, 3])
    mask = inside_y[:, :, None] & inside_x[:, None, :]
    mask[:, :margin] = mask[:, side - margin :] = mask[:, :, :margin] = mask[:, :, side - margin :] = False
    laid = (down @ right @ across.transpose(0, 2, 1)).astype(np.float32)
    a, b = details(left, sigma) * mask, details(laid, sigma) * mask
    norms = np.sqrt((a * a).sum(axis=(1, 2)) * (b * b).sum(axis=(1, 2)))
    shown_a = mask.mean(axis=(1, 2))
    shown_b = np.ones_like(shown_a)
    for scale, shift in ((fit[:, 0], fit[:, 1]), (fit[:, 2], fit[:, 3])):
        shown_b *= (np.minimum(shift + 1 + scale, 1) - np.maximum(shift - 1 - scale, -1)) / 2
    return (a * b).sum(axis=(1, 2)) / np.maximum(norms, 1e-6), shown_a, shown_b


def details(photos: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Apply a high-pass filter and normalize locally, so that a frame does not outweigh the picture."""
    details = high_pass(photos, sigma)
    energy = np.maximum(blurred(details**2, 2 * sigma), 0)
    floor = 0.1 * details.std(axis=(1, 2), keepdims=True) + 1
    return details / (np.sqrt(energy) + floor)

"""Measure photos: header, brightness, sharpness, histograms and a thumbnail, all from one decoding pass.

The audit, `explore` and `split` use these measurements. Photos are decoded at the models' default input size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from polytag.errors import ImageError
from polytag.photos.array_cache import ArrayCache
from polytag.photos.decode import PIXEL_PATH, Header, Paths, examine
from polytag.photos.pixels import View, fill, pixel_cache

SIDE = 224
"""Before they are measured, photos are resized to a square of this many pixels per side, the models' default size."""

THUMBNAIL = 64
"""Side of the greyscale thumbnails used to find near-duplicates, in pixels."""

BINS = 64
"""Number of bins in each histogram. Each bin covers four values."""

PERCENTILES = (1, 5, 50, 95, 99)
"""Percentiles of brightness that are recorded."""

GREY_TOLERANCE = 12
"""Maximum difference between two channels in a grey photo. JPEG rounding and a faint tint can cause differences this
large. The limit is lower for low-contrast photos, whose colours would be equally faint."""

BLUR = 9
"""Width of the blur used to measure sharpness, in pixels."""

VERSION = 3
"""Version of the measurements. Increase it when the same pixels give different measurements."""

RECORD = np.dtype(
    [
        ("format", "U8"),
        ("mode", "U8"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("frames", "<i4"),
        ("orientation", "<i2"),
        ("alpha", "?"),
        ("deep", "?"),
        ("grey", "?"),
        ("brightness", "<f4"),
        ("contrast", "<f4"),
        ("sharpness", "<f4"),
        *((f"p{percentile:02}", "<f4") for percentile in PERCENTILES),
        *((colour, "<f4") for colour in ("red", "green", "blue")),
        *((f"{colour}_square", "<f4") for colour in ("red", "green", "blue")),
        ("histogram", "<u2", (3, BINS)),
    ]
)
"""The measurements of one photo, without its thumbnail.

The fields format, mode, width, height, frames, orientation, alpha and deep are those of `Header`. The other fields are:

- grey: whether the photo has no colour.
- brightness, contrast: mean and standard deviation of the luma, 0 to 1.
- p01 … p99: percentiles of the luma, 0 to 1.
- sharpness: 0 (blurred) to 1.
- red, green, blue and red_square, green_square, blue_square: means of each channel and of its square, 0 to 1.
- histogram: histograms of red, green and blue.
"""

STORED = np.dtype([*RECORD.descr, ("thumbnail", "u1", (THUMBNAIL, THUMBNAIL))])
"""What the cache stores of one photo: a `RECORD`, and the photo in greyscale, squashed to a square."""


@dataclass(frozen=True)
class Measurements:
    """The measurements of n photos, in their order.

    Attributes:
        paths: paths of the photo files.
        readable: bool (n,), whether the photo can be decoded.
        errors: error for each photo that cannot be decoded, by path.
        records: array (n,) of dtype `RECORD`. Photos that cannot be decoded have zeros.
        thumbnails: greyscale thumbnails, each squashed to a square: uint8 (n, 64, 64). They stay in the cache until
            they are indexed, because they take most of the memory.
    """

    paths: Paths
    readable: NDArray[np.bool_]
    errors: Mapping[str, ImageError]
    records: NDArray[Any]
    thumbnails: View

    @property
    def histograms(self) -> NDArray[np.uint16]:
        """Number of pixels per channel and bin, measured on the photo squashed to 224×224: uint16 (n, 3, 64)."""
        return self.records["histogram"]


def measure(
    paths: Paths, on_progress: Callable[[int], object] = lambda n: None, keep_pixels: bool = False
) -> Measurements:
    """Measure photos, reusing cached measurements of identical content.

    Args:
        paths: paths of the photo files. Files may be missing or damaged.
        on_progress: called with the number of photos that became ready since the last call.
        keep_pixels: whether to store the pixels of newly measured photos in the cache, 150 kB for each. Training at the
            default size reads them there and need not decode the photos again.

    Raises:
        MachineError: the computer failed, not a photo.
    """
    cache = ArrayCache(f"measurements-{VERSION}-{PIXEL_PATH}", (), STORED)

    def one(path: str) -> tuple[NDArray, ...]:
        header, pixels = examine(path, SIDE)
        record = measurements_of(header, pixels)
        return (pixels, record) if keep_pixels else (record,)

    rows, errors = fill([pixel_cache(SIDE), cache] if keep_pixels else [cache], paths, one, on_progress)
    records = cache.read(rows, fields=list(RECORD.names or ()))
    return Measurements(paths, rows >= 0, errors, records, View(cache, rows, field="thumbnail"))


def measurements_of(header: Header, pixels: NDArray[np.uint8]) -> NDArray[Any]:
    """Measure one photo from its header and its pixels, uint8 (224, 224, 3). Return a record of dtype `STORED`."""
    photo = Image.fromarray(pixels)
    grey = np.asarray(photo.convert("L"))
    # Photos smaller than SIDE were enlarged, and sharpness can only be measured at a photo's own size.
    side = min(SIDE, header.width, header.height)
    own = grey if side == SIDE else np.asarray(Image.fromarray(grey).resize((side, side), Image.Resampling.BOX))
    levels = np.arange(256) / 255
    counts = np.array(photo.histogram()).reshape(3, 256)
    luma = np.bincount(grey.ravel(), minlength=256)
    share = luma / grey.size
    mean = float(share @ levels)
    percentiles = np.searchsorted(np.cumsum(share), np.array(PERCENTILES) / 100 - 1e-9) / 255

    record = np.zeros((), STORED)
    for name in ("format", "mode", "width", "height", "frames", "orientation", "alpha", "deep"):
        record[name] = getattr(header, name)
    red, green, blue = photo.split()
    tolerance = GREY_TOLERANCE * min(1, 2 * (percentiles[-1] - percentiles[0]))
    record["grey"] = max(ImageChops.difference(green, other).getextrema()[1] for other in (red, blue)) <= tolerance
    record["brightness"] = mean
    record["contrast"] = np.sqrt(max(0.0, float(share @ levels**2) - mean**2))
    record["sharpness"] = sharpness(own)
    for percentile, value in zip(PERCENTILES, percentiles, strict=True):
        record[f"p{percentile:02}"] = value
    for colour, histogram in zip(("red", "green", "blue"), counts / grey.size, strict=True):
        record[colour] = histogram @ levels
        record[f"{colour}_square"] = histogram @ levels**2
    record["histogram"] = counts.reshape(3, BINS, -1).sum(axis=2)
    record["thumbnail"] = Image.fromarray(grey).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return record


def sharpness(grey: NDArray[np.uint8]) -> float:
    """Measure sharpness, from 0 (blurred) to 1, by how much a photo changes when it is blurred again.

    The result is 1 minus the measure by Crete, Dolmiere, Ladret & Nicolas 2007, "The blur effect". It compares a photo
    with a blurred copy of itself, so a subject with little detail is not mistaken for a blurred one. There are two
    differences from the paper. Differences are squared, so that one sharp outline outweighs a soft sky. Differences of
    one grey level are ignored, because their noise would make a blurred photo seem sharp.

    Args:
        grey: uint8 (height, width).
    """
    losses = []
    for lines in (grey, grey.T):
        photo = np.ascontiguousarray(lines, np.float32)
        before = photo[1:] - photo[:-1]
        before *= before
        # Adjacent lines of a running mean over BLUR lines differ by 1 / BLUR of the difference of lines BLUR apart.
        padded = np.pad(photo, ((BLUR // 2, BLUR // 2), (0, 0)), "symmetric")
        after = padded[BLUR:] - padded[:-BLUR]
        after *= after
        after /= np.float32(BLUR**2)
        total = float(before.sum())
        before *= before > 1
        losses.append(float(np.maximum(before - after, 0).sum()) / total if total else 1.0)
    return min(losses)

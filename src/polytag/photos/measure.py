"""Measure photos: header, brightness, sharpness, histograms and a thumbnail, all from one decoding.

The audit and `explore` use the measurements. Photos are decoded at the size that models see by default, and the pixels
are kept in the cache that training reads, so that training need not decode them again.
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
from polytag.photos.pixels import fill, pixel_cache

SIDE = 224
"""Side at which photos are measured, in pixels: the default input size of models."""

THUMBNAIL = 64
"""Side of the grey thumbnails that find near-duplicates, in pixels."""

BINS = 64
"""Bins of each histogram, of four values each."""

PERCENTILES = (1, 5, 50, 95, 99)
"""Percentiles of the brightness that are recorded."""

GREY_TOLERANCE = 12
"""Largest difference of two channels in a grey photo: JPEG's rounding and a faint tint reach that far. The limit is
lower for photos of little contrast, whose colours would be as faint."""

BLUR = 9
"""Width in pixels of the blur that measures sharpness."""

VERSION = 3
"""Version of the measurements. Increase it when the same pixels give other measurements."""

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
        ("thumbnail", "u1", (THUMBNAIL, THUMBNAIL)),
    ]
)
"""The measurements of one photo, as the cache keeps them.

format, mode, width, height, frames, orientation, alpha and deep are those of `Header`; grey: no colours at all. From 0
to 1: brightness (mean luma), contrast (its standard deviation), p01 … p99 (its percentiles), sharpness, the means of
red, green and blue and of their squares. histogram: of red, green and blue. thumbnail: grey, squashed to a square.
"""


@dataclass(frozen=True)
class Measurements:
    """The measurements of n photos, in their order.

    Attributes:
        paths: the photo files.
        readable: bool (n,): whether the photo can be decoded.
        errors: the error of each photo that cannot be decoded, by its path.
        records: array (n,) of dtype `RECORD`; zeros for photos that cannot be decoded.
    """

    paths: Paths
    readable: NDArray[np.bool_]
    errors: Mapping[str, ImageError]
    records: NDArray[Any]

    @property
    def histograms(self) -> NDArray[np.uint16]:
        """Number of pixels in each channel and bin, of the photo squashed to 224×224: uint16 (n, 3, 64)."""
        return self.records["histogram"]

    @property
    def thumbnails(self) -> NDArray[np.uint8]:
        """Grey thumbnails, each squashed to a square: uint8 (n, 64, 64)."""
        return self.records["thumbnail"]


def measure(paths: Paths, on_progress: Callable[[int], object] = lambda n: None) -> Measurements:
    """Measure photos, or recall the measurements of the same content from the cache.

    Args:
        paths: the photo files; they may be missing or damaged.
        on_progress: called with the number of photos that became ready.

    Raises:
        MachineError: the computer failed, not a photo.
    """
    cache = ArrayCache(f"measurements-{VERSION}-{PIXEL_PATH}", (), RECORD)

    def one(path: str) -> tuple[NDArray, NDArray]:
        header, pixels = examine(path, SIDE)
        return pixels, measurements_of(header, pixels)

    rows, errors = fill([pixel_cache(SIDE), cache], paths, one, on_progress)
    known = rows >= 0
    records = cache.read(np.maximum(rows, 0)) if known.any() else np.zeros(len(paths), RECORD)
    records[~known] = np.zeros((), RECORD)
    return Measurements(paths, rows >= 0, errors, records)


def measurements_of(header: Header, pixels: NDArray[np.uint8]) -> NDArray[Any]:
    """Measure one photo, given its header and its pixels, uint8 (224, 224, 3); returns a record of dtype `RECORD`."""
    photo = Image.fromarray(pixels)
    grey = np.asarray(photo.convert("L"))
    # A smaller photo was enlarged, so that only its own size shows whether it is sharp.
    side = min(SIDE, header.width, header.height)
    own = grey if side == SIDE else np.asarray(Image.fromarray(grey).resize((side, side), Image.Resampling.BOX))
    levels = np.arange(256) / 255
    counts = np.array(photo.histogram()).reshape(3, 256)
    luma = np.bincount(grey.ravel(), minlength=256)
    share = luma / grey.size
    mean = float(share @ levels)
    percentiles = np.searchsorted(np.cumsum(share), np.array(PERCENTILES) / 100 - 1e-9) / 255

    record = np.zeros((), RECORD)
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

    This is 1 minus the measure of Crete, Dolmiere, Ladret & Nicolas 2007, "The blur effect". It compares a photo
    with itself, so that a calm subject is not taken for a blurred one. Unlike the paper, it squares the
    differences, so that one sharp outline outweighs a soft sky, and ignores differences of one grey level, whose
    noise would make a blurred photo seem sharp.

    Args:
        grey: uint8 (height, width).
    """
    losses = []
    for lines in (grey, grey.T):
        photo = np.ascontiguousarray(lines, np.float32)
        before = photo[1:] - photo[:-1]
        before *= before
        # A running mean over BLUR lines turns the differences of lines into one difference over BLUR lines.
        padded = np.pad(photo, ((BLUR // 2, BLUR // 2), (0, 0)), "symmetric")
        after = padded[BLUR:] - padded[:-BLUR]
        after *= after
        after /= np.float32(BLUR**2)
        total = float(before.sum())
        before *= before > 1
        losses.append(float(np.maximum(before - after, 0).sum()) / total if total else 1.0)
    return min(losses)

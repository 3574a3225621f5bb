"""What can be measured on each photo, in one reading: header, brightness, sharpness, histograms, a thumbnail.

The audit judges photos by it and `explore` draws it. A photo is decoded for it once, at the side that
models see, and its pixels go into the cache that training reads, so neither decodes it again.
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
"""Side at which photos are measured, in pixels: the one at which models see them by default."""

THUMBNAIL = 64
"""Side of the grey thumbnails by which near-duplicates are found, in pixels."""

BINS = 64
PERCENTILES = (1, 5, 50, 95, 99)

GREY_TOLERANCE = 12
"""Largest difference of channels at which a photo counts as grey, as JPEG's rounding and a faint tint reach that far;
less where it spans few grey levels, and its colours would be as faint."""

BLUR = 9
"""Pixels over which a photo is blurred once more to see how sharp it was."""

VERSION = 3
"""Raised whenever the same pixels would give other measurements."""

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
"""One photo's measurements, as the cache keeps them.

Format, mode, width and height (upright, in pixels), frames, orientation (EXIF, 1 to 8), alpha, deep (more than 8 bits a
channel), grey (no colour anywhere); from 0 to 1 brightness (mean luma), contrast (its standard deviation), p01 … p99
(its percentiles), sharpness, the means of red, green and blue and those of their squares; histograms of red, green and
blue, and a grey thumbnail squashed to a square.
"""


@dataclass(frozen=True)
class Measurements:
    """What was measured on photos, in their order.

    Attributes:
        paths: the n files.
        readable: bool (n,).
        errors: the error of each path that cannot be read.
        records: of dtype `RECORD` (n,); zeros where a photo cannot be read.
    """

    paths: Paths
    readable: NDArray[np.bool_]
    errors: Mapping[str, ImageError]
    records: NDArray[Any]

    @property
    def histograms(self) -> NDArray[np.uint16]:
        """Pixels per channel and bin of four values, of the photo squashed to 224×224: uint16 (n, 3, 64)."""
        return self.records["histogram"]

    @property
    def thumbnails(self) -> NDArray[np.uint8]:
        """Grey thumbnails, each squashed to a square: uint8 (n, 64, 64)."""
        return self.records["thumbnail"]


def measure(paths: Paths, on_progress: Callable[[int], object] = lambda n: None) -> Measurements:
    """Measure photos, or recall what was measured before on the same content.

    Args:
        paths: the photos' files; they may be missing or broken.
        on_progress: called with the number of photos that became ready.
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
    """One record, of dtype `RECORD` (), of a photo's header and its pixels, uint8 (224, 224, 3)."""
    photo = Image.fromarray(pixels)
    grey = np.asarray(photo.convert("L"))
    # A photo smaller than that was enlarged: its own size tells whether it is sharp.
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
    """How sharp a photo is, from 0 (blurred) to 1: how much it loses when it is blurred once more.

    The measure of Crete, Dolmiere, Ladret & Nicolas 2007, "The blur effect", subtracted from 1. It
    compares a photo with itself, so that a calm motif is not taken for a blurred one. Unlike theirs it
    squares the differences, so that one sharp silhouette outweighs a soft sky, and takes those of one grey
    level for noise, which would make a blurred photo seem sharp.

    Args:
        grey: uint8 (height, width).
    """
    losses = []
    for lines in (grey, grey.T):
        photo = np.ascontiguousarray(lines, np.float32)
        before = photo[1:] - photo[:-1]
        before *= before
        # What a running mean over BLUR lines leaves of their differences is one difference over BLUR lines.
        padded = np.pad(photo, ((BLUR // 2, BLUR // 2), (0, 0)), "symmetric")
        after = padded[BLUR:] - padded[:-BLUR]
        after *= after
        after /= np.float32(BLUR**2)
        total = float(before.sum())
        before *= before > 1
        losses.append(float(np.maximum(before - after, 0).sum()) / total if total else 1.0)
    return min(losses)

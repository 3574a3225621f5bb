"""The one pixel path: bytes of a photo → RGB uint8, for training, evaluation, tagging and serving.

Nothing else in polytag decodes or resizes a photo that a model sees. Scaling and normalisation are
layers inside the models, so what is made here is all that a model needs.
"""

import io
import os
import struct
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from polytag.errors import ImageError

Paths = Sequence[str] | NDArray[np.str_]
"""Files of photos."""

PIXEL_PATH = 1
"""Raised whenever the same bytes would give other pixels, so that no cache survives the change."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Red, green and blue of ImageNet's photos on the scale from 0 to 1, by which its models' input is normalised."""

MAX_PIXELS = 80_000_000
"""Largest photo that is decoded, in pixels; above it lie decompression bombs."""

LARGE_PIXELS = 20_000_000
"""A photo beyond this is decoded while no other such photo is: with transparency it takes 14 bytes for each pixel, so
many at once, which strangers could send, would fill the memory. JPEGs are decoded at a fraction of their size, unless
they come in several scans, as progressive ones do: of those, all coefficients are held."""

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""File name endings that make a table's cell look like a photo (lower case)."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""What Pillow may decode. Its rarer formats stay shut: EPS, for one, would start Ghostscript on a stranger's bytes."""

HEIF_BRANDS = tuple(
    b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
)
"""What follows the first four bytes of HEIC and AVIF files (ISO/IEC 23008-12)."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings each EXIF orientation upright."""

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

# Pillow warns of many pixels, where our own limit is lower, and of EXIF data, which may be damaged harmlessly.
warnings.filterwarnings("ignore", module=r"PIL\.")

_large = threading.Lock()


@dataclass(frozen=True)
class Header:
    """What a photo's file says of itself, before any of polytag's own conversions.

    Attributes:
        format: Pillow's name of the file's format, such as "JPEG".
        mode: Pillow's name of its pixels' mode, such as "RGB", "P" (palette) or "CMYK".
        width, height: in pixels, upright.
        frames: pictures in the file; more than 1 in an animation or a document of several pages.
        orientation: EXIF's, 1 (upright) to 8.
        alpha: whether anything may be transparent.
        deep: whether a channel has more than 8 bits.
    """

    format: str
    mode: str
    width: int
    height: int
    frames: int
    orientation: int
    alpha: bool
    deep: bool


def decode(source: bytes | str | os.PathLike[str], size: int | None = None) -> NDArray[np.uint8]:
    """Decode one photo to RGB.

    The whole photo is kept: with ``size`` it is squashed to a square rather than cropped, since a
    label may stand at the very edge. Transparent parts become white, 16-bit greys are scaled to
    8 bits, EXIF rotation is applied, and of an animation the first frame is taken.

    Args:
        source: the bytes of the file, or its path.
        size: side of the square to return, in pixels; ``None`` keeps the photo's own size.

    Returns:
        uint8 array (height, width, 3) in RGB order, 0 to 255; (size, size, 3) with ``size``.

    Raises:
        ImageError: the photo cannot be read; the message is the reason in a few words.
    """
    with _opened(source) as image:
        return _pixels(image, size)


def examine(source: bytes | str | os.PathLike[str], size: int) -> tuple[Header, NDArray[np.uint8]]:
    """What a photo's header says, and what `decode` returns, in one reading.

    Raises:
        ImageError: as `decode`.
    """
    with _opened(source) as image:
        kind, mode, alpha = str(image.format), image.mode, _has_alpha(image)
        # Pillow narrows 16-bit colour while decoding; only the decoder's own arguments tell.
        deep = mode[0] in "IF" or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        width, height = image.size
        pixels = _pixels(image, size)
        orientation = _orientation(image)
        if orientation in SIDEWAYS:
            width, height = height, width
        return Header(kind, mode, width, height, _frames(image), orientation, alpha, deep), pixels


@contextmanager
def _opened(source: bytes | str | os.PathLike[str]) -> Iterator[Image.Image]:
    """The photo's file, opened; whatever goes wrong with it, here or in the block, is an `ImageError`."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(f"{width}×{height} pixels are over the limit of {MAX_PIXELS:,}", "too large")
            with _large if width * height > LARGE_PIXELS and not _in_one_scan(image) else nullcontext():
                yield image
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("there is no such file", "missing") from None
    except Image.DecompressionBombError:
        raise ImageError(f"more pixels than the limit of {MAX_PIXELS:,}", "too large") from None
    except Image.UnidentifiedImageError:
        if not (source if isinstance(source, bytes) else os.path.getsize(source)):
            raise ImageError("the file is empty", "empty") from None
        if _is_heif(source):
            raise ImageError("a HEIC or AVIF photo, which is not read: save it as JPEG", "not an image") from None
        reason = "not an image (expected JPEG, PNG, WebP, BMP, GIF or TIFF)"
        raise ImageError(reason, "not an image") from None
    except Exception as error:
        # On damaged files Pillow's decoders raise whatever their parsing stumbles over: struct.error, KeyError, …
        # An operating system's error carries the file's name; its bare reason does not.
        if getattr(error, "errno", None) is not None:
            raise ImageError(getattr(error, "strerror", None) or str(error), "missing") from None
        words = " ".join(str(error).split())
        problem = "truncated" if "truncated" in words.lower() else "damaged"
        raise ImageError(f"damaged: {words if ' ' in words else 'undecodable'}", problem) from None


def _in_one_scan(image: Image.Image) -> bool:
    """Whether a photo that was just opened is a JPEG whose first scan has all of its channels, for good."""
    if not isinstance(image, JpegImageFile) or "progressive" in image.info:
        return False
    # Pillow has read on to the end of the scan's header: its length, the number of its channels, two bytes for each.
    assert image.fp is not None
    length, here = 6 + 2 * image.layers, image.fp.tell()
    image.fp.seek(here - length)
    header = image.fp.read(3)
    image.fp.seek(here)
    return header == struct.pack(">HB", length, image.layers)


def _is_heif(source: bytes | str | os.PathLike[str]) -> bool:
    """Whether a file is of the kind that phones take: it is a photo, and deserves a better word than "not an image"."""
    if isinstance(source, bytes):
        head = source[:12]
    else:
        with open(source, "rb") as file:
            head = file.read(12)
    return head[4:] in HEIF_BRANDS


def _pixels(image: Image.Image, size: int | None) -> NDArray[np.uint8]:
    if size is not None:
        # JPEG can be decoded at 1/2, 1/4 or 1/8 scale: never smaller than asked for.
        image.draft("RGB", (size, size))
    rgb = _to_rgb(image)
    if size is not None:
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    turn = TURNS.get(_orientation(image))
    return np.array(rgb if turn is None else rgb.transpose(turn))


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _frames(image: Image.Image) -> int:
    """Pictures in an animation or document; a JPEG's extra pictures are previews and depth maps, so it has one."""
    if image.format in ("JPEG", "MPO"):
        return 1
    try:
        return getattr(image, "n_frames", 1)
    except Exception:
        return 1  # damage behind the first picture, which is all that is ever used


def _to_rgb(image: Image.Image) -> Image.Image:
    if _has_alpha(image) and image.mode != "I;16":
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if image.mode.startswith("I;16"):
        wide = np.asarray(image, dtype=np.uint32)
        return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image))
        # 32-bit modes carry no range of their own: floats are 0–1 or 0–255, integers 0–255 or 0–65535.
        top = 65535.0 if values.max() > 255 else 1.0 if image.mode == "F" and values.max() <= 1 else 255.0
        grey = np.empty(values.shape, np.uint8)
        for one, row in zip(grey, values, strict=True):  # the whole photo in 64 bits would fill the memory
            one[:] = (np.clip(row.astype(np.float64) / top, 0, 1) * 255).round()
        return Image.fromarray(grey).convert("RGB")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of a decoded photo; damaged EXIF data does not spoil the pixels, and counts as upright."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


Decoded = TypeVar("Decoded")


def decode_many(
    sources: Iterable[bytes | str | os.PathLike[str]], size: int, threads: int | None = None
) -> Iterator[NDArray[np.uint8] | ImageError]:
    """Decode photos on several threads, in order, holding only a few at a time.

    Yields:
        For each source the array that `decode` returns, or the `ImageError` that it raises.
    """
    return each(lambda source: decode(source, size), sources, threads)


def each(
    work: Callable[[Any], Decoded], sources: Iterable[Any], threads: int | None = None
) -> Iterator[Decoded | ImageError]:
    """What ``work`` returns for each source, or the `ImageError` that it raises; in order, a few at a time."""

    def one(source: Any) -> Decoded | ImageError:
        try:
            return work(source)
        except ImageError as error:
            return error

    threads = threads or os.cpu_count() or 1
    remaining = iter(sources)
    with ThreadPoolExecutor(threads) as pool:
        try:
            waiting = deque(pool.submit(one, source) for source in islice(remaining, 16 * threads))
            while waiting:
                done = waiting.popleft()
                for source in islice(remaining, 1):
                    waiting.append(pool.submit(one, source))
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)  # whoever stops need not wait for what nobody will read

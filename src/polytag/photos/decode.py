"""Decode photo files to RGB uint8 arrays for training, evaluation, tagging and serving.

This is the only module that decodes or resizes photos for a model. Rescaling and normalization are layers inside the
models, so that training and serving cannot differ.
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
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from polytag.errors import ImageError, printable, raise_machine_error
from polytag.photos import kinds
from polytag.photos.metadata import JPEG, PNG, without_metadata

Paths = Sequence[str] | NDArray[np.str_]
"""Paths of photo files."""

PIXEL_PATH = 1
"""Version of the decoded pixels, which caches and bundles depend on. Increase it when decoding the same bytes gives
different pixels."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's red, green and blue channels (0 to 1), used to normalize model input."""

MAX_PIXELS = 80_000_000
"""Maximum size of a photo in pixels. The limit protects against decompression bombs."""

LARGE_PIXELS = 20_000_000
"""Photos with more pixels are decoded one at a time, because each may need 14 bytes per pixel (with transparency).
Otherwise, a few uploads could exhaust memory. Single-scan JPEGs are exempt because they are decoded at a fraction of
their size. Progressive JPEGs are not, because the decoder holds all their coefficients."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""Formats that Pillow may decode. Rarer formats are disabled; EPS, for example, would run Ghostscript on an upload."""

EXPECTED = "expected JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC or AVIF"

ADVICE = {
    kinds.RAW: "a camera raw file: export it as JPEG or TIFF",
    kinds.JPEG_XL: "a JPEG XL photo, which is not supported: save it as JPEG or PNG",
    kinds.VIDEO: "a video, not a photo",
}
"""Error messages for files that cannot be decoded as photos, by kind of file."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns a photo with each EXIF orientation upright."""

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

# Pillow warns about large photos, although our own limit is lower, and about damaged EXIF data, which do not matter.
warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")

MOST_FRAMES = 2**31 - 1
"""Maximum number of frames that the measurements can store."""

_large = threading.Lock()


@dataclass(frozen=True)
class Header:
    """The properties of a photo file before any conversion.

    Attributes:
        format: Pillow's name for the file format, such as "JPEG".
        mode: Pillow's name for the pixel mode, such as "RGB", "P" (palette) or "CMYK".
        width: width of the upright photo, in pixels.
        height: height of the upright photo, in pixels.
        frames: number of images in the file; more than 1 in animations and multi-page documents.
        orientation: EXIF orientation, 1 (upright) to 8. Always 1 for HEIC, because its decoder rotates the photo.
        alpha: whether the photo may have transparent parts.
        deep: whether any channel has more than 8 bits.
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

    ``size`` squashes the whole photo to a square. Nothing is cropped, because a label may refer to something at the
    edge. Transparent parts become white, 16-bit greyscale is scaled to 8 bits, the EXIF orientation is applied, and
    only the first frame of an animation is used.

    Args:
        source: the bytes or the path of the file.
        size: side of the returned square, in pixels. ``None`` keeps the photo's own size.

    Returns:
        uint8 array (height, width, 3) in RGB order, 0 to 255. With ``size``, the shape is (size, size, 3).

    Raises:
        ImageError: the photo cannot be decoded. The message is a short reason.
        MachineError: the computer failed: it is out of memory or open files, or its disk fails.
    """
    with _opened(source) as image:
        return _pixels(image, size)


def examine(source: bytes | str | os.PathLike[str], size: int) -> tuple[Header, NDArray[np.uint8]]:
    """Return a photo's header and its decoded pixels, as `decode` returns them, reading the file once.

    Raises:
        ImageError: the photo cannot be decoded.
        MachineError: the computer failed, not the photo.
    """
    with _opened(source) as image:
        kind, mode, alpha = str(image.format), image.mode, _has_alpha(image)
        # Pillow reduces 16-bit colour while decoding. Only the decoder's arguments reveal the original depth.
        deep = mode[0] in "IF" or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        deep = deep or (kind == "HEIF" and image.info.get("bit_depth", 8) > 8)
        width, height = image.size
        pixels = _pixels(image, size)
        orientation = _orientation(image)
        if orientation in SIDEWAYS:
            width, height = height, width
        return Header(kind, mode, width, height, _frames(image), orientation, alpha, deep), pixels


def n_pixels(content: bytes) -> int:
    """Return width × height from a photo's header without decoding it, or 0 if the header cannot be read."""
    try:
        with _identified(content) as image:
            return image.width * image.height
    except Exception as error:  # `decode` reports what is wrong.
        raise_machine_error(error)
        return 0


@contextmanager
def _opened(source: bytes | str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open a photo file. Turn any error, here or in the ``with`` block, into an `ImageError` or a `MachineError`."""
    try:
        with _identified(source) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(f"{width}×{height} pixels are over the limit of {MAX_PIXELS:,}", "too large")
            if isinstance(image, TiffImageFile) and image.fp is not None and kinds.is_raw(image.fp):
                raise ImageError(ADVICE[kinds.RAW], "not an image")
            with _large if width * height > LARGE_PIXELS and not _in_one_scan(image) else nullcontext():
                yield image
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("there is no such file", "missing") from None
    except Image.DecompressionBombError:
        raise ImageError(f"more pixels than the limit of {MAX_PIXELS:,}", "too large") from None
    except Image.UnidentifiedImageError:
        raise _unidentified(source) from None
    except Exception as error:
        raise_machine_error(error)
        # On damaged files, Pillow's decoders raise whatever error their parsing runs into: struct.error, KeyError, …
        # An error from the operating system includes the file name, so only its reason is used.
        if getattr(error, "errno", None) is not None:
            raise ImageError(getattr(error, "strerror", None) or str(error), "missing") from None
        words = " ".join(str(error).split())
        problem = "truncated" if "truncated" in words.lower() else "damaged"
        raise ImageError(f"damaged: {printable(words) if ' ' in words else 'undecodable'}", problem) from None


def _identified(source: bytes | str | os.PathLike[str]) -> Image.Image:
    """Open a photo with the decoder that recognizes it. Metadata that the decoder cannot read are ignored."""
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except (Image.DecompressionBombError, OSError) as error:
        if not isinstance(error, Image.UnidentifiedImageError):
            raise
        failure: Exception = error
    except Exception as error:
        raise_machine_error(error)
        failure = error
    head = _head(source)
    if head[4:8] == b"ftyp" and head[8:] in kinds.HEIF_BRANDS:
        _register_heif()
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=("HEIF",))
    if not head.startswith((PNG, JPEG)):
        raise failure
    bare = without_metadata(source if isinstance(source, bytes) else Path(source).read_bytes())
    return Image.open(io.BytesIO(bare), formats=FORMATS)


def _head(source: bytes | str | os.PathLike[str]) -> bytes:
    if isinstance(source, bytes):
        return source[:12]
    with open(source, "rb") as file:
        return file.read(12)


@cache
def _register_heif() -> None:
    # The import is delayed because most datasets have no HEIC files, and every command would wait for libheif.
    import pillow_heif

    pillow_heif.register_heif_opener()


def _unidentified(source: bytes | str | os.PathLike[str]) -> ImageError:
    """Return an error that says why no decoder recognizes the file."""
    kind = kinds.kind_of_content(source)
    if kind == kinds.EMPTY:
        return ImageError("the file is empty", "empty")
    if kind == kinds.PHOTO:
        return ImageError("damaged: the header cannot be read", "damaged")
    return ImageError(ADVICE.get(kind, f"not an image ({EXPECTED})"), "not an image")


def _in_one_scan(image: Image.Image) -> bool:
    """Return whether a newly opened photo is a JPEG whose only scan has all channels."""
    if not isinstance(image, JpegImageFile) or "progressive" in image.info:
        return False
    # Pillow has read to the end of the scan header: its length, the channel count, and two bytes per channel.
    assert image.fp is not None
    length, here = 6 + 2 * image.layers, image.fp.tell()
    image.fp.seek(here - length)
    header = image.fp.read(3)
    image.fp.seek(here)
    return header == struct.pack(">HB", length, image.layers)


def _pixels(image: Image.Image, size: int | None) -> NDArray[np.uint8]:
    if size is not None and isinstance(image, JpegImageFile):
        # JPEGs can be decoded at 1/2, 1/4 or 1/8 scale, never smaller than the requested size. HEIC files would
        # return the thumbnail that some program stored in them.
        image.draft("RGB", (size, size))
    rgb = _to_rgb(image)
    if size is not None:
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    turn = TURNS.get(_orientation(image))
    return np.array(rgb if turn is None else rgb.transpose(turn))


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _frames(image: Image.Image) -> int:
    """Return the number of images in an animation or document. Extra images in a JPEG are previews or depth maps."""
    if image.format in ("JPEG", "MPO"):
        return 1
    try:
        return min(int(getattr(image, "n_frames", 1)), MOST_FRAMES)
    except Exception as error:
        raise_machine_error(error)
        return 1  # The file is damaged after the first image, which is the only one used.


def _to_rgb(image: Image.Image) -> Image.Image:
    if _has_alpha(image) and image.mode != "I;16":
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if image.mode.startswith("I;16"):
        wide = np.asarray(image, dtype=np.uint32)
        return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image))
        # 32-bit modes have no fixed range: floats are 0–1 or 0–255, integers 0–255 or 0–65535.
        top = 65535.0 if values.max() > 255 else 1.0 if image.mode == "F" and values.max() <= 1 else 255.0
        grey = np.empty(values.shape, np.uint8)
        for one, row in zip(grey, values, strict=True):  # Converting the whole photo in 64 bits could exhaust memory.
            one[:] = (np.clip(row.astype(np.float64) / top, 0, 1) * 255).round()
        return Image.fromarray(grey).convert("RGB")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a decoded photo, 1 to 8, or 1 if the EXIF data are damaged or invalid."""
    if image.format == "HEIF":
        return 1  # libheif has already applied HEIF's own rotation, which EXIF only repeats.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:
        raise_machine_error(error)
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


Decoded = TypeVar("Decoded")


def decode_many(
    sources: Iterable[bytes | str | os.PathLike[str]], size: int, threads: int | None = None
) -> Iterator[NDArray[np.uint8] | ImageError]:
    """Decode photos on several threads, in order, with only a few in memory at a time.

    Yields:
        For each source, the array that `decode` returns or the `ImageError` that it raises.

    Raises:
        MachineError: the computer failed, not a photo. No further photos are decoded.
    """
    return each(lambda source: decode(source, size), sources, threads)


def each(
    work: Callable[[Any], Decoded], sources: Iterable[Any], threads: int | None = None
) -> Iterator[Decoded | ImageError]:
    """Call ``work`` on each source on several threads, in order, with only a few results in memory at a time.

    Yields:
        For each source, the result of ``work`` or the `ImageError` that it raises. Other errors are raised.
    """

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
            pool.shutdown(cancel_futures=True)  # Do not wait for results that nobody will read.

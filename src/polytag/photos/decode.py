"""Decode photos: from the bytes of a file to RGB uint8, for training, evaluation, tagging and serving.

This is the only place where polytag decodes or resizes a photo that a model sees. Scaling and normalisation are
layers inside the models, so that training and serving cannot differ.
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
"""Version of the decoded pixels. Increase it when the same bytes give other pixels: caches and bundles depend on it."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's red, green and blue (0 to 1), which normalise its models' input."""

MAX_PIXELS = 80_000_000
"""Size of the largest photo that is decoded, in pixels. It protects against decompression bombs."""

LARGE_PIXELS = 20_000_000
"""Photos with more pixels are decoded one at a time, since each may need 14 bytes per pixel (with transparency).
Otherwise a few uploads could fill the memory. Exempt are JPEGs in one scan, which are decoded at a fraction of their
size; in progressive ones all coefficients are held."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""Formats that Pillow may decode. Its rarer formats stay closed: EPS, for one, would run Ghostscript on an upload."""

EXPECTED = "expected JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC or AVIF"

ADVICE = {
    kinds.RAW: "a camera raw file: export it as JPEG or TIFF",
    kinds.JPEG_XL: "a JPEG XL photo, which cannot be decoded: save it as JPEG or PNG",
    kinds.VIDEO: "a video, not a photo",
}
"""What to say of files that are no photos that can be decoded, by their kind."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns each EXIF orientation upright."""

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

# Pillow warns of many pixels, where our own limit is lower, and of damaged EXIF data, which do not matter here.
warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")

MOST_FRAMES = 2**31 - 1
"""Largest number of frames that measurements can hold."""

_large = threading.Lock()


@dataclass(frozen=True)
class Header:
    """The properties of a photo file, before any conversion.

    Attributes:
        format: Pillow's name of the file format, such as "JPEG".
        mode: Pillow's name of the pixel mode, such as "RGB", "P" (palette) or "CMYK".
        width, height: size in pixels, upright.
        frames: number of pictures in the file; more than 1 in animations and multi-page documents.
        orientation: EXIF orientation, 1 (upright) to 8; always 1 for HEIC, whose decoder rotates.
        alpha: whether parts may be transparent.
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

    The whole photo is kept: ``size`` squashes it to a square and crops nothing, since a label may belong to its
    edge. Transparent parts become white, 16-bit greys are scaled to 8 bits, the EXIF orientation is applied,
    and the first frame of an animation is used.

    Args:
        source: the bytes of the file, or its path.
        size: side of the square to return, in pixels; ``None`` keeps the photo's own size.

    Returns:
        uint8 array (height, width, 3) in RGB order, 0 to 255; (size, size, 3) with ``size``.

    Raises:
        ImageError: the photo cannot be decoded; the message is the reason in a few words.
        MachineError: the computer failed: it is out of memory or of open files, or its disk fails.
    """
    with _opened(source) as image:
        return _pixels(image, size)


def examine(source: bytes | str | os.PathLike[str], size: int) -> tuple[Header, NDArray[np.uint8]]:
    """Return a photo's header and what `decode` returns, reading the file once.

    Raises:
        ImageError, MachineError: as `decode`.
    """
    with _opened(source) as image:
        kind, mode, alpha = str(image.format), image.mode, _has_alpha(image)
        # Pillow narrows 16-bit colour while decoding; only the decoder's own arguments tell.
        deep = mode[0] in "IF" or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        deep = deep or (kind == "HEIF" and image.info.get("bit_depth", 8) > 8)
        width, height = image.size
        pixels = _pixels(image, size)
        orientation = _orientation(image)
        if orientation in SIDEWAYS:
            width, height = height, width
        return Header(kind, mode, width, height, _frames(image), orientation, alpha, deep), pixels


def n_pixels(content: bytes) -> int:
    """Return width × height from a photo's header, without decoding; 0 if the header cannot be read."""
    try:
        with _identified(content) as image:
            return image.width * image.height
    except Exception as error:  # `decode` says what is wrong.
        raise_machine_error(error)
        return 0


@contextmanager
def _opened(source: bytes | str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open a photo file; whatever goes wrong, here or in the block, is an `ImageError` or a `MachineError`."""
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
        # On damaged files Pillow's decoders raise whatever their parsing stumbles over: struct.error, KeyError, …
        # An operating system's error carries the file's name; its bare reason does not.
        if getattr(error, "errno", None) is not None:
            raise ImageError(getattr(error, "strerror", None) or str(error), "missing") from None
        words = " ".join(str(error).split())
        problem = "truncated" if "truncated" in words.lower() else "damaged"
        raise ImageError(f"damaged: {printable(words) if ' ' in words else 'undecodable'}", problem) from None


def _identified(source: bytes | str | os.PathLike[str]) -> Image.Image:
    """Open a photo by whichever decoder knows it; metadata that a decoder cannot read are ignored."""
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
    # Imported late: most collections have no HEIC files, and every command would wait for libheif.
    import pillow_heif

    pillow_heif.register_heif_opener()


def _unidentified(source: bytes | str | os.PathLike[str]) -> ImageError:
    """The reason why no decoder knows a file."""
    kind = kinds.kind_of_content(source)
    if kind == kinds.EMPTY:
        return ImageError("the file is empty", "empty")
    if kind == kinds.PHOTO:
        return ImageError("damaged: the header cannot be read", "damaged")
    return ImageError(ADVICE.get(kind, f"not an image ({EXPECTED})"), "not an image")


def _in_one_scan(image: Image.Image) -> bool:
    """Whether a photo that was just opened is a JPEG whose only scan has all channels."""
    if not isinstance(image, JpegImageFile) or "progressive" in image.info:
        return False
    # Pillow has read on to the end of the scan's header: its length, the number of its channels, two bytes for each.
    assert image.fp is not None
    length, here = 6 + 2 * image.layers, image.fp.tell()
    image.fp.seek(here - length)
    header = image.fp.read(3)
    image.fp.seek(here)
    return header == struct.pack(">HB", length, image.layers)


def _pixels(image: Image.Image, size: int | None) -> NDArray[np.uint8]:
    if size is not None and isinstance(image, JpegImageFile):
        # JPEGs can be decoded at 1/2, 1/4 or 1/8 scale, never smaller than asked for. HEIC files would give the
        # thumbnail that some program stored in them.
        image.draft("RGB", (size, size))
    rgb = _to_rgb(image)
    if size is not None:
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    turn = TURNS.get(_orientation(image))
    return np.array(rgb if turn is None else rgb.transpose(turn))


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _frames(image: Image.Image) -> int:
    """Number of pictures in an animation or document; a JPEG's extra pictures are previews and depth maps."""
    if image.format in ("JPEG", "MPO"):
        return 1
    try:
        return min(int(getattr(image, "n_frames", 1)), MOST_FRAMES)
    except Exception as error:
        raise_machine_error(error)
        return 1  # damage behind the first picture, the only one that is used


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
    """EXIF orientation of a decoded photo, 1 to 8; 1 if the EXIF data are damaged or say anything else."""
    if image.format == "HEIF":
        return 1  # libheif has applied the rotation that counts for HEIF, which EXIF only repeats
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
    """Decode photos on several threads, in order, holding only a few at a time.

    Yields:
        For each source the array that `decode` returns, or the `ImageError` that it raises.

    Raises:
        MachineError: as `decode`; no further photos are decoded.
    """
    return each(lambda source: decode(source, size), sources, threads)


def each(
    work: Callable[[Any], Decoded], sources: Iterable[Any], threads: int | None = None
) -> Iterator[Decoded | ImageError]:
    """Call ``work`` on each source on several threads, in order, holding only a few results at a time.

    Yields:
        For each source what ``work`` returns, or the `ImageError` that it raises. Other errors are raised.
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
            pool.shutdown(cancel_futures=True)  # do not wait for results that nobody will read

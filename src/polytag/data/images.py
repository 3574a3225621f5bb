"""The one pixel path: bytes of a photo → RGB uint8, for training, evaluation, tagging and serving.

Nothing else in polytag decodes or resizes a photo that a model sees. Scaling and normalisation are
layers inside the models, so what is made here is all that a model needs.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from polytag.errors import ImageError

Paths = Sequence[str] | NDArray[np.str_]
"""Files of photos."""

PIXEL_PATH = 1
"""Raised whenever the same bytes would give other pixels, so that no cache survives the change."""

MAX_PIXELS = 80_000_000
"""Largest photo that is decoded, in pixels; above it lie decompression bombs."""

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""File name endings that make a table's cell look like a photo (lower case)."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""What Pillow may decode. Its rarer formats stay shut: EPS, for one, would start Ghostscript on a stranger's bytes."""

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

# Pillow warns of many pixels, where our own limit is lower, and of EXIF data, which may be damaged harmlessly.
warnings.filterwarnings("ignore", module=r"PIL\.")


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
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(f"{width}×{height} pixels are over the limit of {MAX_PIXELS:,}")
            if size is not None:
                # JPEG can be decoded at 1/2, 1/4 or 1/8 scale: never smaller than asked for.
                image.draft("RGB", (size, size))
            rgb = _to_rgb(image)
            if size is not None:
                rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
            turn = TURNS.get(_orientation(image))
            return np.array(rgb if turn is None else rgb.transpose(turn))
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("there is no such file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"more pixels than the limit of {MAX_PIXELS:,}") from None
    except Image.UnidentifiedImageError:
        empty = not (source if isinstance(source, bytes) else os.path.getsize(source))
        raise ImageError(
            "the file is empty" if empty else "not an image (expected JPEG, PNG, WebP, BMP, GIF or TIFF)"
        ) from None
    except Exception as error:
        # On damaged files Pillow's decoders raise whatever their parsing stumbles over: struct.error, KeyError, …
        # An operating system's error carries the file's name; its bare reason does not.
        words = " ".join(str(error).split())
        reason = getattr(error, "strerror", None) or (words if " " in words else "undecodable")
        raise ImageError(f"damaged: {reason}" if getattr(error, "errno", None) is None else reason) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or ("transparency" in image.info and image.mode != "I;16"):
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if image.mode.startswith("I;16"):
        wide = np.asarray(image, dtype=np.uint32)
        return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        # 32-bit modes carry no range of their own: floats are 0–1 or 0–255, integers 0–255 or 0–65535.
        top = 65535.0 if values.max() > 255 else 1.0 if image.mode == "F" and values.max() <= 1 else 255.0
        return Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)).convert("RGB")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of a decoded photo; damaged EXIF data does not spoil the pixels, and counts as upright."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


def decode_many(
    sources: Iterable[bytes | str | os.PathLike[str]], size: int, threads: int | None = None
) -> Iterator[NDArray[np.uint8] | ImageError]:
    """Decode photos on several threads, in order, holding only a few at a time.

    Yields:
        For each source the array that `decode` returns, or the `ImageError` that it raises.
    """

    def one(source: bytes | str | os.PathLike[str]) -> NDArray[np.uint8] | ImageError:
        try:
            return decode(source, size)
        except ImageError as error:
            return error

    threads = threads or os.cpu_count() or 1
    remaining = iter(sources)
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(one, source) for source in islice(remaining, 16 * threads)]
        while waiting:
            done = waiting.pop(0)
            for source in islice(remaining, 1):
                waiting.append(pool.submit(one, source))
            yield done.result()


def content_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits; remembered until the file changes."""
    status = os.stat(path)
    return _content_hash(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1_000_000)
def _content_hash(path: str, modified_ns: int, size: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

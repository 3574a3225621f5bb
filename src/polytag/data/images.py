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
from PIL import Image, ImageOps

from polytag.errors import ImageError

Paths = Sequence[str] | NDArray[np.str_]
"""Files of photos."""

PIXEL_PATH = 1
"""Raised whenever the same bytes would give other pixels, so that no cache survives the change."""

MAX_PIXELS = 80_000_000
"""Largest photo that is decoded, in pixels; above it lie decompression bombs."""

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""File name endings that make a table's cell look like a photo (lower case)."""

# Our own limit above is lower than the one that this warning announces.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


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
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(f"{width}×{height} pixels are over the limit of {MAX_PIXELS:,}")
            if size is not None:
                # JPEG can be decoded at 1/2, 1/4 or 1/8 scale: never smaller than asked for.
                image.draft("RGB", (size, size))
            rgb = _to_rgb(image)
            if size is not None:
                rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
            return np.array(ImageOps.exif_transpose(rgb))
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("there is no such file") from None
    except Image.DecompressionBombError:
        raise ImageError(f"more pixels than the limit of {MAX_PIXELS:,}") from None
    except Image.UnidentifiedImageError:
        empty = not (source if isinstance(source, bytes) else os.path.getsize(source))
        raise ImageError("the file is empty" if empty else "not an image") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, MemoryError) as error:
        # Pillow's decoders raise all of these on damaged files.
        raise ImageError(f"damaged: {str(error).splitlines()[0] if str(error) else 'undecodable'}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        image.load()
        return image
    exif = image.getexif()
    if image.mode.startswith("I;16"):
        wide = np.asarray(image, dtype=np.uint32)
        rgb = Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    elif image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        # 32-bit modes carry no range of their own: 16-bit PNGs arrive as "I", floats as 0–1 or 0–255.
        top = 65535.0 if values.max() > 255 else 1.0 if image.mode == "F" and values.max() <= 1 else 255.0
        rgb = Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)).convert("RGB")
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    else:
        rgb = image.convert("RGB")
    if exif:
        rgb.info["exif"] = exif.tobytes()
    return rgb


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

"""Create small copies of photos that are embedded in pages as data URIs."""

import base64
import io
from collections.abc import Iterator, Sequence

from PIL import Image

from polytag.errors import ImageError
from polytag.photos.decode import Paths, decode, decode_many

THUMBNAIL = 240
"""Default length of a thumbnail's longer side, in pixels."""


def thumbnail(path: str) -> str:
    """Return a thumbnail of a photo as a data URI.

    Raises:
        ImageError: the photo cannot be read.
    """
    return _data_uri(Image.fromarray(decode(path)), THUMBNAIL)


def thumbnails(paths: Paths, sizes: Sequence[tuple[int, int]], longest: int = THUMBNAIL) -> Iterator[str | ImageError]:
    """Create thumbnails of many photos. For large photos, this is many times faster than calling `thumbnail`.

    Args:
        paths: paths of the image files.
        sizes: width and height of each photo in pixels, after applying its EXIF orientation.
        longest: length of a thumbnail's longer side, in pixels.

    Yields:
        A data URI for each photo, or the error if the photo cannot be read.
    """
    # Squares can be decoded at a reduced scale, and _data_uri restores the proportions.
    for (width, height), square in zip(sizes, decode_many(paths, 2 * longest), strict=True):
        if isinstance(square, ImageError):
            yield square
        else:
            yield _data_uri(Image.fromarray(square), longest, width, height)


def _data_uri(image: Image.Image, longest: int, width: int = 0, height: int = 0) -> str:
    width, height = width or image.width, height or image.height
    scale = min(1.0, longest / max(width, height))
    small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"

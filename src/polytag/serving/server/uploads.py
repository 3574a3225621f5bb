"""Read the photos of a request, sent as a raw body or a multipart form, and limit everything that the client controls.

Content types and file names come from the client and are not trusted. A file name is only repeated in the response, and
the decoder determines whether an upload is a photo.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from polytag.serving.web.http import (
    ClientDisconnect,
    FormParserError,
    HTTPException,
    MultipartParser,
    Request,
    parse_options_header,
)

RETRY = {"Retry-After": "2"}
"""Header that asks clients to wait two seconds before they repeat a refused request."""

NAME_LENGTH = 1000
"""Maximum length of a file name in the response, in characters."""

# Without a handler, the parser prints a line for each damaged form.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Limits:
    """Limits on a single request and on all concurrent requests together.

    Attributes:
        body_bytes: maximum size of a request's body, in bytes.
        photos: maximum number of photos per request.
        upload_seconds: time limit from the headers of a request to the end of its body, in seconds.
        answer_seconds: time limit from the end of the body to the response, in seconds.
        held_bytes: maximum size of all request bodies in memory, in bytes.
        waiting_photos: maximum number of photos waiting to be tagged.
        waiting_large_photos: maximum number of waiting photos with more than `polytag.photos.decode.LARGE_PIXELS`
            pixels.
        waiting_explanations: maximum number of photos waiting for heat maps.
    """

    body_bytes: int = 50_000_000
    photos: int = 64
    upload_seconds: float = 60
    answer_seconds: float = 60
    held_bytes: int = 250_000_000
    waiting_photos: int = 256
    waiting_large_photos: int = 64
    waiting_explanations: int = 16


@dataclass
class Upload:
    """An uploaded photo.

    Attributes:
        name: file name given by the client; "image" if the client gave no name.
        content: bytes of the file.
    """

    name: str = "image"
    content: bytes = b""


class Room:
    """The memory budget for the bodies of concurrent requests.

    Args:
        size: budget in bytes.
    """

    def __init__(self, size: int) -> None:
        self._free = size

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that reserves bytes. The reserved bytes are released when the block ends.

        Raises:
            HTTPException: 503, raised by the yielded function if the budget is exhausted.
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._free:
                raise HTTPException(503, "Too many uploads at the same time. Try again in a moment.", RETRY)
            self._free -= size
            taken += size

        try:
            yield take
        finally:
            self._free += taken


async def read_uploads(request: Request, limits: Limits, take: Callable[[int], None]) -> list[Upload]:
    """Read the photos in a request's body.

    In a multipart form, every part is a photo. Any other body is a single photo.

    Args:
        request: the request.
        limits: limits on the request's body.
        take: function that reserves memory; called with the size of each chunk before the chunk is stored.

    Returns:
        The photos, in order.

    Raises:
        HTTPException: 400 if the form is damaged, 408 if the upload is too slow, 413 if it is too large, 422 if it
            contains no photos or too many photos, and 503 if there is not enough memory.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.body_bytes:
        raise _too_large(limits)
    content_type = request.headers.get("content-type", "")
    body: _Form | _Raw = _Form(content_type, limits) if content_type.lower().startswith("multipart/") else _Raw()
    size = 0
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limits.body_bytes:
                    raise _too_large(limits)
                take(len(chunk))
                body.write(chunk)
    except TimeoutError:
        detail = f"The upload took longer than {limits.upload_seconds:g} seconds. Send fewer or smaller photos."
        raise HTTPException(408, detail, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "The client disconnected before the upload was complete.") from None
    return body.uploads()


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(
        413, f"The upload is larger than {limits.body_bytes / 1e6:g} MB. Send fewer or smaller photos."
    )


class _Raw:
    """A request body that is a single photo."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.write = self._chunks.append

    def uploads(self) -> list[Upload]:
        return [Upload(content=b"".join(self._chunks))]


@dataclass
class _Part:
    disposition: bytearray = field(default_factory=bytearray)
    content: bytearray = field(default_factory=bytearray)
    header: bytearray = field(default_factory=bytearray)


class _Form:
    """A request body that is a multipart form. Every part is read as a photo, regardless of its field name."""

    def __init__(self, content_type: str, limits: Limits) -> None:
        self._limits = limits
        self._uploads: list[Upload] = []
        self._complete = False
        self._part = _Part()
        _, options = parse_options_header(content_type)
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin,
                    "on_header_begin": self._header_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._last,
                },
            )
        except (KeyError, FormParserError):
            raise HTTPException(400, "The content type is multipart but has no usable boundary.") from None

    def write(self, chunk: bytes) -> None:
        if self._complete:
            return  # Text after the last boundary is not part of the form.
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise HTTPException(400, f"The multipart form is damaged ({error}).") from None

    def uploads(self) -> list[Upload]:
        if not self._complete:
            raise HTTPException(400, "The multipart form ends before its last boundary.")
        if not self._uploads:
            raise HTTPException(422, "The multipart form contains no photo.")
        return self._uploads

    def _begin(self) -> None:
        if len(self._uploads) == self._limits.photos:
            raise HTTPException(
                422, f"The form has more than {self._limits.photos} parts. Send fewer photos per request."
            )
        self._part = _Part()

    def _header_begin(self) -> None:
        self._part.header.clear()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        if self._part.header.lower() == b"content-disposition":
            self._part.disposition += data[start:end]

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._part.content += data[start:end]

    def _end(self) -> None:
        _, options = parse_options_header(bytes(self._part.disposition))
        name = options.get(b"filename") or options.get(b"name") or b"image"
        self._uploads.append(Upload(name.decode("utf-8", "replace")[:NAME_LENGTH], bytes(self._part.content)))
        self._part = _Part()

    def _last(self) -> None:
        self._complete = True

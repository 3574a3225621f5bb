"""Reading the photos of a request: raw or as a multipart form, with limits on everything that a stranger chooses.

Content types and file names are what the client says: names are given back and used for nothing else, and whether
something is a photo is left to the decoder.
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
"""Seconds after which a request that found no room is worth trying again."""

NAME_LENGTH = 1000
"""Characters of a file's name that are given back."""

# Its parser would write a line to the terminal for each damaged form.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and all of them together.

    Attributes:
        body_bytes: of one request.
        photos: of one request.
        upload_seconds: from a request's headers to the end of its body.
        answer_seconds: from the end of its body to its answer.
        held_bytes: of the bodies of all requests under way.
        waiting_photos: of all requests under way.
        waiting_explanations: photos of all requests under way that wait for an explanation.
    """

    body_bytes: int = 50_000_000
    photos: int = 64
    upload_seconds: float = 60
    answer_seconds: float = 60
    held_bytes: int = 250_000_000
    waiting_photos: int = 256
    waiting_explanations: int = 16


@dataclass
class Upload:
    """One photo as it came.

    Attributes:
        name: what the client calls it; "photo" where it does not say.
        content: the file's bytes.
    """

    name: str = "photo"
    content: bytes = b""


class Room:
    """Bytes that the requests under way may hold together."""

    def __init__(self, size: int) -> None:
        self._free = size

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function that takes bytes of the room; all come back when the block ends.

        Raises:
            HTTPException: 503, from the function, when not so many are left.
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._free:
                raise HTTPException(503, "too many photos are under way: try again in a moment", RETRY)
            self._free -= size
            taken += size

        try:
            yield take
        finally:
            self._free += taken


async def read_uploads(request: Request, limits: Limits, take: Callable[[int], None]) -> list[Upload]:
    """The photos in a request's body, in order: each part of a multipart form, or else the body itself.

    Args:
        take: called with the size of whatever is kept, before it is.

    Raises:
        HTTPException: 400 a form that cannot be parsed, 408 too slow, 413 too large, 422 no photo at all or too
            many, 503 no room.
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
        detail = f"the body took longer than {limits.upload_seconds:g} seconds: send it faster, or fewer photos at once"
        raise HTTPException(408, detail, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "the client left before its body was complete") from None
    return body.uploads()


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(
        413, f"the body is larger than {limits.body_bytes / 1e6:g} MB: send smaller photos, or fewer at once"
    )


class _Raw:
    """A body that is one photo."""

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
    """A body that is a multipart form; every part counts as a photo, whatever its field is called."""

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
            raise HTTPException(400, "the content type says multipart, but names no usable boundary") from None

    def write(self, chunk: bytes) -> None:
        if self._complete:
            return  # Whatever stands behind the last part means nothing.
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise HTTPException(400, f"the multipart form is damaged ({error})") from None

    def uploads(self) -> list[Upload]:
        if not self._complete:
            raise HTTPException(400, "the multipart form ends before its last boundary")
        if not self._uploads:
            raise HTTPException(422, "the multipart form holds no photo")
        return self._uploads

    def _begin(self) -> None:
        if len(self._uploads) == self._limits.photos:
            raise HTTPException(422, f"the form has more than {self._limits.photos} parts: send fewer photos at once")
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
        name = options.get(b"filename") or options.get(b"name") or b"photo"
        self._uploads.append(Upload(name.decode("utf-8", "replace")[:NAME_LENGTH], bytes(self._part.content)))
        self._part = _Part()

    def _last(self) -> None:
        self._complete = True

"""Remove damaged metadata from photos whose pixels are intact."""

import struct

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"

TRANSPARENCY_BYTES = {0: (2, 2), 2: (6, 6), 3: (1, 256)}
"""Minimum and maximum size of a PNG's tRNS chunk, by colour type."""

COLOUR_SEGMENTS = (0xE0, 0xEE)
"""JPEG application segments that affect colour: JFIF and Adobe."""


def without_metadata(data: bytes) -> bytes:
    """Return a JPEG or PNG file without EXIF, XMP, colour profiles, text and resolution.

    Segments and chunks that affect the pixels are kept. Other files are returned unchanged.
    """
    if data.startswith(PNG):
        return _png(data)
    return _jpeg(data) if data.startswith(JPEG) else data


def _png(data: bytes) -> bytes:
    kept, here = [PNG], len(PNG)
    least, largest = TRANSPARENCY_BYTES.get(data[25] if len(data) > 25 else 0, (1, 0))
    while here + 12 <= len(data):
        (length,) = struct.unpack(">I", data[here : here + 4])
        kind = data[here + 4 : here + 8]
        # Chunks whose names start with an upper-case letter are required to decode the image.
        if kind[:1].isupper() or (kind == b"tRNS" and least <= length <= largest):
            kept.append(data[here : here + 12 + length])
        here += 12 + length
    return b"".join(kept) + data[here:]


def _jpeg(data: bytes) -> bytes:
    kept, here = [JPEG], len(JPEG)
    while data[here : here + 1] == b"\xff" and here + 4 <= len(data):
        marker = data[here + 1]
        if marker == 0xDA:  # start of the pixel data
            break
        length = 2 + struct.unpack(">H", data[here + 2 : here + 4])[0]
        application = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not application or marker in COLOUR_SEGMENTS:
            kept.append(data[here : here + length])
        here += length
    return b"".join(kept) + data[here:]

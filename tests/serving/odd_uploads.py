"""Photos as strangers send them: fine ones in every form, and all kinds of bad ones."""

import io
import struct
import zlib

import numpy as np
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()  # to write what the server then reads


def photo(colour: tuple[int, int, int] = (250, 10, 10), kind: str = "JPEG", mode: str = "RGB", **more: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).convert(mode).save(file, kind, **more)
    return file.getvalue()


def noise(seed: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def bomb(side: int = 30_000) -> bytes:
    """A PNG of 900 million white pixels in 110 kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (side // 8)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def animation() -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def deep() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 20), 65_535, dtype=np.uint16)).save(file, "PNG")
    return file.getvalue()


def png_header_of(width: int, height: int) -> bytes:
    content = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + content
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


ODD_BUT_FINE = {
    "CMYK": photo(mode="CMYK"),
    "animated GIF": animation(),
    "grey": photo(mode="L"),
    "16-bit PNG": deep(),
    "palette with alpha": photo(kind="PNG", mode="P", transparency=0),
    "WebP": photo(kind="WEBP"),
    "HEIC": photo(kind="HEIF"),
    "AVIF": photo(kind="AVIF"),
}

BAD = {
    "text": (b"This is no photo.\n" * 30, 415, "not an image (expected JPEG"),
    "truncated JPEG": (noise(0, "JPEG")[:-300], 422, "truncated"),
    "empty": (b"", 422, "the file is empty"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', 415, "not an image"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), 422, "damaged: the header"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "not an image"),
    "bomb": (bomb(), 413, "more pixels than the limit of 80,000,000"),
    "header alone": (png_header_of(20, 20), 422, "damaged: the header"),
}
"""What is sent, the status, and words of the detail."""

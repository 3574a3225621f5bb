"""A folder as phones and cameras leave it: photos of several formats, videos, sidecars and camera raw files."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

from polytag.data.sample.scenes import draw_scene

PHOTOS, OTHERS, DAMAGED = 24, 14, 2
"""Files of `write_phone_files`: photos that can be read, other files, and photos that cannot be read."""


def write_phone_files(folder: Path) -> None:
    """Write 40 files, some in subfolders."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _files():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def _files() -> Iterator[tuple[str, bytes]]:
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    scenes = iter(range(PHOTOS))

    def photo(form: str, **options: object) -> bytes:
        number = next(scenes)
        file = io.BytesIO()
        image = Image.fromarray(np.asarray(draw_scene([("bus", "boat", "tabla")[number % 3]], 96, number)))
        image.save(file, form, **options)
        return file.getvalue()

    for i in range(6):
        yield f"IMG_{i:04}.HEIC", photo("HEIF", exif=exif.tobytes())
        yield f"phone/PXL_{i}.jpg", photo("JPEG", exif=exif)
    for i in range(3):
        yield f"shared/{i}.avif", photo("AVIF")
        yield f"shared/picture{i}.jfif", photo("JPEG")
    yield "download", photo("JPEG")
    yield "screenshot", photo("PNG")
    yield "photo.jpg_large", photo("JPEG")
    yield "sent.jpg", photo("HEIF")  # a wrong ending
    yield "scan.tif", photo("TIFF")
    yield "phone/burst.heif", photo("HEIF")
    heads = {
        "mov": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
        "mp4": b"\0\0\0\x20ftypmp42\0\0\0\0mp42",
        "dng": b"II*\0\x08\0\0\0\1\0\x12\xc6\1\0\4\0\0\0\1\4\0\0\0\0\0\0",
        "cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    }
    for i in range(3):
        yield f"IMG_{i:04}.MOV", heads["mov"] + bytes(100)
        yield f"IMG_{i:04}.AAE", b"<?xml version='1.0'?><plist/>"
    yield "phone/VID.mp4", heads["mp4"] + bytes(100)
    yield "raw/a.DNG", heads["dng"] + bytes(100)
    yield "raw/b.CR3", heads["cr3"] + bytes(100)
    yield "raw/a.xmp", b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    yield "raw/no ending", heads["dng"] + bytes(100)
    yield "notes.txt", b"a text\n"
    yield "readme", b"a text without an ending\n"
    yield "clip", heads["mov"] + bytes(100)  # a video without an ending
    yield "raw/hidden raw.tif", heads["dng"] + bytes(100)
    yield "empty.jpg", b""

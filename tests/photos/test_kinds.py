"""Files are told apart by their endings, and by their content where the ending says nothing."""

import io
import os
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from polytag.errors import ImageError, MachineError
from polytag.photos import kinds
from polytag.photos.decode import decode
from polytag.photos.kinds import is_photo, is_raw, kind_of, kind_of_content, left_out

pillow_heif.register_heif_opener()


def encoded(form: str, **options: object) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def raw_tiff(
    order: str = "<", version: bool = False, photometric: int = 2, below: int | None = None, big: bool = False
) -> bytes:
    """A TIFF file as cameras write it: a thumbnail that can be decoded, and below it perhaps the sensor's data."""
    head = {"<": b"II", ">": b"MM"}[order]
    pointer, entry = (order + "Q", order + "HHQ") if big else (order + "I", order + "HHI")
    pixels = bytes(range(192))

    def directory(entries: list[tuple[int, int, int, int]]) -> bytes:
        packed = b""
        for tag, form, length, value in sorted(entries):
            code = {1: "4B", 3: "H", 4: "I"}[form]
            field = struct.pack(order + code, *((value,) if form != 1 else (1, 4, 0, 0)))
            packed += struct.pack(entry, tag, form, length) + field.ljust(8 if big else 4, b"\0")
        return struct.pack(order + ("Q" if big else "H"), len(entries)) + packed + struct.pack(pointer, 0)

    start = 16 + len(pixels)
    tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, photometric)]
    tags += [(273, 4, 1, 16), (277, 3, 1, 3), (278, 3, 1, 8), (279, 4, 1, 192)]
    if version:
        tags.append((50706, 1, 4, 0))
    if below is not None:
        tags.append((330, 4, 1, start + len(directory([*tags, (330, 4, 1, 0)]))))
    body = directory(tags) + (directory([(262, 3, 1, below)]) if below is not None else b"")
    header = head + struct.pack(order + "H", 43 if big else 42)
    header += struct.pack(order + "HHQ", 8, 0, start) if big else struct.pack(order + "I", start) + bytes(8)
    return header + pixels + body


PHOTOS = {
    **{form: encoded(form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")},
    "TIFF, big-endian": raw_tiff(">"),
    "TIFF with another page": raw_tiff(below=2),
    "BigTIFF": raw_tiff(big=True),
}

RAWS = {
    "DNG": raw_tiff(version=True),
    "DNG, big-endian": raw_tiff(">", version=True),
    "DNG in BigTIFF": raw_tiff(version=True, big=True),
    "NEF": raw_tiff(">", below=32803),
    "linear DNG": raw_tiff(below=34892),
    "raw in BigTIFF": raw_tiff(below=32803, big=True),
    "PEF": raw_tiff(photometric=32803),
    "CR2": b"II*\0\x10\0\0\0CR\2\0" + encoded("TIFF")[12:],
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(40),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(40),
    "ORF": b"IIRO\x08\0\0\0" + bytes(40),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(40),
}


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_are_recognised_by_their_content(name: str, tmp_path: Path) -> None:
    assert kind_of_content(PHOTOS[name]) == kinds.PHOTO
    for file in ("photo", "photo.jpg_large", "photo.1", "IMG.0001"):
        path = tmp_path / file
        path.write_bytes(PHOTOS[name])
        assert kind_of(path) == kinds.PHOTO
        assert decode(path, 8).shape == (8, 8, 3)


@pytest.mark.parametrize("name", RAWS)
def test_the_thumbnail_in_a_camera_raw_file_is_not_its_photo(name: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.tif"
    path.write_bytes(RAWS[name])
    assert kind_of_content(path) == kinds.RAW
    for source in (path, RAWS[name]):
        with pytest.raises(ImageError, match="camera raw file: export it as JPEG or TIFF") as caught:
            decode(source)
        assert caught.value.problem == "not an image"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", kinds.EMPTY),
        (b"\xff\x0a" + bytes(9), kinds.JPEG_XL),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", kinds.VIDEO),
        (b"\0\0\0\x20ftypmp42\0\0\0\0mp42", kinds.VIDEO),
        (b"\x1aE\xdf\xa3" + bytes(9), kinds.VIDEO),
        (b"RIFF\0\0\0\0AVI LIST", kinds.VIDEO),
        (b"RIFF\0\0\0\0WAVEfmt ", kinds.SOUND),
        (b"%PDF-1.7", kinds.DOCUMENT),
        (b"PK\x03\x04", kinds.ARCHIVE),
        (b"BM and so on, a text of some length", kinds.TEXT),
        ("Überall Text\n".encode() * 100, kinds.TEXT),
        ("写真".encode() * 200, kinds.TEXT),
        (b"\x01\x02\x03", kinds.OTHER),
        (os.urandom(0) + b"\x80\x81" * 400, kinds.OTHER),
    ],
)
def test_other_content_is_named(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "unknown"
    path.write_bytes(content)
    assert kind_of_content(content) == kind_of(path) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPG", kinds.PHOTO),
        ("a.heic", kinds.PHOTO),
        ("a.jfif", kinds.PHOTO),
        ("a.MOV", kinds.VIDEO),
        ("a.mp4", kinds.VIDEO),
        ("a.DNG", kinds.RAW),
        ("a.cr3", kinds.RAW),
        ("a.jxl", kinds.JPEG_XL),
        ("a.xmp", kinds.SIDECAR),
        ("a.AAE", kinds.SIDECAR),
        ("labels.csv", kinds.TEXT),
    ],
)
def test_known_endings_decide_without_opening_the_file(name: str, kind: str, tmp_path: Path) -> None:
    assert kind_of(tmp_path / name) == kind  # there is no such file


def test_endings_belong_to_one_kind() -> None:
    endings = [ending for some in kinds.ENDINGS.values() for ending in some.split()]
    assert len(endings) == len(set(endings))
    assert not {f".{ending}" for ending in endings} & kinds.EXTENSIONS


def test_skipped_files_are_counted_by_kind(tmp_path: Path) -> None:
    skipped: Counter[str] = Counter()
    names = ["1.mov", "2.mp4", "3.avi", "a.dng", "b.txt", "c.txt", "photo.jpg"]
    assert [name for name in names if is_photo(tmp_path / name, skipped)] == ["photo.jpg"]
    assert left_out(skipped) == "6 files left out: 3 videos, 2 text files, 1 camera raw file"
    assert left_out({}) == ""
    assert left_out({"video": 1}) == "1 file left out: 1 video"


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert kind_of(tmp_path / "pipe") == kinds.OTHER
    assert kind_of(tmp_path) == kinds.OTHER
    assert kind_of(tmp_path / "missing") == kinds.UNREADABLE


def test_failures_of_the_computer_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "stat", fail)
    with pytest.raises(MachineError, match="Input/output error"):
        kind_of(tmp_path / "photo")


@pytest.mark.parametrize("name", ["DNG", "NEF", "raw in BigTIFF", "linear DNG"])
def test_any_damage_to_a_raw_file_is_survived(name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        damaged = np.frombuffer(RAWS[name], np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 4)] = rng.integers(0, 256, 4)
        is_raw(io.BytesIO(damaged.tobytes()[: rng.integers(0, len(damaged) + 1)]))

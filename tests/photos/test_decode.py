"""The one pixel path: every mode and orientation comes out right, and damage is one short reason."""

import io
import os
import resource
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from polytag.errors import ImageError, MachineError
from polytag.photos import decode as images
from polytag.photos.content import content_hash
from polytag.photos.decode import decode, decode_many, each, examine
from polytag.photos.measure import measurements_of

pillow_heif.register_heif_opener()  # to write what is then read

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (153, 153, 153)  # all in the palette of mode P

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def quarters(width: int = 64, height: int = 32) -> NDArray[np.uint8]:
    """Red and green above, blue and grey below."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    pixels[height // 2 :, width // 2 :] = GREY
    return pixels


def noise(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image | NDArray, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **options)
    return file.getvalue()


def reason(source: bytes | str | os.PathLike[str], size: int | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        decode(source, size)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}
"""How a camera stores an upright picture under each EXIF orientation."""


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_every_exif_orientation_comes_out_upright(orientation: int, form: str, mode: str) -> None:
    if form == "JPEG" and mode == "P":
        mode = "CMYK"
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](quarters()))).convert(mode)
    data = encoded(stored, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    for pixels, expected in ((decode(data), quarters()), (decode(data, 16), quarters(16, 16))):
        assert pixels.shape == expected.shape
        centres = np.s_[2::4, 2::4]  # away from the borders, where JPEG and resizing blend
        assert np.abs(pixels[centres].astype(int) - expected[centres]).max() <= 12


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
def test_photos_of_phones_are_turned_upright_once(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](quarters(128, 64))))
    options = {"chroma": 444} if form == "HEIF" else {"subsampling": "4:4:4"}
    data = encoded(stored, form, exif=exif.tobytes(), quality=95, **options)
    header, pixels = examine(data, 16)
    assert (header.format, header.width, header.height) == (form, 128, 64)
    for found, expected in ((decode(data), quarters(128, 64)), (pixels, quarters(16, 16))):
        assert found.shape == expected.shape
        centres = np.s_[2::4, 2::4]
        assert np.abs(found[centres].astype(int) - expected[centres]).max() <= 16


def test_exif_of_a_heic_file_does_not_turn_it_again() -> None:
    # Phones write the orientation into the container, which the decoder applies, and once more into EXIF.
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(quarters(128, 64), "HEIF", quality=95, exif=exif.tobytes())
    assert decode(data).shape == (128, 64, 3)
    # Without the container's own rotation EXIF does not count.
    without = data.replace(b"irot\3", b"irot\0")
    assert without != data
    assert decode(without).shape == (64, 128, 3)


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_modes_of_photos_of_phones(form: str, mode: str) -> None:
    image = Image.fromarray(noise(32, 32)).convert(mode)
    if mode == "RGBA":
        image.putalpha(0)
    pixels = decode(encoded(image, form, quality=90))
    assert pixels.shape == (32, 32, 3)
    assert (pixels.min() > 250) == (mode == "RGBA")


def test_the_thumbnail_in_a_heic_file_is_not_its_photo() -> None:
    photo = noise(256, 256)
    plain, with_thumbnail = (encoded(photo, "HEIF", quality=90, **more) for more in ({}, {"thumbnails": [128]}))
    assert np.array_equal(decode(plain, 64), decode(with_thumbnail, 64))


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
def test_cut_off_photos_of_phones_say_so(form: str) -> None:
    data = encoded(noise(64, 64), form)
    for n in (40, len(data) // 2, len(data) - 20):
        assert reason(data[:n]).startswith("damaged: ")


def exif_with_orientation(form: int, count: int, value: bytes, extra: bytes = b"") -> bytes:
    """EXIF data with one entry, an orientation of any type."""
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHI4sI", 1, 0x0112, form, count, value, 0) + extra


@pytest.mark.parametrize(
    "exif",
    [
        exif_with_orientation(4, 1, struct.pack(">I", 70000)),
        exif_with_orientation(3, 1, struct.pack(">HH", 0, 0)),
        exif_with_orientation(3, 1, struct.pack(">HH", 9, 0)),
        exif_with_orientation(7, 4, b"\6\0\0\0"),
        exif_with_orientation(1, 4, b"\6\6\6\6"),
        exif_with_orientation(2, 4, b"top\0"),
        exif_with_orientation(5, 1, struct.pack(">I", 26), struct.pack(">II", 6, 1)),
        exif_with_orientation(5, 1, struct.pack(">I", 26), struct.pack(">II", 6, 0)),
        exif_with_orientation(10, 1, struct.pack(">I", 26), struct.pack(">ii", -6, 1)),
        exif_with_orientation(12, 1, struct.pack(">I", 26), struct.pack(">d", float("nan"))),
        exif_with_orientation(9, 1, struct.pack(">i", -6)),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "WEBP", "HEIF"])
def test_orientations_that_do_not_exist_count_as_upright(exif: bytes, form: str, tmp_path: Path) -> None:
    # Pillow refuses to write some of these, so that an upright one is replaced.
    upright = exif_with_orientation(3, 1, struct.pack(">HH", 1, 0), exif[32:])
    plain = encoded(quarters(), form, exif=upright)
    odd = plain.replace(upright[6:], exif[6:])
    assert odd != plain
    assert np.array_equal(decode(odd), decode(plain))
    header, pixels = examine(odd, 32)
    assert header.orientation == 1
    assert measurements_of(header, pixels)["orientation"] == 1


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"pHYs", b"\0"), (b"cHRM", b"\0\0\0"), (b"gAMA", b""), (b"sRGB", b""), (b"iCCP", b"x"), (b"tRNS", b"\0"),
        (b"acTL", b"\0\0\0\2"), (b"fcTL", bytes(8)), (b"zTXt", b"name\0\1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_metadata_that_cannot_be_read_do_not_spoil_a_png(kind: bytes, body: bytes, mode: str) -> None:
    plain = encoded(Image.fromarray(quarters()).convert(mode))
    assert np.array_equal(decode(with_chunk(plain, kind, body)), decode(plain))


def test_metadata_that_cannot_be_read_do_not_spoil_a_jpeg(tmp_path: Path) -> None:
    # A horizontal resolution (a rational) of no values.
    entry = struct.pack(">HHI4s", 0x011A, 5, 0, bytes(4)) + struct.pack(">HHI4s", 0x0128, 3, 1, b"\0\2\0\0")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\2" + entry + bytes(4)
    image = Image.fromarray(quarters()).convert("CMYK")
    plain, odd = encoded(image, "JPEG"), encoded(image, "JPEG", exif=exif, comment=b"a comment")
    path = tmp_path / "odd.jpg"
    path.write_bytes(odd)
    assert np.array_equal(decode(odd), decode(plain))
    assert np.array_equal(decode(path), decode(plain))


def test_damaged_exif_does_not_spoil_a_photo() -> None:
    data = encoded(quarters(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff" + b"\x01\x12\0\x03\xff" * 3)
    assert decode(data).shape == (32, 64, 3)
    for form in ("PNG", "WEBP"):
        assert decode(encoded(quarters(), form, exif=b"Exif\0\0MM\0*\0\0")).shape == (32, 64, 3)
    exif = Image.Exif()
    exif[0x0112] = 77
    assert np.array_equal(decode(encoded(quarters(), exif=exif)), quarters())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F"])
def test_modes_show_the_same_greys(mode: str) -> None:
    ramp = np.tile(np.array([0, 255] if mode == "1" else [0, 51, 102, 153, 204, 255], dtype=np.uint8), (4, 1))
    if mode == "I;16":
        image = Image.fromarray(ramp.astype(np.uint16) * 257)
    elif mode == "I":
        image = Image.fromarray(ramp.astype(np.int32) * 257)
    elif mode == "F":
        image = Image.fromarray(ramp.astype(np.float32) / 255)
    else:
        image = Image.fromarray(ramp).convert(mode)
    assert image.mode == mode
    pixels = decode(encoded(image, "TIFF" if mode in ("I", "F") else "PNG"))
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.repeat(ramp[..., None], 3, axis=2))


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_floats_may_range_to_1_to_255_or_to_65535(top: float) -> None:
    values = np.array([[0, 0.5, 1]], dtype=np.float32) * top
    assert np.abs(decode(encoded(values, "TIFF"))[0, :, 0].astype(int) - [0, 128, 255]).max() <= 1


def test_floats_that_are_no_number_are_black() -> None:
    assert decode(encoded(np.array([[np.nan, 1]], dtype=np.float32), "TIFF"))[0, :, 0].tolist() == [0, 255]


def test_integers_are_never_taken_for_shares_of_one() -> None:
    assert decode(encoded(np.array([[0, 1]], dtype=np.int32), "TIFF"))[0, :, 0].tolist() == [0, 1]


def test_cmyk_is_shown_in_its_colours() -> None:
    pixels = decode(encoded(Image.fromarray(quarters()).convert("CMYK"), "JPEG", quality=95))
    for y, x, colour in ((8, 16, RED), (8, 48, GREEN), (24, 16, BLUE), (24, 48, GREY)):
        assert np.abs(pixels[y, x].astype(int) - colour).max() <= 12


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "P with bytes", "L with a grey", "RGB with a colour", "GIF"])
def test_transparent_parts_become_white(kind: str) -> None:
    grey = np.full((8, 8), 100, dtype=np.uint8)
    grey[:, :4] = 7
    colours = np.repeat(grey[..., None], 3, axis=2)
    if kind in ("RGBA", "LA"):
        channels = colours if kind == "RGBA" else grey[..., None]
        image = Image.fromarray(np.dstack([channels, np.where(grey == 7, 0, 255).astype(np.uint8)]))
        data = encoded(image)
    elif kind.startswith("P") or kind == "GIF":
        image = Image.fromarray((grey == 7).astype(np.uint8)).convert("P")
        image.putpalette([100, 100, 100, 7, 7, 7])
        transparent = b"\xff\0" if kind == "P with bytes" else 1
        data = encoded(image, "GIF" if kind == "GIF" else "PNG", transparency=transparent)
    else:
        data = encoded(colours if kind.startswith("RGB") else grey, transparency=(7, 7, 7) if "colour" in kind else 7)
    pixels = decode(data)
    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, 4:] == 100).all()


def test_half_transparent_is_blended_with_white() -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert set(decode(encoded(image)).ravel().tolist()) <= {126, 127, 128}


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in (RED, GREEN, BLUE)]
    pixels = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50))
    assert pixels.shape == (6, 8, 3)
    assert (pixels == RED).all()


def test_the_whole_photo_is_squashed_to_the_square() -> None:
    pixels = decode(encoded(quarters(200, 40)), 20)
    assert pixels.shape == (20, 20, 3)
    for y, x, colour in ((2, 2, RED), (2, 17, GREEN), (17, 2, BLUE), (17, 17, GREY)):
        assert pixels[y, x].tolist() == list(colour)


def test_bytes_and_path_give_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(noise(90, 70), "JPEG"))
    for size in (None, 20, 64, 200):
        first, *others = (decode(source, size) for source in (path.read_bytes(), str(path), path))
        assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("width, height", [(512, 512), (511, 640), (1030, 260), (257, 2000), (520, 130), (100, 100)])
def test_drafts_are_never_smaller_than_asked(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def spy(self: Image.Image, *args: object, **kwargs: object) -> Image.Image:
        before.append(self.size)
        return resize(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", spy)
    data = encoded(noise(width, height), "JPEG", quality=60)
    assert decode(data, 128).shape == (128, 128, 3)
    decoded = before[0]
    assert decoded[0] >= min(width, 128)
    assert decoded[1] >= min(height, 128)
    if min(width, height) >= 256:
        assert decoded[0] < width  # it was drafted at all


def test_a_draft_keeps_the_detail_that_the_size_can_show() -> None:
    # Waves of 4 pixels at 128: a photo decoded too small would show them grey or as wider ones.
    wave = (127.5 + 120 * np.sin(np.arange(1024) * 2 * np.pi / 32)).astype(np.uint8)
    photo = np.repeat(np.tile(wave, (1024, 1))[..., None], 3, axis=2)
    drafted, whole = decode(encoded(photo, "JPEG", quality=95), 128), decode(encoded(photo), 128)
    assert whole.std() > 50
    assert drafted.std() > 0.9 * whole.std()
    assert np.abs(drafted.astype(int) - whole).mean() < 10


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"", "the file is empty"),
        (b"no photo at all\n", "not an image (expected JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC or AVIF)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "damaged: the header cannot be read"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(99), "damaged: the header cannot be read"),
        (b"\0\0\0\x18ftypisom" + bytes(99), "a video, not a photo"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "a JPEG XL photo, which is not supported: save it as JPEG or PNG"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(99), "a camera raw file: export it as JPEG or TIFF"),
        (encoded(noise(64, 64), "JPEG")[:2000], "damaged: "),
        (encoded(noise(64, 64), "PNG")[:2000], "damaged: "),
        (encoded(noise(64, 64), "JPEG")[:10], "damaged: "),
    ],
)
@pytest.mark.parametrize("as_path", [True, False])
def test_what_is_no_photo_says_why(data: bytes, expected: str, as_path: bool, tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_bytes(data)
    for size in (None, 32):
        message = reason(path if as_path else data, size)
        assert message.startswith(expected)
        assert "text.jpg" not in message


@pytest.mark.parametrize(
    "error", [MemoryError(), *(OSError(code, os.strerror(code)) for code in (5, 23, 24, 28))], ids=repr
)
@pytest.mark.parametrize("step", ["_identified", "_to_rgb", "_orientation"])
def test_failures_of_the_computer_are_never_blamed_on_a_photo(
    step: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(image: object) -> None:
        raise error

    data = encoded(quarters())
    monkeypatch.setattr(images, step, fail)
    with pytest.raises(MachineError):
        decode(data)
    with pytest.raises(MachineError):
        list(decode_many([data] * 20, 16))


def test_too_many_open_files_stop_the_work(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(quarters(), "JPEG"))
    decode(path)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(MachineError, match="ulimit -n"):
            decode(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    "error, expected",
    [
        (struct.error("required argument is not an integer"), "damaged: required argument is not an integer"),
        (NotImplementedError("unknown\npixel format"), "damaged: unknown pixel format"),
        (KeyError(262), "damaged: undecodable"),
    ],
)
def test_whatever_a_decoder_raises_is_an_image_error(
    error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(image: Image.Image) -> Image.Image:
        raise error

    monkeypatch.setattr(images, "_to_rgb", stumble)
    assert reason(encoded(quarters())) == expected


def test_a_folder_or_a_missing_file_says_why_without_its_name(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.jpg") == "there is no such file"
    assert reason(tmp_path) == "Is a directory"


def blank_png(width: int, height: int) -> bytes:
    """A black 1-bit PNG, made without holding its pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(1)
    row = bytes(1 + (width + 7) // 8)
    body = b"".join(packer.compress(row * 100) for _ in range(height // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [30_000, 10_000])
def test_more_pixels_than_the_limit_are_refused_undecoded(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    data = blank_png(side, side)
    assert len(data) < 1_000_000
    assert "80,000,000" in reason(data, 32)


def test_as_many_pixels_as_the_limit_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 1200)
    assert decode(blank_png(12, 100)).max() == 0
    assert "1,200" in reason(blank_png(13, 100))


CORPUS = [
    encoded(Image.fromarray(noise(24, 16)).convert(mode), form, **options)
    for form, mode, options in [
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {"progressive": True}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {"transparency": 3}),
        ("GIF", "P", {}),
        ("WEBP", "RGB", {}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "L", {}),
        ("HEIF", "RGB", {}),
        ("AVIF", "RGB", {}),
    ]
]


def test_whoever_stops_waits_for_nothing_that_is_queued() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.01)
        return number

    results = each(work, range(1000), threads=2)
    assert next(results) == 0
    results.close()
    assert len(begun) < 16


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_damaged_bytes_give_pixels_or_an_image_error(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(CORPUS)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(len(damaged) // 2, len(damaged)))]
    size = data.draw(st.sampled_from([None, 8]))
    try:
        pixels = decode(bytes(damaged), size)
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert size is None or pixels.shape == (size, size, 3)


def test_decode_many_keeps_the_order_and_passes_errors_on() -> None:
    # Large photos between small ones, so that later ones are ready first.
    sources = [encoded(noise(600 if i % 4 == 0 else 20, 400 if i % 4 == 0 else 20, i), "JPEG") for i in range(40)]
    sources[5] = b""
    sources[6] = b"text"
    for source, result in zip(sources, decode_many(sources, 16, threads=4), strict=True):
        if source in (b"", b"text"):
            assert isinstance(result, ImageError)
            assert str(result) == reason(source)
        else:
            assert isinstance(result, np.ndarray)
            assert np.array_equal(result, decode(source, 16))


def test_decode_many_holds_only_a_few_at_a_time() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while taken < 2000:
            taken += 1
            yield b""

    stream = decode_many(endless(), 16, threads=2)
    for _ in range(5):
        assert isinstance(next(stream), ImageError)
    assert taken < 100
    assert list(decode_many([], 16)) == []


def test_content_hash_follows_the_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for path in (first, second):
        path.write_bytes(b"same")
    assert content_hash(first) == content_hash(str(second))
    first.write_bytes(b"longer")
    assert content_hash(first) != content_hash(second)
    second.write_bytes(b"eman")
    os.utime(second, ns=(0, 1))
    assert content_hash(second) not in (content_hash(first), "")
    first.write_bytes(b"eman")
    assert content_hash(first) == content_hash(second)
    with pytest.raises(FileNotFoundError):
        content_hash(tmp_path / "none")


@pytest.mark.parametrize(
    ("photo", "at_once"),
    [
        (encoded(noise(64, 64), "PNG"), 1),
        (encoded(noise(64, 64), "JPEG"), 3),
        (encoded(noise(64, 64)[..., 0], "JPEG"), 3),
        (encoded(noise(64, 64), "JPEG", progressive=True), 1),
        # Scans of one channel each, of which this has the first one's header.
        (encoded(noise(64, 64), "JPEG").replace(b"\xff\xda\0\x0c\x03", b"\xff\xda\0\x08\x01"), 1),
    ],
)
def test_large_photos_are_decoded_one_at_a_time_unless_a_part_of_them_will_do(
    photo: bytes, at_once: int, monkeypatch
) -> None:
    monkeypatch.setattr(images, "LARGE_PIXELS", 64 * 64 - 1)
    met = threading.Barrier(at_once)
    inside = 0

    def pixels(image: Image.Image, size: int | None) -> None:
        nonlocal inside
        inside += 1
        assert inside <= at_once
        met.wait(20)  # for as many as should be here at the same time
        time.sleep(0.02)  # for more
        inside -= 1

    monkeypatch.setattr(images, "_pixels", pixels)
    assert list(decode_many([photo] * 3, 32, threads=3)) == [None] * 3

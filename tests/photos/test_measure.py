"""What is measured on a photo is exact, is remembered by content, and leaves the pixels for training."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from polytag.data.sample.scenes import draw_scene
from polytag.photos import measure as module
from polytag.photos.content import content_hash
from polytag.photos.decode import decode
from polytag.photos.measure import BINS, SIDE, THUMBNAIL, Measurements, measure, sharpness
from polytag.photos.pixels import Stored, pixel_cache, pixels


def measured(path: Path, image: Image.Image | bytes, **options: Any) -> NDArray:
    """The record of a photo that is saved there first."""
    if isinstance(image, bytes):
        path.write_bytes(image)
    else:
        image.save(path, **options)
    result = measure([str(path)])
    assert result.readable.all(), result.errors
    return result.records[0]


def two_halves(dark: int, light: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    image = Image.new("RGB", size, (dark, dark, dark))
    image.paste((light, light, light), (size[0] // 2, 0, *size))
    return image


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_flat_colour(tmp_path_factory: pytest.TempPathFactory, colour: tuple[int, int, int]) -> None:
    path = tmp_path_factory.mktemp("flat") / "flat.png"
    record = measured(path, Image.new("RGB", (40, 30), colour))
    luma = int(np.asarray(Image.new("RGB", (1, 1), colour).convert("L"))[0, 0])
    assert record["brightness"] == pytest.approx(luma / 255, abs=1e-6)
    assert record["contrast"] == pytest.approx(0, abs=1e-3)
    for name in ("p01", "p05", "p50", "p95", "p99"):
        assert record[name] == pytest.approx(luma / 255)
    for name, value in zip(("red", "green", "blue"), colour, strict=True):
        assert record[name] == pytest.approx(value / 255, abs=1e-6)
        assert record[f"{name}_square"] == pytest.approx((value / 255) ** 2, abs=1e-6)
    assert [int(np.flatnonzero(h)[0]) for h in record["histogram"]] == [value // 4 for value in colour]
    assert (measure([str(path)]).thumbnails[:] == luma).all()
    assert record["grey"] == (len(set(colour)) == 1)


def test_two_halves_have_known_percentiles(tmp_path: Path) -> None:
    record = measured(tmp_path / "halves.png", two_halves(51, 204, (SIDE, SIDE)))
    assert record["brightness"] == pytest.approx(0.5)
    assert record["contrast"] == pytest.approx(0.3)
    assert [record[name] for name in ("p01", "p05", "p50", "p95", "p99")] == pytest.approx([0.2, 0.2, 0.2, 0.8, 0.8])
    assert record["red_square"] == pytest.approx((0.2**2 + 0.8**2) / 2)
    assert record["histogram"][:, [51 // 4, 204 // 4]].tolist() == [[SIDE * SIDE // 2] * 2] * 3


def test_a_faint_tint_is_grey_unless_all_is_faint(tmp_path: Path) -> None:
    scene = draw_scene(["truck"], 96, 4)
    grey = np.asarray(scene.convert("L"))[..., None] + np.array([10, 0, -4])
    tinted = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    assert measured(tmp_path / "grey.jpg", scene.convert("L"), quality=30)["grey"]
    assert measured(tmp_path / "tinted.png", tinted)["grey"]
    assert not measured(tmp_path / "colour.jpg", scene)["grey"]
    faint = scene.point([220 + value // 8 for value in range(256)] * 3)
    assert not measured(tmp_path / "faint.png", faint)["grey"]
    assert measured(tmp_path / "faintgrey.png", faint.convert("L"))["grey"]


def test_every_pixel_is_in_the_histograms(tmp_path: Path) -> None:
    path = tmp_path / "scene.jpg"
    record = measured(path, draw_scene(["bus"], 96))
    assert record["histogram"].shape == (3, BINS)
    assert record["histogram"].sum(axis=1).tolist() == [SIDE * SIDE] * 3
    colours = decode(path, SIDE).reshape(-1, 3) / 255
    for i, name in enumerate(("red", "green", "blue")):
        assert record[name] == pytest.approx(colours[:, i].mean(), abs=1e-5)
        assert record[f"{name}_square"] == pytest.approx((colours[:, i] ** 2).mean(), abs=1e-5)


@pytest.mark.parametrize(("orientation", "size"), [(1, (80, 40)), (3, (80, 40)), (6, (40, 80)), (8, (40, 80))])
def test_width_and_height_are_upright(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    record = measured(tmp_path / "turned.jpg", Image.new("RGB", (80, 40), (90, 20, 40)), exif=exif)
    assert (record["width"], record["height"], record["orientation"]) == (*size, orientation)


def wide_png() -> bytes:
    """16-bit colour, which Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + np.full((20, 3), 40_000, ">u2").tobytes() for _ in range(10))
    header = struct.pack(">IIBBBBB", 20, 10, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def animation(frames: int) -> bytes:
    file = io.BytesIO()
    first, *others = [Image.new("RGB", (20, 20), (60 * i, 0, 0)) for i in range(frames)]
    first.save(file, "GIF", save_all=True, append_images=others)
    return file.getvalue()


RED = Image.new("RGB", (20, 20), (200, 0, 0))
HEADERS: dict[str, tuple[Any, str, str, int, bool, bool]] = {
    "plain.jpg": (RED, "JPEG", "RGB", 1, False, False),
    "plain.webp": (RED, "WEBP", "RGB", 1, False, False),
    "grey.png": (RED.convert("L"), "PNG", "L", 1, False, False),
    "cmyk.jpg": (RED.convert("CMYK"), "JPEG", "CMYK", 1, False, False),
    "palette.png": (RED.quantize(4), "PNG", "P", 1, False, False),
    "alpha.png": (RED.convert("RGBA"), "PNG", "RGBA", 1, True, False),
    "deepgrey.png": (Image.fromarray(np.full((20, 20), 30_000, np.uint16)), "PNG", "I;16", 1, False, True),
    "deep.png": (wide_png(), "PNG", "RGB", 1, False, True),
    "animated.gif": (animation(3), "GIF", "P", 3, False, False),
    "still.gif": (animation(1), "GIF", "P", 1, False, False),
}


@pytest.mark.parametrize("name", HEADERS)
def test_what_the_header_says(tmp_path: Path, name: str) -> None:
    image, form, mode, frames, alpha, deep = HEADERS[name]
    record = measured(tmp_path / name, image)
    assert (record["format"], record["mode"], record["frames"]) == (form, mode, frames)
    assert (record["alpha"], record["deep"]) == (alpha, deep)


def test_sharpness_falls_with_blur(tmp_path: Path) -> None:
    for seed in range(5):
        scene = draw_scene(["boat"] if seed % 2 else ["tabla", "sitar"], 160, seed)
        values = []
        for radius in (0, 0.7, 1.5, 3, 5, 8, 12):
            blurred = scene.filter(ImageFilter.GaussianBlur(radius))
            values.append(measured(tmp_path / f"{seed}-{radius}.png", blurred)["sharpness"])
        assert values == sorted(values, reverse=True)
        # A JPEG's noise is all that is sharp in a blurred photo, and must not count.
        assert measured(tmp_path / f"{seed}.jpg", blurred, quality=80)["sharpness"] < 0.4
        assert values[0] > 0.85 and values[1] > 0.75
        assert values[3] < 0.65 and max(values[4:]) < 0.4


def test_sharpness_does_not_depend_on_exposure() -> None:
    scene = draw_scene(["cycle"], 160, 3).convert("L")
    for factor in (0.3, 0.6):
        dark = scene.point([round(value * factor) for value in range(256)])
        assert sharpness(np.asarray(dark)) == pytest.approx(sharpness(np.asarray(scene)), abs=0.1)


def test_one_sharp_silhouette_outweighs_a_soft_sky() -> None:
    sky = np.linspace(60, 200, 160)[:, None].repeat(160, axis=1)
    sky[60:90, 40:120] = 0
    assert sharpness(sky.astype(np.uint8)) > 0.8
    soft = Image.fromarray(sky.astype(np.uint8)).filter(ImageFilter.GaussianBlur(6))
    assert sharpness(np.asarray(soft)) < 0.4


def test_an_enlarged_photo_is_judged_by_its_own_size(tmp_path: Path) -> None:
    small = draw_scene(["truck"], 160, 1).resize((60, 60))
    assert measured(tmp_path / "small.png", small)["sharpness"] > 0.85


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / f"{i}.jpg") for i in range(4)]
    for i, path in enumerate(paths):
        draw_scene(["bus"], 64, 100 + i).save(path)
    Path(paths[2]).write_text("no photo")
    return [*paths, str(tmp_path / "gone.jpg")]


def test_what_cannot_be_read_is_zero_and_says_why(photos: list[str]) -> None:
    progress: list[int] = []
    result = measure(photos, progress.append)
    assert sum(progress) == len(photos)
    assert result.readable.tolist() == [True, True, False, True, False]
    assert not result.records[[2, 4]].tobytes().strip(b"\0")
    assert {path: error.problem for path, error in result.errors.items()} == {
        photos[2]: "not an image",
        photos[4]: "missing",
    }
    assert len(result.records) == len(result.histograms) == len(result.thumbnails) == 5
    brightness = result.records["brightness"][result.readable]
    assert ((brightness > 0) & (brightness < 1)).all()


def test_nothing_is_decoded_twice(photos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = measure(photos)
    # A copy under another name has the same content.
    copy = Path(photos[0]).with_name("copy.jpg")
    copy.write_bytes(Path(photos[0]).read_bytes())
    decoded: list[str] = []
    examine = module.examine

    def spy(path: str, side: int) -> Any:
        decoded.append(path)
        return examine(path, side)

    monkeypatch.setattr(module, "examine", spy)
    after = measure([*photos[::-1], str(copy)])
    assert decoded == [photos[2]]  # what could not be read may have been mended
    assert after.records[:5][::-1].tobytes() == before.records.tobytes()
    assert after.records[5] == before.records[0]

    draw_scene(["boat"], 64, 9).save(photos[1])
    assert measure(photos).records[1] != before.records[1]
    assert decoded.count(photos[1]) == 1


def test_training_finds_the_pixels_in_its_cache(photos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for i, path in enumerate(photos[:3]):
        draw_scene(["bus"], 64, 200 + i).save(path)
    measure(photos[:2], keep_pixels=True)
    measure(photos[:3])
    assert pixel_cache(SIDE).rows([content_hash(photos[2])]).tolist() == [-1]
    with monkeypatch.context() as patched:
        patched.setattr("polytag.photos.pixels.decode", lambda *_: pytest.fail("decoded again"))
        data, rows, bad = pixels(photos[:2], SIDE)
    assert not bad
    for path, row in zip(photos, rows, strict=False):
        np.testing.assert_array_equal(data[row], decode(path, SIDE))


def test_pixels_are_read_where_they_are_stored_and_decoded_elsewhere(photos: list[str]) -> None:
    for i, path in enumerate(photos[:3]):
        draw_scene(["boat"], 64, 300 + i).save(path)
    keys = [content_hash(path) for path in photos[:3]]
    expected = np.stack([decode(path, 48) for path in photos[:3]])
    pixels(photos[1:2], 48)
    stored = Stored(keys, photos[:3], 48)
    assert (stored.rows >= 0).tolist() == [False, True, False]
    assert np.array_equal(stored[0:3], expected)
    assert np.array_equal(stored[1:2], expected[1:2])


def test_thumbnails_are_read_from_the_cache_when_they_are_indexed(photos: list[str]) -> None:
    thumbnails = measure(photos).thumbnails
    everything = thumbnails[:]
    assert everything.shape == (len(photos), THUMBNAIL, THUMBNAIL) and everything.dtype == np.uint8
    luma = Image.fromarray(decode(photos[0], SIDE)).convert("L")
    assert np.array_equal(everything[0], np.asarray(luma.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)))
    assert not everything[[2, 4]].any()  # what cannot be read
    assert np.array_equal(thumbnails[np.array([3, 2, 0])], everything[[3, 2, 0]])
    assert np.array_equal(thumbnails[1:4], everything[1:4])


def test_no_photos() -> None:
    result = measure([])
    assert isinstance(result, Measurements) and len(result.records) == 0

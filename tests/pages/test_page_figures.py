"""Figures become parts of a page, in its colours and referring to nothing; thumbnails keep a photo's proportions."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from polytag.errors import ImageError
from polytag.pages.figures import CHANNELS, COLOURS, INK, heatmap, panel, short, svg
from polytag.pages.text import joined
from polytag.pages.thumbnails import thumbnail, thumbnails


def opened(uri: str) -> Image.Image:
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def drawn(name: str = "a") -> str:
    figure, axes = panel(2, 1, left=0.2, right=0.1, bottom=0.2)
    for i, colour in enumerate((*COLOURS, *CHANNELS, INK)):
        axes.plot([0, 1.123456789], [i, i], color=colour)
    axes.text(0, 0, "v1.123456789 <b>&")
    return svg(figure, name)


def test_a_figure_follows_the_page():
    markup = drawn()
    colours = re.findall(r"var\(--([\w-]+)\)", markup)
    assert {*(f"colour-{i}" for i in range(5)), "red", "green", "blue", "ink"} <= set(colours)
    assert not any(colour in markup for colour in (*COLOURS, *CHANNELS, INK))
    assert "DejaVu" not in markup
    assert markup.startswith('<svg viewBox="0 0 144.0 72.0"')
    assert "http" not in markup and "<style" not in markup


def test_paths_are_rounded_and_text_is_not():
    markup = drawn()
    assert "v1.123456789 &lt;b&gt;&amp;" in markup
    assert not any(re.search(r"\.\d{3}", path) for path in re.findall(r' d="([^"]*)"', markup))


def test_two_figures_share_no_id():
    ids = [re.findall(r'id="([^"]*)"', drawn(name)) for name in ("a", "b")]
    assert not set(ids[0]) & set(ids[1]) and drawn("a") == drawn("a")


def test_heatmap_writes_every_number_and_leaves_nan_empty():
    texts = [
        t.get_text() for t in heatmap([[12, np.nan], [0, 7.4]], ["r", "s"], ["c", "d"], "also", "with").axes[0].texts
    ]
    assert texts[:3] == ["12", "0", "7"] and texts[3:] == ["also →", "with ↓"]
    assert heatmap(np.full((1, 1), np.nan), ["r"], ["c"], "a", "b").axes[0].texts[0].get_text() == "a →"


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(900, 300, (60, 20)), (300, 900, (20, 60)), (30, 20, (30, 20))]
)
def test_thumbnails_keep_proportions_and_never_enlarge(tmp_path, width, height, expected):
    path = str(tmp_path / "photo.png")
    Image.new("RGB", (width, height), (200, 40, 90)).save(path)
    (uri,) = thumbnails([path], [(width, height)], 60)
    assert isinstance(uri, str) and opened(uri).size == expected
    np.testing.assert_allclose(opened(uri).convert("RGB").getpixel((5, 5)), (200, 40, 90), atol=6)
    longest = max(opened(thumbnail(path)).size)
    assert longest == min(240, max(width, height))


def test_a_turned_photo_is_shown_upright(tmp_path):
    path = str(tmp_path / "photo.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (80, 40), "black")
    image.paste("white", (0, 0, 40, 40))
    image.save(path, exif=exif)
    (uri,) = thumbnails([path], [(40, 80)], 60)
    assert isinstance(uri, str)
    photo = opened(uri).convert("L")
    assert photo.size == (30, 60) and photo.getpixel((15, 10)) > 200 and photo.getpixel((15, 50)) < 50


def test_a_photo_that_cannot_be_read_is_no_thumbnail(tmp_path, photos):
    (good,) = photos(tmp_path, 1)
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    made = list(thumbnails([str(tmp_path / "bad.jpg"), good, str(tmp_path / "gone.jpg")], [(32, 24)] * 3))
    assert [isinstance(one, ImageError) for one in made] == [True, False, True]
    with pytest.raises(ImageError, match="not an image"):
        thumbnail(str(tmp_path / "bad.jpg"))


def test_long_names_are_cut():
    assert short("stop sign") == "stop sign"
    assert short("a very long name of a label") == "a very long name of…"
    assert short("猫" * 20) == "猫" * 9 + "…"
    assert short("two\nlines") == "two lines"


def test_items_are_joined_in_words():
    assert [joined(["a", "b", "c"][:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]

"""The explore page states exactly what is in the data, and is safe against hostile names."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.data.dataset import Dataset
from polytag.errors import DataError, SettingsError
from polytag.exploring import maps as drawing
from polytag.exploring.counts import Counts
from polytag.exploring.explore import explore
from polytag.exploring.maps import embedding_maps
from polytag.pages.text import percent
from polytag.photos.groups import grouped


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text of each section."""

    def __init__(self, path: Path):
        super().__init__()
        self.markup = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.section, self.raw = "header", {"header": ""}
        self._in_style = False
        self.feed(self.markup)
        self.text = {section: " ".join(text.split()) for section, text in self.raw.items()}

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in_style = tag == "style"
        if tag in ("section", "footer"):
            self.section = dict(attrs).get("id") or tag
            self.raw[self.section] = ""

    def handle_endtag(self, tag):
        self._in_style = False

    def handle_data(self, data):
        if not self._in_style:
            self.raw[self.section] += data

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.elements if attribute in attrs]


def dataset(paths, targets, labels, **changes) -> Dataset:
    paths = np.array(paths)
    readable = [path for path in paths if Path(path).exists()]
    groups = grouped(list(paths)) if len(readable) == len(paths) else np.arange(len(paths))
    root = Path(paths[0]).parent
    return Dataset(paths, np.array(targets, np.int8), tuple(labels), groups, root, **changes)


def planted(folder: Path, photos) -> Dataset:
    """40 photos: cat alone 20, cat and dog 10, bus alone 3, nothing 3, all three 1, cat unknown 3; never a tree."""
    rows = [[0, 1, 0, 0]] * 20 + [[0, 1, 1, 0]] * 10 + [[1, 0, 0, 0]] * 3 + [[0, 0, 0, 0]] * 3 + [[1, 1, 1, 0]]
    rows += [[0, -1, 0, 0]] * 3
    notes = ("read from <labels.csv>",)
    left_out = {"gone.jpg": "there is no such file"}
    data = dataset(photos(folder / "holiday", 40), rows, ("bus", "cat", "dog", "tree"), notes=notes, left_out=left_out)
    Path(data.paths[7]).write_bytes(b"no photo")
    return data


@pytest.fixture(scope="module")
def page(tmp_path_factory, photos) -> Page:
    folder = tmp_path_factory.mktemp("explored")
    embeddings = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    # Photos of dogs are far from the others, and near each other.
    embeddings[20:30] += 50
    embeddings[36] += 50
    embeddings[7] = np.nan
    ready: list[int] = []
    path = explore(planted(folder, photos), folder / "out" / "deep", embeddings, on_progress=ready.append)
    assert path == folder / "out" / "deep" / "index.html" and sum(ready) == 40
    return Page(path)


def test_the_summary_has_the_numbers(page):
    told = page.text["header"]
    assert "What is in holiday?" in told
    assert "40 photos with 4 labels, 1.15 labels per photo on average." in told
    assert "The most frequent label is cat (78% of the photos), the least frequent is bus (10%)." in told
    for remark in (
        "No photo has tree. A model cannot learn it.",
        "On fewer than 20 photos: dog (11), bus (4).",
        "6 photos have no label (15%).",
        "3 of 160 entries (1.9%) are unknown",
        "1 photo cannot be read: image7.jpg (not an image (expected JPEG, PNG, WebP, BMP, GIF, TIFF, HEIC or AVIF)).",
        "1 listed photo could not be used: gone.jpg (there is no such file).",
    ):
        assert remark in told, remark
    assert "exactly one label" not in told and "imbalanced" not in told and "group" not in told


def test_readings_of_the_labels_are_exact(page):
    told = page.text["labels"]
    assert "Most frequent: cat. Least frequent: bus" in told
    assert "31 of 40 photos (78%) have the label cat, 7.8 times as many as bus (4). No photo has tree." in told
    assert "1.9% of all entries are unknown (pale)." in told
    assert "1.15 labels per photo on average" in told
    assert "23 photos have exactly one label (58%), and 6 photos have none. No photo has more than 3 labels." in told
    assert "Unknown labels are not counted." in told


def test_readings_of_the_combinations_are_exact(page):
    told = page.text["combinations"]
    assert "Most frequent combination: cat only" in told
    assert "20 of 40 photos (50%) have it." in told
    assert "There are 5 combinations in all. 1 combination occurs only once." in told
    assert "Strongest pair: dog and cat" in told
    # cat is known on 37 photos.
    assert (
        "Of the 11 photos with dog, 11 (100%) also have cat. Among all photos 84% have cat. Conversely, 35% of the "
        "photos with cat have dog." in told
    )
    assert "never occur" not in told and "Percentages count only photos for which both labels are known." in told


def test_samples_show_the_labels_they_stand_for(page):
    told = page.text["samples"]
    assert "cat 31" in told and "cat and dog 10" in told and "no label 6" in told and "tree" not in told
    shown = [(attrs["src"], attrs["alt"]) for tag, attrs in page.elements if tag == "img"]
    # 6 of cat and dog and 4 of bus; then 3 of each combination, of which one has a single photo.
    assert len(shown) == 16 + 4 * 3 + 1
    assert all(source.startswith("data:image/jpeg;base64,") for source, _ in shown)
    assert all("cat" in alt for _, alt in shown[:6]) and all("dog" in alt for _, alt in shown[6:12])
    assert not any("image7.jpg" in alt for _, alt in shown)


def test_the_map_tells_which_labels_lie_together(page):
    told = page.text["map"]
    assert "Photos with dog lie closest together" in told
    assert "The maps show 39 photos and the 3 most frequent labels." in told
    # Each of the 11 has the 10 others nearest.
    assert "100% of their 10 nearest photos have it, against 28% of all." in told


def test_the_page_needs_nothing_else(page):
    assert "http:" not in page.markup and "https:" not in page.markup and "@import" not in page.markup
    assert set(re.findall(r"url\((.)", page.markup)) <= {"#"}
    assert all(target.startswith("#") for target in page.values("href") + page.values("xlink:href"))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    ids = page.values("id")
    assert len(ids) == len(set(ids)), "pictures share ids"


def test_every_picture_is_told_in_words(page):
    told = [attrs["aria-label"] or "" for _, attrs in page.elements if attrs.get("role") == "img"]
    assert len(told) == sum(tag == "svg" for tag, _ in page.elements) == 4 + 2 + 4 + 3
    assert all(re.search(r"\. .+\.$", words) for words in told)
    everything = " ".join(page.text.values())
    assert "nan" not in everything.split() and "  " not in everything
    assert "<labels.csv>" in page.text["notes"]


def test_sizes_shapes_and_colours(tmp_path):
    paths = []
    for i, size in enumerate([(60, 20)] * 3 + [(10, 20)]):
        paths.append(str(tmp_path / f"{i}.png"))
        # Each photo has content of its own, but all have the same mean.
        photo = Image.new("RGB", size, (51, 102, 204))
        photo.putpixel((0, i), (51, 102, 205))
        photo.save(paths[-1])
    told = Page(explore(dataset(paths, [[1, 0]] * 3 + [[0, 1]], ("sea", "sky")), tmp_path / "out")).text
    assert "From 10×20 to 60×20 pixels" in told["photos"]
    assert "The most frequent size is 60×20 (3 photos, 75%)" in told["photos"]
    assert "4 photos have a side under 224 pixels" in told["photos"]
    assert "3 landscape (75%), 1 portrait (25%) and 0 square (0%)" in told["photos"]
    assert (
        "The widest is 3 times as wide as it is high. The tallest is 2 times as high as it is wide." in told["photos"]
    )
    assert "red 0.200 ± 0.000, green 0.400 ± 0.000 and blue 0.800 ± 0.0" in told["light"]
    assert "Blue is the brightest channel" in told["light"]
    assert "The difference from ImageNet (hollow) is largest for blue (+0.394)" in told["light"]
    # (0.2 − 0.485) / 0.229 and so on
    assert "have means of −1.24, −0.25 and 1.75" in told["light"] and "far from the 0 and 1" in told["light"]
    assert "No photo has two labels" in told["combinations"]
    assert "map" not in told


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{$",
    "猫 ünïcode 🐈 **bold**",
    "</svg><style>*{display:none}</style>",
)


def test_names_are_only_text(tmp_path, photos):
    targets = np.triu(np.ones((6, 6), np.int8))
    data = dataset(photos(tmp_path / "<b>", [f"'<i>{i}.jpg" for i in range(6)]), targets, HOSTILE)
    page = Page(explore(data, tmp_path / "out"))
    assert not {"script", "i", "b"} & {tag for tag, _ in page.elements}
    assert sum(tag == "style" for tag, _ in page.elements) == 1
    assert all((source or "").startswith("data:") for source in page.values("src"))
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    for label in HOSTILE:
        assert label in page.text["labels"], label
    assert "What is in <b>?" in page.text["header"]


@pytest.mark.parametrize(
    ("n", "labels", "value", "expected"),
    [
        (1, ("cat",), 1, "1 photo with 1 label. Each label that occurs is on 100% of the photos."),
        (1, ("cat", "dog"), 1, "Most frequent combination: cat and dog"),
        (
            2,
            ("cat", "dog"),
            0,
            "2 photos with 2 labels, 0.00 labels per photo on average. No label is known to be present on any photo.",
        ),
        (2, ("cat",), -1, "100% of all entries are unknown (pale)."),
        (
            3,
            [f"a rather long name of label number {i}" for i in range(70)],
            1,
            "The chart shows the 60 most frequent of 70 labels.",
        ),
    ],
    ids=["one photo, one label", "one photo", "no label present", "all unknown", "many long labels"],
)
def test_few_photos_and_many_labels(tmp_path, photos, n, labels, value, expected):
    targets = np.full((n, len(labels)), value)
    embeddings = np.zeros((n, 4), np.float32)
    page = Page(explore(dataset(photos(tmp_path / "in", n), targets, labels), tmp_path / "out", embeddings))
    everything = " ".join(page.text.values())
    assert expected in everything
    assert "A map needs at least 30 readable photos" in everything
    assert not re.search(r"\bnan\b|\b1 photos\b|\b1 labels\b|\b1 pairs\b", everything)
    assert len(page.markup) < 3_000_000


def test_no_photo_can_be_read(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no photo")
    paths = [str(tmp_path / "in" / name) for name in ("bad.jpg", "gone.jpg")]
    page = Page(explore(dataset(paths, [[1], [0]], ("cat",)), tmp_path / "out", np.full((2, 4), np.nan, np.float32)))
    assert "2 photos cannot be read: bad.jpg (not an image" in page.text["header"]
    assert "None of the photos can be read." in page.text["photos"] and "light" not in page.text
    assert "1 of 2 photos (50%) have the label cat" in page.text["labels"]
    assert "None of these photos can be read." in page.text["samples"]


def test_copies_and_single_labels_stand_out(tmp_path, photos):
    paths = photos(tmp_path / "in", 5)
    for i in (1, 2):
        Path(paths[i]).write_bytes(Path(paths[0]).read_bytes())
    told = Page(explore(dataset(paths, [[1, 0]] * 4 + [[0, 1]], ("cat", "dog")), tmp_path / "out")).text["header"]
    assert "2 photos belong to the same group as an earlier one. A split keeps groups together." in told
    assert "5 photos have exactly one label (100%)" in told


def test_a_page_is_replaced_only_on_request(tmp_path, photos):
    data = dataset(photos(tmp_path / "in", 3), [[1]] * 3, ("cat",))
    page = explore(data, tmp_path / "out")
    first = page.read_bytes()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(SettingsError, match=r"exists already\. Name another folder with --out, or add --overwrite"):
        explore(data, tmp_path / "out")
    assert explore(data, tmp_path / "out", overwrite=True).read_bytes() == first, "the same data give the same page"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "mine.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="Name another folder with --out"):
        explore(data, tmp_path / "file")


def test_what_cannot_be_explored_is_refused(tmp_path, photos):
    data = dataset(photos(tmp_path / "in", 3), [[1]] * 3, ("cat",))
    with pytest.raises(DataError, match="nothing to explore"):
        explore(data.take([]), tmp_path / "out")
    with pytest.raises(DataError, match="an embedding for each of 3 photos, got 2"):
        explore(data, tmp_path / "out", np.zeros((2, 4), np.float32))
    assert not (tmp_path / "out").exists()


def test_counts_agree_with_counting_one_by_one():
    rng = np.random.default_rng(3)
    targets = rng.choice([-1, 0, 1], (200, 9), p=[0.1, 0.6, 0.3]).astype(np.int8)
    c = Counts(dataset([f"/p/{i}.jpg" for i in range(200)], targets, "abcdefghi"))
    sets = [tuple(np.flatnonzero(row == 1).tolist()) for row in targets]
    combinations = c.combinations(200)
    assert {found.labels: found.photos for found in combinations} == {s: sets.count(s) for s in sets}
    assert len(combinations) == len(c.sets[2])
    for found in combinations:
        assert all(sets[row] == found.labels for row in found.rows)
    order = [(-found.photos, len(found.labels), found.labels) for found in combinations]
    assert order == sorted(order)
    assert [found.labels for found in c.combinations(7)] == [found.labels for found in combinations[:7]]
    both, share = c.together
    for a in range(9):
        for b in range(9):
            with_a = [row for row in targets if row[a] == 1 and row[b] != -1]
            assert both[a, b] == sum(row[b] == 1 for row in with_a)
            assert share[a, b] == pytest.approx(np.mean([row[b] == 1 for row in with_a]))


def test_the_strongest_pair_needs_more_than_an_accident():
    targets = np.zeros((100, 4), np.int8)
    targets[:50, 0] = 1
    targets[40:60, 1] = 1
    targets[:30, 2] = 1
    targets[60:62, 3] = targets[60:62, 1] = 1
    c = Counts(dataset([f"/p/{i}.jpg" for i in range(100)], targets, "abcd"))
    # d is on two photos, both with b; c on thirty, all with a.
    assert c.strongest([0, 1, 2, 3]) == (2, 0)
    assert c.strongest([1, 2]) is None and c.strongest([]) is None


def test_a_map_needs_photos_that_differ():
    targets = np.ones((40, 1), np.int8)
    c = Counts(dataset([f"/p/{i}.jpg" for i in range(40)], targets, "a"))
    told, maps = embedding_maps(c, np.arange(40), np.ones((40, 3), np.float32).__getitem__, 0)
    assert "all photos look the same" in told and not maps


def test_only_photos_on_a_map_are_embedded(monkeypatch):
    monkeypatch.setattr(drawing, "POINTS", 30)
    vectors = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    asked = []

    def embed(rows):
        asked.append(rows.tolist())
        return vectors[rows]

    c = Counts(dataset([f"/p/{i}.jpg" for i in range(40)], np.eye(2, dtype=np.int8)[np.arange(40) % 2], "ab"))
    told, maps = embedding_maps(c, np.arange(1, 40), embed, 0)
    assert len(asked) == 1 and len(asked[0]) == 30 and 0 not in asked[0]
    assert "30 photos drawn at random" in told and len(maps) == 2


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [(0, 5, "0"), (5, 5, "100"), (1, 3, "33"), (1, 5000, "<0.1"), (1, 40, "2.5"), (9999, 10000, "99.9"), (0, 0, "0")],
)
def test_shares_are_zero_or_all_only_where_they_are(part, whole, expected):
    assert percent(part, whole) == f"{expected}%"


def test_a_page_about_a_thousand_labels_stays_small(tmp_path, photos):
    rng = np.random.default_rng(0)
    labels = [f"a rather long name of label number {i}" for i in range(1500)]
    targets = rng.random((40, 1500)) < 0.4
    data = dataset(photos(tmp_path / "in", 40), targets, labels, notes=tuple("a note" for _ in range(500)))
    page = Page(explore(data, tmp_path / "out", rng.normal(size=(40, 4)).astype(np.float32)))
    told = " ".join(page.text.values())
    assert "The 1,000 most frequent of 1,500 labels." in told and "and 450 more" in told
    assert "and 12 more" in told or re.search(r"and \d+ more", page.text["samples"]), "combinations are named in short"
    assert len(page.markup) < 2_500_000
    assert max(len(alt) for alt in page.values("alt")) < 600

"""The audit's page is self-contained, safe against hostile names, and says the right things."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from polytag.auditing.audit import Audit, audit
from polytag.auditing.contact_sheet import CELL, CELLS, contact_sheet
from polytag.auditing.findings import findings_table, rows
from polytag.auditing.issues import ISSUES
from polytag.auditing.report import CASES, LONGEST, answer, write_report
from polytag.data.dataset import Dataset
from polytag.data.sample.scenes import draw_scene
from polytag.errors import SettingsError

HOSTILE = "<script>alert(1)</script>\"'&"


class Page(HTMLParser):
    """The parts of a page. Fails if tags are not closed in order."""

    def __init__(self, path: Path):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.source = path.read_text()
        self.feed(self.source)
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img", "br", "link", "input", "hr"):
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href"):
                self.links.append((tag, value or ""))
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    @property
    def pictures(self) -> list[Image.Image]:
        found = [value for tag, value in self.links if tag == "img"]
        assert all(value.startswith("data:image/") for value in found)
        return [Image.open(io.BytesIO(base64.b64decode(value.split(",")[1]))) for value in found]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sixty photos with two labels and nothing odd."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [str(folder / f"{i}.jpg") for i in range(60)]
    for i, path in enumerate(paths):
        draw_scene(["bus"] if i % 2 else ["boat"], 72, 900 + i).save(path, quality=85)
    targets = np.zeros((60, 2), np.int8)
    targets[::2, 0] = targets[1::2, 1] = 1
    return Dataset(np.array(paths), targets, ("boat", "bus"), np.arange(60), folder)


def page(found: Audit, folder: Path) -> Page:
    path = write_report(found, folder, "photos")
    assert path == folder / "index.html" and [file.name for file in folder.iterdir()] == ["index.html"]
    made = Page(path)
    outside = [value for _, value in made.links if not value.startswith(("data:image/", "#"))]
    assert outside == [] and "script" not in made.tags and "url(" not in made.source
    assert {value[1:] for _, value in made.links if value.startswith("#")} <= set(made.ids)
    return made


def test_nothing_found(data: Dataset, tmp_path: Path) -> None:
    found = audit(data)
    made = page(found, tmp_path / "r")
    assert answer(found) in made.words and "The audit found nothing odd in 60 photos" in made.words
    assert not made.pictures and "findings" not in made.ids


def test_hostile_names_are_text(data: Dataset, tmp_path: Path) -> None:
    paths = data.paths.tolist()
    hostile = data.root / f"{HOSTILE.replace('/', '∕')}.jpg"
    hostile.write_bytes(Path(paths[3]).read_bytes())
    try:
        found = audit(
            replace(
                data,
                paths=np.array([*paths[:-1], str(hostile)]),
                labels=(HOSTILE, HOSTILE.upper()),
                notes=(HOSTILE,),
                left_out={f"{HOSTILE}.png": "no such file"},
            )
        )
        made = page(found, tmp_path / "r")
    finally:
        hostile.unlink()
    assert {"exact_duplicate", "missing", "label_variant"} <= found.counts.keys()
    for text in (HOSTILE, HOSTILE.upper(), hostile.name, f"{HOSTILE}.png"):
        assert text in made.words
    assert write_report(found, tmp_path / "named", HOSTILE).exists()
    assert HOSTILE in Page(tmp_path / "named" / "index.html").words


def test_unreadable_photos_only(data: Dataset, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("text")
    paths = np.array([*data.paths[:-1], str(broken)])
    found = audit(replace(data, paths=paths, left_out={"gone.jpg": "no such file"}))
    assert found.counts == {"missing": 1, "not_an_image": 1}
    made = page(found, tmp_path / "r")
    assert made.pictures == [] and "broken.jpg (not an image" in made.words and "gone.jpg (no such file)" in made.words
    assert "Fix this first: missing file (1 photo), not an image (1 photo)." in made.words


def test_labels_only(data: Dataset, tmp_path: Path) -> None:
    targets = np.column_stack([data.targets, np.zeros(60, np.int8)])
    found = audit(replace(data, targets=targets, labels=("boat", "boats", "ghost")))
    assert found.counts == {"similar_labels": 1, "never_present": 1}
    made = page(found, tmp_path / "r")
    assert "labels" in made.ids and not {"similar_labels", "never_present"} & set(made.ids)
    assert made.links.count(("a", "#labels")) == 2 and not made.pictures
    assert "Fix this first: label never present (1 label)." in made.words
    assert "'boat' and 'boats' (on 30 and 30 photos) never occur together" in made.words


def test_the_answer_counts_in_words(data: Dataset) -> None:
    targets = data.targets.copy()
    targets[0] = 0
    one = audit(replace(data, targets=targets))
    assert one.counts == {"no_label": 1}
    assert answer(one) == "Nothing needs to be fixed. One thing is good to know: no label (1 photo)."
    two = audit(replace(data, targets=targets, repeats={"3.jpg": (1, 2), "5.jpg": (4, 6)}))
    assert answer(two) == (
        "Nothing needs to be fixed. 2 findings are good to know. The most frequent is listed more than once (2 photos)."
    )


def test_the_worst_cases_are_shown_with_their_pictures(data: Dataset, tmp_path: Path) -> None:
    paths = data.paths.tolist()
    n = CASES + 3
    for i in range(n):
        copy = tmp_path / f"copy{i:02}.jpg"
        Image.open(paths[i]).resize((400, 400)).save(copy, quality=30 + i)
        paths.append(str(copy))
    targets = np.concatenate([data.targets, data.targets[:n]])
    targets[60] = 1 - targets[60]
    found = audit(Dataset(np.array(paths), targets, data.labels, np.arange(60 + n), Path(paths[0]).parent.parent))
    assert found.counts == {"near_duplicate": n, "conflicting_duplicate": 1}
    made = page(found, tmp_path / "r")
    # Two pictures of each pair, each no larger than it needs to be.
    assert len(made.pictures) == 2 * (CASES + 1)
    assert {max(picture.size) for picture in made.pictures} <= {72, LONGEST}
    assert f"The {CASES} worst are shown." in made.words
    assert "they disagree on boat, bus (near duplicate)" in made.words
    (clean,) = re.findall(r"Also checked, nothing found: (.*?)\.", made.words)
    # Without a split there are no leaks to be found, and nobody asked a model about labels.
    not_asked = {"leak", "missing_label", "wrong_label"}
    assert clean.split(", ") == [
        issue.title[0].lower() + issue.title[1:]
        for name, issue in ISSUES.items()
        if name not in not_asked | found.counts.keys()
    ]
    assert re.search(r"Different pictures 60\b", made.words)


def test_a_page_is_not_replaced_unasked(data: Dataset, tmp_path: Path) -> None:
    found = audit(data)
    path = write_report(found, tmp_path / "r", "first")
    with pytest.raises(SettingsError, match="--overwrite"):
        write_report(found, tmp_path / "r", "second")
    assert "first" in path.read_text()
    write_report(found, tmp_path / "r", "second", overwrite=True)
    assert "second" in path.read_text()
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be created"):
        write_report(found, tmp_path / "file", "third")


def test_a_page_about_many_labels_and_findings_stays_small(data: Dataset, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = tuple(f"a rather long name of label {i:04}" for i in range(1200))
    left_out = {f"missing {i}.jpg": "no such file" for i in range(2000)}
    found = audit(
        replace(
            data,
            targets=(rng.random((60, 1200)) < 0.2).astype(np.int8),
            labels=labels,
            left_out=left_out,
            notes=tuple(f"note {i}" for i in range(300)),
        )
    )
    assert found.counts["rare"] > 1000 and found.counts["missing"] == 2000
    found = replace(
        found,
        findings=findings_table(
            [
                found.findings.astype({"issue": object}),
                rows("tiny", [found.names[i % 60] for i in range(600)], "shorter side 20, limit 64"),
            ]
        ),
    )
    made = page(found, tmp_path / "r")
    assert len(made.source) < 300_000
    assert re.search(r"\d+ of [\d,]+ findings are shown", made.words) and "and 250 more" in made.words
    assert f"The {CASES} worst are shown." in made.words


def test_a_contact_sheet_is_as_large_as_its_limit(data: Dataset, tmp_path: Path) -> None:
    names = [data.names[i % 60] for i in range(5000)]
    errors = pd.DataFrame({"image": names, "label": "boat", "kind": "wrong", "score": 0.1, "probability": 0.1})
    assert contact_sheet(data, errors, tmp_path / "sheet.png") == CELLS
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width * sheet.height == CELLS * CELL[0] * CELL[1]

"""The audit of small, odd datasets. test_audit_planted.py has one with many known defects."""

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from polytag.auditing.audit import Audit, audit
from polytag.auditing.checks.copies import disputed
from polytag.auditing.checks.photos import EXTENSIONS_OF
from polytag.auditing.findings import COLUMNS
from polytag.auditing.issues import ISSUES, SCALED, UNREADABLE
from polytag.auditing.report import write_report
from polytag.data.dataset import Dataset
from polytag.data.reading.read import read
from polytag.data.sample.scenes import draw_scene
from polytag.errors import DataError, MachineError
from polytag.photos.array_cache import ArrayCache
from polytag.photos.decode import FORMATS
from polytag.photos.kinds import EXTENSIONS
from polytag.photos.pixels import View

LABELS = ("boat", "sea")


def scenes(folder: Path, n: int, labels: Sequence[str] = LABELS) -> Dataset:
    """Different photos: the first half shows the first label, the rest the second."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(folder / f"{i}.jpg") for i in range(n)]
    for i, path in enumerate(paths):
        draw_scene(["bus"] if i % 2 else [], 80, 500 + i).save(path, quality=90)
    targets = np.zeros((n, len(labels)), np.int8)
    targets[: n // 2, 0] = targets[n // 2 :, 1] = 1
    return Dataset(np.array(paths), targets, tuple(labels), np.arange(n), folder)


def flags(found: Audit) -> set[tuple[str, str, str]]:
    rows = found.findings
    return set(zip(rows["issue"].astype(str), rows["image"].astype(str), rows["label"], strict=True))


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return scenes(tmp_path / "photos", 6)


RARE = {("rare", "", "boat"), ("rare", "", "sea")}
"""Six photos are too few for any label."""


def test_every_issue_is_described() -> None:
    assert {*UNREADABLE.values(), *SCALED} <= ISSUES.keys()
    for issue in ISSUES.values():
        assert issue.title and issue.advice.endswith((".", "?"))
    assert {ending for endings in EXTENSIONS_OF.values() for ending in endings} >= EXTENSIONS
    assert EXTENSIONS_OF.keys() >= {*FORMATS}


def test_embeddings_may_stay_in_the_cache(data: Dataset) -> None:
    Path(data.paths[4]).write_bytes(b"no photo")
    # A copy that the embeddings make a candidate.
    Image.open(data.paths[0]).resize((96, 96)).save(data.paths[5], quality=80)
    vectors = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    vectors[5] = vectors[0]
    cache = ArrayCache("features-of-the-audit", (8,), "float32")
    cache.add([str(i) for i in range(6)], vectors)
    vectors[4] = np.nan
    view = View(cache, np.array([0, 1, 2, 3, -1, 5]), absent=np.nan)
    np.testing.assert_array_equal(view[:], vectors)
    stored, given = audit(data, view), audit(data, vectors)
    assert stored.pairs == given.pairs and ("near_duplicate", "5.jpg", "") in flags(stored)
    pd.testing.assert_frame_equal(stored.findings, given.findings)


def test_clean_photos_have_no_finding(data: Dataset) -> None:
    found = audit(data)
    assert flags(found) == RARE and found.counts == {"rare": 2}
    assert tuple(found.findings.columns) == COLUMNS
    assert set(found.findings["image"]) == {""}
    for issue in SCALED:
        scores = found.scores(issue)
        assert scores.dtype == np.float32 and scores.shape == (6,) and ((scores >= 0.5) & (scores <= 1)).all()
    with pytest.raises(KeyError):
        found.scores("missing")
    np.testing.assert_array_equal(found.dataset.targets, data.targets)
    assert found.statistics["pictures"] == 6


def test_photos_that_cannot_be_read_are_left_out(data: Dataset) -> None:
    Path(data.paths[1]).write_text("text")
    Path(data.paths[4]).unlink()
    found = audit(replace(data, left_out={"gone.jpg": "no such file"}))
    assert flags(found) - RARE == {
        ("not_an_image", "1.jpg", ""),
        ("missing", "4.jpg", ""),
        ("missing", "gone.jpg", ""),
    }
    assert found.dataset.names == ["0.jpg", "2.jpg", "3.jpg", "5.jpg"]
    assert found.names == tuple(data.names)
    assert (found.statistics["photos"], found.statistics["readable"]) == (7, 4)
    reasons = found.findings.set_index("image")["detail"]
    assert reasons["gone.jpg"] == "no such file" and "not an image" in reasons["1.jpg"]


def test_nothing_readable_is_one_clear_error(data: Dataset) -> None:
    for path in data.paths:
        Path(path).write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 6 images can be read: 0\.jpg \(the file is empty\)"):
        audit(data)


def test_a_photo_that_nobody_annotated_is_not_missing(data: Dataset) -> None:
    left_out = {"5.jpg": "not annotated", "gone.jpg": "no such file"}
    found = audit(replace(data.take(range(5)), left_out=left_out))
    assert flags(found) - RARE == {("all_unknown", "5.jpg", ""), ("missing", "gone.jpg", "")}


def test_rows_that_conflict_are_told_when_their_photos_were_left_out(data: Dataset) -> None:
    table = data.root.parent / "labels.csv"
    rows = [f"{name},{'boat' if i < 3 else 'sea'}|sky" for i, name in enumerate(data.names[:5])]
    table.write_text("\n".join(["image,labels", *rows, "5.jpg,sea", "2.jpg,sea|sky", "5.jpg,sea", ""]))
    expected = {("conflicting_rows", "2.jpg", ""), ("listed_twice", "5.jpg", "")}
    for conflicts in ("unknown", "drop"):
        found = audit(read(table, images=data.root, conflicts=conflicts))
        assert {finding for finding in flags(found) if finding[1]} == expected
        details = found.findings.set_index("image")["detail"]
        assert details["2.jpg"] == "disagreement on boat, sea (lines 4, 8)" and details["5.jpg"] == "lines 7, 9"


def test_photos_of_one_picture_share_a_group(data: Dataset) -> None:
    Image.open(data.paths[0]).save(data.paths[3], quality=50)
    groups = np.array([0, 1, 1, 2, 3, 4])  # 1 and 2 belong together already
    found = audit(replace(data, groups=groups))
    assert found.dataset.groups.tolist() == [0, 1, 1, 0, 2, 3]
    assert flags(found) - RARE == {("near_duplicate", "3.jpg", ""), ("conflicting_duplicate", "3.jpg", "")}
    assert found.findings.set_index("image")["other"]["3.jpg"].tolist() == ["0.jpg", "0.jpg"]
    assert disputed(found.dataset, 0, 3) == ["boat", "sea"] and disputed(found.dataset, 0, 1) == []
    assert found.statistics["pictures"] == 4


def test_unknown_labels_contradict_nothing(data: Dataset) -> None:
    Image.open(data.paths[0]).save(data.paths[3], quality=50)
    targets = data.targets.copy()
    targets[3] = -1
    assert flags(audit(replace(data, targets=targets))) - RARE == {
        ("near_duplicate", "3.jpg", ""),
        ("all_unknown", "3.jpg", ""),
    }


def test_leaks_are_told_of_the_part_that_judges(data: Dataset) -> None:
    for i in (3, 4):
        Image.open(data.paths[0]).save(data.paths[i], quality=40 + i)
    parts = np.array(["validation", "train", "test", "test", "train", "test"])
    found = audit(replace(data, parts=parts, targets=np.tile(data.targets[:1], (6, 1))))
    rows = found.findings[found.findings["issue"] == "leak"]
    assert rows["image"].tolist() == ["0.jpg", "3.jpg"]
    assert rows["other"].tolist() == ["4.jpg", "4.jpg"]


def test_grey_photos_are_only_odd_among_coloured_ones(data: Dataset) -> None:
    Image.open(data.paths[2]).convert("L").save(data.paths[2])
    assert ("grey", "2.jpg", "") in flags(audit(data))
    for path in data.paths[2:5]:
        Image.open(path).convert("L").save(path)
    assert flags(audit(data)) == RARE


def test_what_is_blank_is_not_called_dark_or_bright_too(data: Dataset) -> None:
    for i, colour in enumerate(("black", "white", "green")):
        Image.new("RGB", (90, 90), colour).save(data.paths[i])
    assert flags(audit(data)) - RARE == {("blank", f"{i}.jpg", "") for i in range(3)}


def test_a_dark_photo_is_not_taken_for_a_blank_or_blurred_one(data: Dataset) -> None:
    # Saved without JPEG's own losses, which such a photo hardly survives.
    dark = Image.open(data.paths[1]).point([value // 4 for value in range(256)] * 3)
    dark.save(data.root / "dark.png")
    paths = np.array([*data.paths[:1], str(data.root / "dark.png"), *data.paths[2:]])
    assert flags(audit(replace(data, paths=paths))) - RARE == {("dark", "dark.png", "")}


def test_saved_findings_are_plain_json(data: Dataset, tmp_path: Path) -> None:
    Path(data.paths[3]).write_bytes(b"")
    found = audit(replace(data, labels=("boat", "Boat"), notes=("as it was read",)))
    found.save(tmp_path / "found.json")
    content = json.loads((tmp_path / "found.json").read_text())
    assert content["counts"] == found.counts == {"empty": 1, "label_variant": 1, "rare": 2}
    assert content["labels"] == {"boat": 3, "Boat": 2}
    assert content["notes"][0] == "as it was read"
    assert content["statistics"]["photos"] == 6 and content["statistics"]["readable"] == 5
    by_issue = {row["issue"]: row for row in reversed(content["findings"])}
    assert by_issue["empty"] == {"image": "3.jpg", "issue": "empty", "score": 0.0, "detail": "the file is empty"}
    assert by_issue["label_variant"]["label"] == "Boat" and by_issue["label_variant"]["other"] == "boat"
    assert by_issue["rare"]["detail"] == "on 2 photos"  # less the one which cannot be read
    assert len(content["findings"]) == sum(found.counts.values())


def test_the_worst_comes_first(data: Dataset) -> None:
    for i, side in enumerate((50, 20, 40)):
        Image.open(data.paths[i]).resize((side, side)).save(data.paths[i])
    rows = audit(data).findings
    assert rows[rows["issue"] == "tiny"]["image"].tolist() == ["1.jpg", "2.jpg", "0.jpg"]
    assert rows[rows["issue"] == "tiny"]["detail"].iloc[0] == "shorter side 20, limit 64"


def test_progress_counts_each_photo(data: Dataset) -> None:
    done: list[int] = []
    audit(data, on_progress=done.append)
    assert sum(done) == len(data)


@pytest.mark.parametrize(
    "trouble", [MemoryError(), OSError(errno.EMFILE, "Too many open files"), OSError(errno.EIO, "Input/output error")]
)
def test_trouble_of_the_machine_is_never_a_finding(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise trouble

    # The content is new, so no measurement of it is in the cache.
    Image.frombytes("RGB", (80, 80), os.urandom(80 * 80 * 3)).save(data.paths[0])
    whole = replace(data, left_out={"gone.jpg": "no such file"})
    with monkeypatch.context() as patch:
        patch.setattr("polytag.photos.decode.Image.open", failing)
        with pytest.raises(MachineError):
            audit(whole)
    audit(whole)
    if isinstance(trouble, OSError):
        stat = os.stat
        monkeypatch.setattr("os.stat", lambda path, *a, **k: failing() if "gone" in str(path) else stat(path, *a, **k))
        with pytest.raises(MachineError):
            audit(whole)


def test_odd_names_are_kept_in_json_and_shown_safely(data: Dataset, tmp_path: Path) -> None:
    odd = data.root / "\x1b[31m\u202egpj\nx.jpg"
    Path(data.paths[5]).rename(odd)
    found = audit(replace(data, paths=np.array([*data.paths[:5], str(odd)]), labels=("bo\x1bat", "sea")))
    found.save(tmp_path / "found.json")
    text = (tmp_path / "found.json").read_text()
    assert "\x1b" not in text
    assert "bo\x1bat" in json.loads(text)["labels"]
    page = write_report(found, tmp_path / "page", "photos").read_text()
    assert "\x1b" not in page and "\u202e" not in page

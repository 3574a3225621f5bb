"""The audit reports what else is in the folder of the photos."""

import os
from pathlib import Path

import numpy as np
import pytest

from polytag.auditing.checks.unlisted import unlisted_notes
from polytag.data.dataset import Dataset
from polytag.errors import MachineError


@pytest.fixture
def data(tmp_path: Path, photos) -> Dataset:
    """Two photos in a subfolder, and files of many kinds."""
    folder = tmp_path / "holiday"
    (folder / "day 1").mkdir(parents=True)
    paths = photos(folder / "day 1", ["a.jpg", "b.jpg"])
    data = Dataset(np.array(paths), np.eye(2, dtype=np.int8), ("x", "y"), np.arange(2), folder, left_out={"c.jpg": "?"})
    for name in ("labels.csv", "notes.jsonl", ".hidden.mov", "day 1/a.txt", "day 1/a.jpg.xmp", "day 1/b.xml"):
        (folder / name).write_text("text")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.mov").touch()
    return data


def test_nothing_to_report(data: Dataset) -> None:
    assert unlisted_notes(data) == []


def test_files_are_counted_by_kind(data: Dataset, photos) -> None:
    photos(data.root, ["d.jpg"])
    for name in ("1.mov", "day 1/2.MP4", "3.dng", "read me.txt", "day 1/a.mov"):
        (data.root / name).write_bytes(b"content")
    (data.root / "no ending").write_bytes(b"plain text")
    assert unlisted_notes(data) == [
        "1 photo in holiday is not listed",
        "5 files left out: 2 text files, 2 videos, 1 camera raw file",
    ]
    photos(data.root / "day 1", ["e.jpg"])
    assert unlisted_notes(data)[0] == "2 photos in holiday are not listed"


def test_the_machine_is_not_the_folder(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "scandir", full)
    with pytest.raises(MachineError, match="Too many open files"):
        unlisted_notes(data)

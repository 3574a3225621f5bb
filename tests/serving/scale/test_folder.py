"""The output folder: continued, refused, overwritten."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from polytag.errors import ImageError, SettingsError
from polytag.serving.scale.folder import PartFolder
from polytag.serving.tagging.rows import Row, write_parquet

A, B = "part-000000-aaaaaaaaaaaa.parquet", "part-000001-bbbbbbbbbbbb.parquet"


def rows(good: int, bad: int) -> bytes:
    file = io.BytesIO()
    found = [np.ones(1, np.float32)] * good + [ImageError("gone")] * bad
    # A label called error must not be taken for the column of errors.
    write_parquet((Row.of("a", one, ["error"], np.ones(1, np.float32)) for one in found), ["error"], file)
    return file.getvalue()


def test_a_run_is_continued_by_the_files_that_exist(tmp_path: Path) -> None:
    folder = PartFolder(tmp_path / "new" / "out", {"top": (1,)})
    with folder.writing():
        folder.write(A, rows(2, 1))
    again = PartFolder(folder.path, {"top": (1,)}, resume=True)
    with again.writing():
        assert A in again and B not in again
        again.write(B, rows(1, 0))
        assert again.finish([A, B]) == (4, 1)
    assert json.loads((folder.path / "_run.json").read_text())["photos"] == 4


def test_files_of_shards_that_no_longer_exist_are_deleted(tmp_path: Path) -> None:
    folder = PartFolder(tmp_path / "out", {})
    with folder.writing():
        folder.write(A, rows(1, 0))
        folder.write(B, rows(1, 0))
        assert folder.finish([B]) == (1, 0)
    assert sorted(file.name for file in folder.path.iterdir()) == [".lock", "_run.json", B]


def test_what_is_refused(tmp_path: Path) -> None:
    folder = PartFolder(tmp_path / "out", {"top": 1})
    with folder.writing():
        folder.write(A, b"")
        other = PartFolder(tmp_path / "out", {"top": 1}, resume=True)
        with pytest.raises(SettingsError, match="in use by another process"), other.writing():
            pass
    with pytest.raises(SettingsError, match="add --resume to continue, or --overwrite"):
        PartFolder(tmp_path / "out", {"top": 1})
    with pytest.raises(SettingsError, match="other settings: add --overwrite"):
        PartFolder(tmp_path / "out", {"top": 2}, resume=True)
    assert (tmp_path / "out" / A).exists()
    again = PartFolder(tmp_path / "out", {"top": 2}, overwrite=True)
    with again.writing():
        assert A not in again and not (tmp_path / "out" / A).exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(SettingsError, match="not the output of such a run"):
            PartFolder(tmp_path / "other", {}, **options)
    with pytest.raises(SettingsError, match="is a file: name a folder"):
        PartFolder(tmp_path / "other" / "notes.txt", {})


def test_a_run_that_fails_before_its_first_file_leaves_no_folder(tmp_path: Path) -> None:
    for files, left in (([], False), ([A], True)):
        folder = PartFolder(tmp_path / "out", {})
        with pytest.raises(KeyboardInterrupt), folder.writing():
            for name in files:
                folder.write(name, b"")
            raise KeyboardInterrupt
        assert folder.path.exists() == left

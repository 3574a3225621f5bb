"""Writing over an input is refused, whatever name the input goes by."""

import os
from pathlib import Path

import pytest

from polytag.errors import SettingsError
from polytag.files import refuse_same_file


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "labels.csv"
    path.write_text("image,labels\n")
    return path


def test_every_name_of_the_input_is_refused(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = table.parent
    (folder / "link.csv").symlink_to(table)
    os.link(table, folder / "hard.csv")
    (folder.parent / "linked").symlink_to(folder)
    monkeypatch.chdir(folder)
    names = [table, "labels.csv", "./labels.csv", folder / "link.csv", folder / "hard.csv"]
    names += [folder.parent / "linked" / "labels.csv", folder / ".." / "data" / "labels.csv"]
    for name in names:
        with pytest.raises(SettingsError, match=r"is the same file as the input .*: choose another output") as error:
            refuse_same_file(name, ["other.csv", table])
        assert len(str(error.value).splitlines()) == 1
    assert table.read_text() == "image,labels\n"


def test_other_files_and_missing_ones_are_allowed(table: Path) -> None:
    copy = table.with_name("copy.csv")
    copy.write_bytes(table.read_bytes())
    for output in (copy, table.with_name("new.csv"), table.parent / "no folder" / "new.csv"):
        refuse_same_file(output, [table, table.parent, "kaggle:owner/name", "a\0b"])

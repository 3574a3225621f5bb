"""Files appear whole or not at all, with the right permissions, and CSV cells are never formulas."""

import csv
import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag.errors import MachineError
from polytag.files import beside, csv_cell, csv_text, held, is_readable, remove_leftovers, write_atomically, write_json


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    """Restores the umask."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("before", encoding="utf-8")
    with pytest.raises(ZeroDivisionError), write_atomically(path) as file:
        file.write("half")
        assert path.read_text(encoding="utf-8") == "before"
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"score": float("nan")})
    assert path.read_text(encoding="utf-8") == "before"
    write_json(path, {"name": "ä"})
    assert path.read_text(encoding="utf-8") == '{\n  "name": "ä"\n}\n'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o027, 0o640)])
def test_new_files_follow_the_umask(mask: int, expected: int, tmp_path: Path, umask: None) -> None:
    os.umask(mask)
    write_json(tmp_path / "new.json", 1)
    assert permissions(tmp_path / "new.json") == expected


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o444])
def test_replaced_files_keep_their_permissions(mode: int, tmp_path: Path, umask: None) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("before", encoding="utf-8")
    path.chmod(mode)
    with write_atomically(path) as file:
        (temporary,) = (other for other in tmp_path.iterdir() if other != path)
        assert permissions(temporary) == 0o600  # never more open than the file itself
        file.write("after")
    assert permissions(path) == mode
    assert path.read_text(encoding="utf-8") == "after"


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120 + ".json")
    write_json(path, 1)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["=1+1", "+49 30", "-x", "@me", "\tx", "\rx", "＝1+1", "'=1", "''-2"])
def test_cells_that_look_like_formulas_are_quoted(text: str) -> None:
    assert csv_cell(text) == "'" + text
    assert csv_text(csv_cell(text)) == text


@pytest.mark.parametrize("text", ["", "cat", "a=b", "'tis", "''", "1", " =1"])
def test_other_cells_stay(text: str) -> None:
    assert csv_cell(text) == csv_text(text) == text


@given(st.text(st.sampled_from("'=+-@\t\r\n a,\"")))
def test_every_text_comes_back_from_a_csv_file(text: str) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerow([csv_cell(text), "end"])
    file.seek(0)
    (row,) = csv.reader(file)
    assert csv_text(row[0]) == text
    assert not row[0].startswith(tuple("=+-@\t\r\n"))


def test_a_failing_disk_is_not_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch()
    assert is_readable(tmp_path / "a.jpg") and not is_readable(tmp_path / "b.jpg")

    def fails(path: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "stat", fails)
    with pytest.raises(MachineError, match="check the network drive"):
        is_readable(tmp_path / "a.jpg")


def test_what_kills_left_is_removed_unless_it_is_in_use(tmp_path: Path) -> None:
    out = tmp_path / "out"
    file, folder, used = (beside(out) for _ in range(3))
    file.write_text("half")
    (folder / "inner").mkdir(parents=True)
    used.mkdir()
    others = {out, tmp_path / ".out.txt", beside(tmp_path / "another")}
    for other in others:
        other.write_text("mine")
    with held(used):
        remove_leftovers(out)
    assert set(tmp_path.iterdir()) == {used, *others}

"""Content hashes follow the content, also those that an earlier run has kept."""

import hashlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

from polytag.errors import MachineError
from polytag.photos import content
from polytag.photos.content import content_hash, content_hashes
from polytag.photos.groups import grouped


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "SETTLED", -1)
    return tmp_path / "cache"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are hashed, as they are hashed."""
    names: list[str] = []
    real = content.sha256_of
    monkeypatch.setattr(content, "sha256_of", lambda path: (names.append(Path(path).name), real(path))[1])
    return names


def files(folder: Path, count: int) -> list[str]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i}" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_text(f"content {i % (count - 1)}")  # the last is a copy of the first
    return [str(path) for path in paths]


def another_run() -> None:
    content._known.clear()


def test_a_second_run_reads_no_unchanged_file(tmp_path: Path, read: list[str]) -> None:
    paths = files(tmp_path / "photos", 30)
    expected = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths]
    assert list(content_hashes(paths)) == expected
    assert len(read) == 30
    another_run()
    assert list(content_hashes(paths)) == expected
    assert [content_hash(path) for path in paths] == expected
    assert len(read) == 30


def test_progress_counts_each_file_once_whether_hashed_or_known(tmp_path: Path) -> None:
    paths = files(tmp_path / "photos", 6)
    list(content_hashes(paths[:2]))
    for _ in range(2):
        progress: list[int] = []
        list(content_hashes([*paths, str(tmp_path / "gone")], progress.append))
        assert sum(progress) == 7
        another_run()


@pytest.mark.parametrize("keep_times", [False, True])
def test_changed_files_are_hashed_again_and_kept(keep_times: bool, tmp_path: Path, read: list[str]) -> None:
    paths = files(tmp_path / "photos", 5)
    first = list(content_hashes(paths))
    before = os.stat(paths[2])
    time.sleep(0.02)
    Path(paths[2]).write_text("CONTENT 2")  # as long as before
    if keep_times:
        os.utime(paths[2], ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        another_run()
        second = list(content_hashes(paths))
        assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, False, True, True]
        assert second[2] == hashlib.sha256(b"CONTENT 2").hexdigest()
    assert read.count("2") == 2


def test_files_that_changed_just_now_are_not_kept(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "SETTLED", 10**12)
    paths = files(tmp_path / "photos", 3)
    for n in (3, 6):
        another_run()
        list(content_hashes(paths))
        assert len(read) == n


def test_a_clock_that_was_set_back_costs_only_time(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "SETTLED", 10**9)
    paths = files(tmp_path / "photos", 3)
    first = list(content_hashes(paths))
    monkeypatch.setattr(content.time, "time_ns", lambda: 10**18)  # in 2001, long before the files were written
    another_run()
    assert list(content_hashes(paths)) == first and len(read) == 6
    Path(paths[0]).write_text("another text")
    assert content_hash(paths[0]) != first[0]


def test_missing_files_are_told_and_failures_of_the_computer_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path / "photos", 3)
    gone = str(tmp_path / "gone")
    found = list(content_hashes([paths[0], gone, tmp_path / "photos"]))
    assert found[0] == content_hash(paths[0])
    assert isinstance(found[1], FileNotFoundError) and isinstance(found[2], IsADirectoryError)
    with pytest.raises(FileNotFoundError):
        grouped([gone])

    def fail(path: str) -> str:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(content, "sha256_of", fail)
    with pytest.raises(MachineError):
        list(content_hashes(paths[1:]))


def test_kept_hashes_that_the_disk_has_spoiled_do_not_count(tmp_path: Path, own_cache: Path, read: list[str]) -> None:
    paths = files(tmp_path / "photos", 4)
    expected = list(content_hashes(paths))
    index = sqlite3.connect(own_cache / content.INDEX)
    entries = index.execute("SELECT path, entry FROM hashes").fetchall()
    for i, (key, entry) in enumerate(entries):
        spoiled = (b"", entry[:32] + bytes(32) + entry[64:], bytes(len(entry)), entry)[i]
        index.execute("UPDATE hashes SET entry = ? WHERE path = ?", (spoiled, key))
    index.commit()
    index.close()
    another_run()
    assert list(content_hashes(paths)) == expected


@pytest.mark.parametrize("damage", ["no database", "torn", "folder", "unwritable"])
def test_hashing_works_without_the_cache(damage: str, tmp_path: Path, own_cache: Path) -> None:
    paths = files(tmp_path / "photos", 4)
    expected = list(content_hashes(paths))
    index = own_cache / content.INDEX
    if damage == "no database":
        index.write_bytes(b"no database" * 1000)
    elif damage == "torn":
        with index.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 4096)
    elif damage == "folder":
        index.unlink()
        index.mkdir()
    else:
        index.unlink()
        own_cache.rmdir()
        own_cache.write_bytes(b"in the way")
    for _ in range(2):
        another_run()
        assert list(content_hashes(paths)) == expected


def test_names_need_not_be_text(tmp_path: Path) -> None:
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"caf\xe9"))
    Path(path).write_text("x")
    for _ in range(2):
        another_run()
        assert list(content_hashes([path])) == [hashlib.sha256(b"x").hexdigest()]


def test_groups_number_equal_contents(tmp_path: Path) -> None:
    assert grouped(files(tmp_path / "photos", 4)).tolist() == [0, 1, 2, 0]

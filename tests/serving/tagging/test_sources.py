"""Which photos sources name."""

import io
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from polytag.errors import DataError
from polytag.photos.kinds import left_out
from polytag.serving.tagging.sources import count, photos_in


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos by name alone, in folders that stand in the current one."""
    for name in ("b.JPG", "a.png", "notes.md", "sub/c.webp", "sub/.hidden.jpg", ".git/d.jpg", "empty/readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_stands_for_the_photos_below_it(album: Path) -> None:
    assert list(photos_in(["."])) == ["./a.png", "./b.JPG", "./sub/c.webp"]


def test_a_folder_that_cannot_be_read_is_named_like_a_photo(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def guarded(folder: str) -> object:
        if folder == "./empty":
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    assert sorted(photos_in(["."])) == ["./a.png", "./b.JPG", "./empty", "./sub/c.webp"]


def test_files_are_taken_as_they_are_and_need_not_exist(album: Path) -> None:
    assert list(photos_in(["notes.md", "gone.jpg", "a.png", "a.png"])) == ["notes.md", "gone.jpg", "a.png", "a.png"]


def test_patterns(album: Path) -> None:
    assert sorted(photos_in(["**/*.??*g"])) == ["a.png"]
    assert sorted(photos_in(["*.[Jp]*"])) == ["a.png", "b.JPG"]
    (album / "[1].jpg").touch()
    assert list(photos_in(["[1].jpg"])) == ["[1].jpg"], "a file that is there is no pattern"


def test_lists_and_standard_input(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (album / "some.txt").write_text("\ufeffa.png\r\n\nsub/c.webp", encoding="utf-8")
    assert list(photos_in(["some.txt"])) == ["a.png", "sub/c.webp"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("b.JPG\nwith blank .jpg\n"))
    assert list(photos_in(["-", "a.png"])) == ["b.JPG", "with blank .jpg", "a.png"]


def test_photos_without_a_known_ending_are_recognised_and_others_counted(album: Path) -> None:
    (album / "sub" / "download").write_bytes(b"\xff\xd8\xff\xe0" + bytes(20))
    (album / "sub" / "scan.1").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("clip.MOV", "raw.DNG", "a.xmp", "unknown"):
        (album / "sub" / name).write_bytes(b"\0\1\2")
    skipped: Counter[str] = Counter()
    assert [os.path.basename(path) for path in photos_in(["sub"], skipped)] == ["c.webp", "download", "scan.1"]
    assert left_out(skipped) == "4 files left out: 1 camera raw file, 1 other file, 1 sidecar, 1 video"
    assert count(["sub"]) == 3


def test_counting(album: Path) -> None:
    assert count([".", "a.png"]) == 4
    assert count(["-"]) is None


@pytest.mark.parametrize(
    ("source", "message"),
    [("empty", "empty contains no photos"), ("*.gif", "no file matches"), ("none.txt", "none.txt is empty")],
)
def test_sources_of_nothing(album: Path, source: str, message: str) -> None:
    (album / "none.txt").write_text("\n\n")
    with pytest.raises(DataError, match=message):
        count([source])


def test_a_list_that_is_not_there(album: Path) -> None:
    with pytest.raises(DataError, match=r"the list nowhere\.txt cannot be read"):
        count(["nowhere.txt"])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_names_that_are_not_utf8(album: Path) -> None:
    os.mkdir("odd")
    open(b"odd/\xff.jpg", "wb").close()
    (album / "odd.txt").write_bytes(b"odd/\xff.jpg\n")
    assert list(photos_in(["odd"])) == list(photos_in(["odd.txt"])) == ["odd/\udcff.jpg"]

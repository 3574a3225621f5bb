"""Photos are found by one index: path, longest agreeing end, base name, stem; what fits two files is refused."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytag import read
from polytag.data.reading.photo_index import PHOTO_EXTENSIONS, PhotoIndex, key, stem_key
from polytag.errors import DataError

Photos = Callable[..., list[str]]


def found(home: Path, names: list[str], photos: Photos, files: list[str]) -> list[str]:
    photos(home, files)
    (home / "t.csv").write_text("image,dog\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(names)))
    data = read(home / "t.csv")
    return [Path(path).relative_to(home.resolve()).as_posix() for path in data.paths]


@pytest.mark.parametrize(
    "names, files",
    [
        (["C:\\Users\\x\\train\\1.jpg", "C:\\Users\\x\\test\\1.jpg"], ["a/train/1.jpg", "a/test/1.jpg"]),
        (["/kaggle/input/d/cam1/1.jpg", "/kaggle/input/d/cam2/1.jpg"], ["p/cam1/1.jpg", "p/cam2/1.jpg"]),
        (["https://x.org/m/a%20b.jpg?sig=1", "s3://bucket/c.jpg"], ["i/a b.jpg", "i/c.jpg"]),
        (["/data/local-files/?d=deep/a.jpg", "/data/upload/1/ab12cd34-c.jpg"], ["x/deep/a.jpg", "x/c.jpg"]),
        (["IMG_1", "img_2.jpg", "3.JPEG"], ["d/IMG_1.JPG", "d/IMG_2.jpeg", "d/3.jpg"]),
        (
            ["fälla.jpg", unicodedata.normalize("NFD", "räv.jpg")],
            [unicodedata.normalize("NFD", "b/fälla.jpg"), "b/räv.jpg"],
        ),
        (["a.jpg", "b.jpg"], ["one/a.jpg", "two/deep/er/b.jpg"]),
        (["v1.2", "v1.3"], ["v1.2.png", "v1.3.png"]),
    ],
)
def test_names_of_other_places_find_their_files(
    names: list[str], files: list[str], photos: Photos, tmp_path: Path
) -> None:
    assert found(tmp_path, names, photos, files) == files


@pytest.mark.parametrize(
    "names, files, says",
    [
        (["a.jpg", "b.jpg"], ["left/a.jpg", "right/a.jpg", "left/b.jpg"], "left/a.jpg or right/a.jpg: name the folder"),
        (["a", "b"], ["a.jpg", "a.png", "b.jpg"], "a.jpg or a.png: add the extension"),
        (["cam1/a.jpg", "b.jpg"], ["cam1/a.png", "cam2/a.jpg", "b.jpg"], "cam1/a.png or cam2/a.jpg"),
        (["1.jpg", "2.jpg"], ["x/0001.jpg", "x/0002.jpg"], "lost their leading zeros"),
        (["x/a.jpg", "y/a.jpg"], ["z/a.jpg"], "match the same file"),
    ],
)
def test_what_fits_two_files_or_none_is_refused(
    names: list[str], files: list[str], says: str, photos: Photos, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        found(tmp_path, names, photos, files)
    assert says in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_missing_photo_is_not_taken_from_another_folder(photos: Photos, tmp_path: Path) -> None:
    names = ["p1/view1.jpg", "p2/view1.jpg", "p3/view1.jpg"]
    assert found(tmp_path, names, photos, ["d/p1/view1.jpg", "d/p3/view1.jpg"]) == ["d/p1/view1.jpg", "d/p3/view1.jpg"]


def test_a_base_name_in_many_folders_is_found_at_once() -> None:
    files = [f"home/patient{i}/study1/view1.jpg" for i in range(20_000)]
    index = PhotoIndex.of_files(files)
    matches = [index.find(f"old/patient{i}/study1/view1.png") for i in range(20_000)]
    assert [match.files for match in matches] == [(f"/{file}",) for file in files]


@given(st.lists(st.sampled_from([".", ".jpg", ".PNG", "a", "B", ".txt", " ", "é"]), max_size=5).map("".join))
def test_the_stem_is_the_name_without_the_extension_of_a_photo(base: str) -> None:
    stem, extension = os.path.splitext(base)
    assert stem_key(base) == key(stem if extension.lower() in PHOTO_EXTENSIONS else base)


def test_lost_zeros_are_reported_for_missing_names_and_unused_files() -> None:
    index = PhotoIndex.of_files(["a/007.jpg", "a/010.jpg", "a/x0.jpg", "a/12.jpg"])
    assert index.lost_zeros(["13", "7.jpg"], []) == ("7.jpg", "/a/007.jpg")
    assert index.lost_zeros(["13", "7.jpg"], ["/a/007.jpg"]) is None
    assert index.lost_zeros(["0", "x", "12", "007"], []) is None

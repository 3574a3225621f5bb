"""YOLO: where the images, the label files and the names of classes are, and what a missing file means."""

from collections.abc import Callable
from pathlib import Path

import pytest

from labelled import labels_of, parts_of, put, refusal
from polytag import read

Photos = Callable[..., list[str]]
BOX = "0.5 0.5 0.2 0.3"
FILES = {"a": f"0 {BOX}\n1 {BOX}\n1 {BOX}\n", "b": "", "c": f"\ufeff1 {BOX} 0.9\n\n"}


@pytest.mark.parametrize("names", ["names: [dog, cat]", "names:\n  0: dog\n  1: cat", "nc: 2\nnames:\n- dog\n- cat"])
@pytest.mark.parametrize(
    "images, labels, more",
    [
        ("images/train/{}.jpg", "labels/train/{}.txt", "train: images/train\nval: images/val"),
        ("images/train/{}.jpg", "labels/train/{}.txt", "path: ../datasets/x\ntrain: images/train\nval: images/val"),
        ("train/images/{}.jpg", "train/labels/{}.txt", "train: ../train/images\nval: ../valid/images\ntest:"),
        ("train/images/{}.jpg", "train/labels/{}.txt", ""),
        ("train/{}.jpg", "train/{}.txt", "train: C:\\data\\x\\train\nval: []"),
    ],
)
def test_layouts(images: str, labels: str, more: str, names: str, tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, [images.format(stem) for stem in "abcd"])
    put(tmp_path / "data.yaml", f"# made by hand\n{more}\n{names}\n")
    for stem, text in FILES.items():
        put(tmp_path / labels.format(stem), text)
    for source in (tmp_path, tmp_path / "data.yaml"):
        data = read(source)
        assert data.labels == ("dog", "cat")
        assert labels_of(data) == dict(zip([images.format(s) for s in "abc"], ["cat dog", "", "cat"], strict=True))
        assert dict(data.left_out) == {images.format("d"): "not annotated"}


def test_the_split(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["images/a.jpg", "images/b.jpg", "images/c.jpg"])
    put(tmp_path / "data.yaml", "train: train.txt\nval: [val.txt]\ntest: lists/t.txt\nnames: [dog, 'yes']\n")
    put(tmp_path / "train.txt", "./images/a.jpg\n")
    put(tmp_path / "val.txt", "/srv/ann/yard/images/b.jpg\n")
    put(tmp_path / "lists/t.txt", "images/c.jpg\n")
    for stem, number in zip("abc", "011", strict=True):
        put(tmp_path / f"labels/{stem}.txt", f"{number} {BOX}")
    data = read(tmp_path)
    assert labels_of(data) == {"images/a.jpg": "dog", "images/b.jpg": "yes", "images/c.jpg": "yes"}
    assert list((parts_of(data) or {}).values()) == ["train", "validation", "test"]


@pytest.mark.parametrize("name", ["classes.txt", "obj.names"])
def test_names_in_a_text_file(name: str, tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["images/a.jpg", "images/b.jpg"])
    put(tmp_path / name, "dog\nblack cat\n")
    put(tmp_path / "labels/a.txt", "1 0.1 0.1 0.2 0.2 0.3 0.3\n0\n")
    data = read(tmp_path)
    assert labels_of(data) == {"images/a.jpg": "black cat dog"} and len(data.left_out) == 1


@pytest.mark.parametrize(
    "text, expected",
    [
        ("5 0.5 0.5 0.1 0.1", "no name for class 5"),
        ("dog 0.5 0.5 0.1 0.1", "line 1: 'dog"),
        (f"0 {BOX}\n0 0.5", "line 2: '0 0.5'"),
        ("0.5 0.5 0.5 0.5 0.5", "line 1"),
    ],
)
def test_damaged_files(text: str, expected: str, tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["images/a.jpg"])
    put(tmp_path / "data.yaml", "names: [dog]")
    put(tmp_path / "labels/a.txt", text)
    message = refusal(tmp_path)
    assert expected in message and "a.txt" in message


@pytest.mark.parametrize(
    "text, expected",
    [("names: 5", "no list of 'names'"), ("names: [a", "is not YAML"), ("names: {x: dog}", "class number")],
)
def test_damaged_names(text: str, expected: str, tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["images/a.jpg"])
    put(tmp_path / "labels/a.txt", "0")
    assert expected in refusal(put(tmp_path / "data.yaml", text).parent)

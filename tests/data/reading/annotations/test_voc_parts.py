"""Pascal VOC with lists of a split, in folders for its parts, or of several years."""

from collections.abc import Callable
from pathlib import Path

from labelled import labels_of, parts_of, put
from polytag import read

Photos = Callable[..., list[str]]


def voc(name: str, *labels: str) -> str:
    things = "".join(f"<object><name>{label}</name></object>" for label in labels)
    return f"<annotation><folder>x</folder><filename>{name}</filename>{things}</annotation>"


def test_image_sets(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path / "JPEGImages", ["a.jpg", "b.jpg", "c.jpg", "v1.2_d.jpg"])
    for stem in ("a", "b", "c", "v1.2_d"):
        put(tmp_path / f"Annotations/{stem}.xml", voc(f"{stem}.jpg", "dog", f"is {stem}"))
    sets = {"train": "a\n", "val": "b 1\n", "test": "c.jpg\nv1.2_d\n", "trainval": "a\nb\n", "dog_train": "a -1\n"}
    for name, text in sets.items():
        put(tmp_path / f"ImageSets/Main/{name}.txt", text)
    data = read(tmp_path)
    assert parts_of(data) == {"a.jpg": "train", "b.jpg": "validation", "c.jpg": "test", "v1.2_d.jpg": "test"}
    (tmp_path / "ImageSets/Main/test.txt").unlink()
    data = read(tmp_path)
    assert data.parts is None and any("split is not used: 2 of 4 images" in note for note in data.notes)
    put(tmp_path / "ImageSets/Main/test.txt", sets["test"])
    (tmp_path / "ImageSets/Main/train.txt").unlink()
    (tmp_path / "ImageSets/Main/val.txt").unlink()
    assert list((parts_of(read(tmp_path)) or {}).values()) == ["train", "train", "test", "test"]


def test_the_file_name_inside_is_that_of_another_photo(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path / "images", ["a.png", "b.jpg", "c.jpg"])
    for stem, inside in {"a": "a.jpg", "b": "", "c": "C:\\old\\renamed.jpg"}.items():
        put(tmp_path / f"Annotations/{stem}.xml", voc(inside, stem))
    assert labels_of(read(tmp_path)) == {"a.png": "a", "b.jpg": "b", "c.jpg": "c"}


def test_a_folder_for_each_part_with_files_beside_the_photos(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["train/a.jpg", "valid/a.jpg", "test/b.jpg"])
    for name, label in {"train/a": "dog", "valid/a": "cat", "test/b": "dog"}.items():
        put(tmp_path / f"{name}.xml", voc(f"{name[-1]}.jpg", label))
    data = read(tmp_path)
    assert labels_of(data) == {"test/b.jpg": "dog", "train/a.jpg": "dog", "valid/a.jpg": "cat"}
    assert list((parts_of(data) or {}).values()) == ["test", "train", "validation"]


def test_two_years(tmp_path: Path, photos: Photos) -> None:
    for year, label in {"VOC2007": "dog", "VOC2012": "cat"}.items():
        photos(tmp_path / year / "JPEGImages", ["000001.jpg"])
        put(tmp_path / year / "Annotations/000001.xml", voc("000001.jpg", label))
    assert list(labels_of(read(tmp_path)).values()) == ["dog", "cat"]

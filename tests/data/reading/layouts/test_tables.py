"""Folders of tables: image folders of Hugging Face, Roboflow's classes, a table for each part, one lone table."""

from collections.abc import Callable
from pathlib import Path

import pytest

from labelled import labels_of, parts_of, put, refusal
from polytag import read
from polytag.data.reading.layouts.tables import read_one
from polytag.data.reading.options import ReadOptions

Photos = Callable[..., list[str]]


@pytest.mark.parametrize("name", ["metadata.jsonl", "labels.jsonl", "metadata.csv"])
def test_an_image_folder_for_each_part(name: str, tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["train/1.png", "train/x/2.png", "validation/1.png"])
    lines = {"train": [("1.png", "dog cat"), ("x/2.png", "")], "validation": [("1.png", "bird")]}
    for part, rows in lines.items():
        listed = [(image, "[" + ", ".join(f'"{one}"' for one in names.split()) + "]") for image, names in rows]
        if name.endswith("csv"):
            quoted = [f"{image},{1 if 'dog' in names else 0},{1 if 'bird' in names else 0}" for image, names in listed]
            put(tmp_path / part / name, "\n".join(["file_name,dog,bird", *quoted]))
        else:
            text = "\n".join(f'{{"file_name": "{image}", "labels": {names}}}' for image, names in listed)
            put(tmp_path / part / name, text + "\n")
    data = read(tmp_path)
    dog = "dog" if name.endswith("csv") else "cat dog"
    assert labels_of(data) == {"train/1.png": dog, "train/x/2.png": "", "validation/1.png": "bird"}
    assert list((parts_of(data) or {}).values()) == ["train", "train", "validation"]


def test_one_table_of_images_in_folders_of_parts(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["train/1.png", "test/1.png"])
    put(tmp_path / "metadata.csv", "file_name,dog\ntrain/1.png,1\ntest/1.png,0\n")
    assert parts_of(read(tmp_path)) == {"train/1.png": "train", "test/1.png": "test"}


@pytest.mark.parametrize(
    "line, labels",
    [
        ('{"file_name": "a.jpg", "objects": {"bbox": [[1, 2]], "categories": ["dog", "cat"]}}', "cat dog"),
        ('{"file_name": "a.jpg", "objects": [{"bbox": [1], "category": "dog"}]}', "dog"),
        ('{"file_name": "a.jpg", "labels": {"dog": 1, "cat": 0}}', "dog"),
        ('{"file_name": "a.jpg", "dog": true, "cat": false}', "dog"),
        ('{"file_name": "a.jpg", "labels": ["traffic light", "a|b"], "size": 5.5}', "a|b traffic light"),
        ('{"file_name": "a.jpg", "label": "dog"}', "dog"),
    ],
)
def test_json_lines(line: str, labels: str, tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["a.jpg", "b.jpg"])
    path = put(tmp_path / "x.jsonl", line + "\n\n" + line.replace("a.jpg", "b.jpg") + "\n")
    assert labels_of(read(path))["a.jpg"] == labels


@pytest.mark.parametrize(
    "content",
    [
        [{"image": "a.jpg", "tags": ["dog"]}, {"image": "b.jpg", "tags": []}],
        {"a.jpg": ["dog"], "b.jpg": []},
        {"a.jpg": {"dog": 1}, "b.jpg": {"dog": 0}},
        [{"path": "a.jpg", "dog": 1}, {"path": "b.jpg", "dog": 0}],
    ],
)
def test_json_records(content: object, tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["a.jpg", "b.jpg"])
    assert labels_of(read(put(tmp_path / "x.json", content))) == {"a.jpg": "dog", "b.jpg": ""}


def test_damaged_lines(tmp_path: Path) -> None:
    assert "line 2: not JSON" in refusal(put(tmp_path / "x.jsonl", '{"file_name": "a.jpg"}\n{'))
    assert "line 1: expected an object" in refusal(put(tmp_path / "x.jsonl", "[1]\n"))
    assert "is empty" in refusal(put(tmp_path / "x.jsonl", "\n"))


def test_roboflow_classes(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["train/a.jpg", "valid/b.jpg"])
    put(tmp_path / "train/_classes.csv", "filename, hat, vest\na.jpg, 1, 0\n")
    put(tmp_path / "valid/_classes.csv", "filename, vest, hat\nb.jpg, 1, 0\n")
    data = read(tmp_path)
    assert labels_of(data) == {"train/a.jpg": "hat", "valid/b.jpg": "vest"}
    assert list((parts_of(data) or {}).values()) == ["train", "validation"]


def test_a_table_for_each_part(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path / "images", ["a.jpg", "b.jpg", "c.jpg"])
    put(tmp_path / "train.csv", "image,labels\na.jpg,dog|cat\n")
    put(tmp_path / "val.csv", "labels,image\ncat,b.jpg\n")
    put(tmp_path / "sample_submission.csv", "image,labels\nc.jpg,dog\n")
    data = read(tmp_path)
    assert labels_of(data) == {"a.jpg": "cat dog", "b.jpg": "cat"}
    assert list((parts_of(data) or {}).values()) == ["train", "validation"]


def test_a_test_table_without_labels(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path / "images", ["a.jpg", "b.jpg", "c.jpg"])
    put(tmp_path / "train.csv", "image,dog,cat\na.jpg,1,0\nb.jpg,0,1\n")
    put(tmp_path / "test.csv", "image,width\nc.jpg,640\n")
    data = read(tmp_path)
    assert labels_of(data) == {"a.jpg": "dog", "b.jpg": "cat"} and data.parts is None
    assert any("no labels in test.csv" in note for note in data.notes)


def test_the_only_table(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path / "photos", ["a.jpg", "b.jpg"])
    put(tmp_path / "annotations_final.csv", "image,dog\na.jpg,1\nb.jpg,0\n")
    put(tmp_path / "sample_submission.csv", "image,dog\nb.jpg,0\n")
    assert labels_of(read(tmp_path)) == {"a.jpg": "dog", "b.jpg": ""}


def test_unknown_labels_of_an_image_with_several_records(tmp_path: Path) -> None:
    """In long form the records of an image come together, and so do their unknown labels."""
    lines = [
        '{"image": "a.jpg", "label": "dog", "unknown_labels": ["cat", "bird"]}',
        '{"image": "a.jpg", "label": "cat"}',
        '{"image": "b.jpg", "label": "cat", "unknown_labels": []}',
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    table = read_one(tmp_path / "t.jsonl", ReadOptions())
    assert table.images == ["a.jpg", "b.jpg"]
    assert table.labels == ("dog", "cat", "bird")
    assert table.targets.tolist() == [[1, 1, -1], [0, 1, 0]]

"""Parquet with the images inside: they are written into the cache once, and named by their paths or rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from labelled import labels_of, parts_of, refusal
from polytag import read

Photos = Callable[..., list[str]]


@pytest.fixture
def contents(tmp_path: Path, photos: Photos) -> list[bytes]:
    return [Path(path).read_bytes() for path in photos(tmp_path / "drawn", 4)]


def write(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features:
        told = {"info": {"features": features}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps(told).encode()})
    parquet.write_table(table, path)
    return path


def images(contents: list[bytes], paths: list[str | None]) -> list[dict[str, Any]]:
    return [{"bytes": content, "path": path} for content, path in zip(contents, paths, strict=True)]


CLASSES = {"_type": "ClassLabel", "names": ["dog", "black cat", "a|b"]}
PATHS = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


@pytest.mark.parametrize(
    "columns, features, expected",
    [
        ({"labels": [[0, 1], [], [2], [0]]}, {"labels": {"feature": CLASSES, "_type": "Sequence"}}, None),
        ({"labels": [[0, 1], [], [2], [0]]}, {"labels": [CLASSES]}, None),
        ({"labels": [["dog", "black cat"], [], ["a|b"], ["dog"]]}, None, None),
        (
            {"objects": [{"category": own, "bbox": [[0.5]]} for own in ([0, 1, 1], [], [2], [0])]},
            {"objects": {"feature": {"category": CLASSES}, "_type": "Sequence"}},
            None,
        ),
        ({"label": [0, 1, 2, 0]}, {"label": CLASSES}, ["dog", "black cat", "a|b", "dog"]),
        ({"label": ["dog", "cat", "dog", "cat"]}, None, ["dog", "cat", "dog", "cat"]),
        ({"dog": [1, 0, 0, 1], "cat": [0, 0, 1, 1]}, None, ["dog", "", "cat", "cat dog"]),
    ],
)
def test_labels(
    columns: dict[str, Any],
    features: dict[str, Any] | None,
    expected: list[str] | None,
    contents: list[bytes],
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "train.parquet", {"image": images(contents, [*PATHS]), **columns}, features)
    data = read(path)
    assert list(labels_of(data).values()) == (expected or ["black cat dog", "", "a|b", "dog"])
    assert data.names == PATHS
    assert [Path(photo).read_bytes() for photo in data.paths] == contents
    assert not [name for name in tmp_path.rglob("*.jpg") if name.parent.name != "drawn"]


def test_names_of_images(contents: list[bytes], tmp_path: Path) -> None:
    paths = ["/kaggle/x/a.jpg", "a.jpg", None, "..\\..\\e v i l"]
    path = write(tmp_path / "x.parquet", {"image": images(contents, paths), "labels": [["dog"], ["cat"], [], ["dog"]]})
    data = read(path)
    assert data.names == ["a.jpg", "a-0000001.jpg", "0000002.jpg", "e v i l.jpg"]
    before = [Path(photo).stat().st_mtime_ns for photo in data.paths]
    assert [Path(photo).stat().st_mtime_ns for photo in read(path).paths] == before
    binary = write(tmp_path / "y.parquet", {"jpg": contents, "labels": [["dog"], ["cat"], [], ["dog"]]})
    assert read(binary).names[0] == "0000000.jpg"


def test_hidden_labels_are_not_annotated(contents: list[bytes], tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.parquet", {"image": images(contents, [*PATHS]), "label": [0, -1, None, 1]}, {"label": CLASSES}
    )
    data = read(path)
    assert labels_of(data) == {"a.jpg": "dog", "d.jpg": "black cat"}
    assert dict(data.left_out) == {"b.jpg": "not annotated", "c.jpg": "not annotated"}
    path = write(
        tmp_path / "y.parquet", {"image": images(contents, [*PATHS]), "label": [0, 7, 0, 1]}, {"label": CLASSES}
    )
    assert "row 2: class 7" in refusal(path)


def test_shards_of_several_parts(contents: list[bytes], tmp_path: Path) -> None:
    names = {
        "train-00000-of-00002": 0,
        "train-00001-of-00002": 1,
        "validation-00000-of-00001": 2,
        "test-00000-of-00001": 3,
    }
    for name, i in names.items():
        columns = {"image": images(contents[i : i + 1], ["0.jpg"]), "labels": [[["dog"], ["cat"]][i % 2]]}
        write(tmp_path / f"set/data/{name}.parquet", columns)
    data = read(tmp_path / "set")
    assert sorted(labels_of(data).items()) == [
        ("test/0.jpg", "cat"),
        ("train/0-0000001.jpg", "cat"),
        ("train/0.jpg", "dog"),
        ("validation/0.jpg", "dog"),
    ]
    assert {part: name.split("/")[0] for name, part in (parts_of(data) or {}).items()} == {
        part: part for part in ("train", "validation", "test")
    }


def test_damaged_files(contents: list[bytes], tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"image": images(contents, [*PATHS]), "labels": [["dog"]] * 4})
    data = bytearray(path.read_bytes())
    data[20:400] = b"\0" * 380
    path.write_bytes(data)
    assert "x.parquet" in refusal(path)
    (path).write_bytes(bytes(data[:-50]))
    assert "x.parquet" in refusal(path)
    path = write(tmp_path / "z.parquet", {"image": [{"bytes": None, "path": "a.jpg"}] * 2, "labels": [["dog"]] * 2})
    assert "row 1: the image is empty" in refusal(path)

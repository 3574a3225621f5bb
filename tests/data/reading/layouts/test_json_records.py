"""JSON Lines of labelling services: names inside objects, class maps, splits, and exports that are refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labelled import labels_of, parts_of, put, refusal
from polytag import read

Photos = Callable[..., list[str]]
CHOSEN = [["cat", "dog"], ["dog"], ["owl"]]


def lines(path: Path, records: list[dict[str, Any]]) -> Path:
    return put(path, "".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def folder(tmp_path: Path, photos: Photos) -> Path:
    photos(tmp_path, ["0.jpg", "1.jpg", "2.jpg"])
    return tmp_path


def test_vertex_ai(folder: Path) -> None:
    use = "aiplatform.googleapis.com/ml_use"
    records = [
        {
            "imageGcsUri": f"gs://bucket/{i}.jpg",
            "classificationAnnotations": [{"displayName": name} for name in names],
            "dataItemResourceLabels": {use: ["training", "validation", "test"][i]},
        }
        for i, names in enumerate(CHOSEN)
    ]
    data = read(lines(folder / "data.jsonl", records))
    assert list(labels_of(data).values()) == ["cat dog", "dog", "owl"]
    assert list((parts_of(data) or {}).values()) == ["train", "validation", "test"]


def test_ground_truth(folder: Path) -> None:
    every = ["cat", "dog", "owl"]
    records = [
        {
            "source-ref": f"s3://bucket/{i}.jpg",
            "animals": [every.index(name) for name in names],
            "animals-metadata": {"class-map": {str(every.index(name)): name for name in names}, "job-name": "x"},
        }
        for i, names in enumerate(CHOSEN)
    ]
    assert list(labels_of(read(lines(folder / "output.manifest", records))).values()) == ["cat dog", "dog", "owl"]


def test_names_in_objects_are_read_or_refused(folder: Path) -> None:
    def records(key: str) -> list[dict[str, Any]]:
        return [{"id": f"x{i}", "file": f"{i}.jpg", "tags": [{key: n} for n in CHOSEN[i]]} for i in range(3)]

    assert list(labels_of(read(put(folder / "a.json", records("tagName")))).values()) == ["cat dog", "dog", "owl"]
    assert "the field 'tags' holds objects without a name" in refusal(put(folder / "a.json", records("ref")))


def test_exports_that_are_not_read_are_named(folder: Path) -> None:
    assert "is a Labelbox export" in refusal(lines(folder / "a.ndjson", [{"data_row": {}, "projects": {}}]))
    assert "MegaDetector" in refusal(put(folder / "m.json", {"images": [], "detection_categories": {}}))
    put(folder / "project/meta.json", {"classes": [], "tags": []})
    put(folder / "project/ds0/ann/0.jpg.json", {"tags": [], "size": {}, "objects": []})
    assert "is a Supervisely project" in refusal(folder / "project")

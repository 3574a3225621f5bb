"""Label Studio's JSON and JSON-MIN: which annotation counts, where the labels are, how photos are named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labelled import labels_of, parts_of, put, refusal
from polytag import read

Photos = Callable[..., list[str]]


def choices(*names: str, field: str = "choice") -> dict[str, Any]:
    return {"from_name": field, "to_name": "image", "type": "choices", "value": {"choices": list(names)}}


def box(*names: str, kind: str = "rectanglelabels") -> dict[str, Any]:
    return {"from_name": "box", "type": kind, "value": {"x": 1, "y": 2, "width": 3, "height": 4, kind: list(names)}}


def annotation(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 5, "was_cancelled": False, "result": list(results), **more}


def task(image: str, *annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": list(annotations), **more}


@pytest.fixture
def folder(tmp_path: Path, photos: Photos) -> Path:
    photos(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    return tmp_path


def test_annotations_that_count(folder: Path) -> None:
    tasks = [
        task("a.jpg", annotation(choices("dog", "cat")), annotation(choices("bird"), was_cancelled=True)),
        task("b.jpg", annotation(), predictions=[{"result": [choices("bird")]}]),
        task("c.jpg", predictions=[{"result": [choices("bird")]}]),
        task("d.jpg", annotation(choices("dog"), was_cancelled=True)),
    ]
    data = read(put(folder / "project.json", tasks))
    assert labels_of(data) == {"a.jpg": "cat dog", "b.jpg": ""}
    assert dict(data.left_out) == {"c.jpg": "not annotated", "d.jpg": "not annotated"}
    assert any("1 task with predictions and no annotation" in note for note in data.notes)


def test_annotators_who_disagree_are_refused_and_ground_truth_decides(folder: Path) -> None:
    other = task("b.jpg", annotation(choices("cat")))
    two = [annotation(choices("dog")), annotation(choices("cat"))]
    path = put(folder / "project.json", [task("a.jpg", *two), other])
    assert "--conflicts" in refusal(path)
    assert labels_of(read(path, conflicts="union"))["a.jpg"] == "cat dog"
    put(path, [task("a.jpg", two[0], {**two[1], "ground_truth": True}), other])
    assert labels_of(read(path)) == {"a.jpg": "cat", "b.jpg": "cat"}


@pytest.mark.parametrize(
    "result, expected",
    [
        (box("dog"), "dog"),
        (box("dog", kind="polygonlabels"), "dog"),
        (box("dog", kind="brushlabels"), "dog"),
        (box("dog", kind="labels"), "dog"),
        (
            {"from_name": "t", "type": "taxonomy", "value": {"taxonomy": [["animal", "dog"], ["plant"]]}},
            "animal/dog plant",
        ),
        ({"from_name": "n", "type": "textarea", "value": {"text": ["a note"]}}, ""),
        ({"from_name": "n", "type": "rating", "value": {"rating": 4}}, ""),
        ({"from_name": "n", "type": "number", "value": {"number": 4}}, ""),
        ({"type": "relation", "direction": "right"}, ""),
    ],
)
def test_kinds_of_results(result: dict[str, Any], expected: str, folder: Path) -> None:
    path = put(folder / "p.json", [task("a.jpg", annotation(result)), task("b.jpg", annotation(choices("cat")))])
    assert labels_of(read(path)) == {"a.jpg": expected, "b.jpg": "cat"}


def test_fields_are_chosen_with_label_column(folder: Path) -> None:
    both = annotation(choices("wet", field="weather"), choices("dog", field="animal"))
    path = put(folder / "p.json", [task("a.jpg", both), task("b.jpg", annotation(choices("cat", field="animal")))])
    assert labels_of(read(path))["a.jpg"] == "dog wet"
    assert labels_of(read(path, label_column="animal"))["a.jpg"] == "dog"
    assert "no labels under 'colour'" in refusal(path, label_column="colour")
    assert "--image-column" in refusal(path, image_column="image")


@pytest.mark.parametrize(
    "name", ["/data/local-files/?d=photos/a%20b.jpg", "photos/a b.jpg", "/data/local-files/?d=archive/photos/a%20b.jpg"]
)
def test_names_of_local_storage(name: str, tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["photos/a b.jpg", "photos/c.jpg"])
    other = name.replace("a%20b", "c").replace("a b", "c")
    path = put(tmp_path / "p.json", [task(name, annotation(choices("dog"))), task(other, annotation(choices("cat")))])
    assert list(labels_of(read(path)).values()) == ["dog", "cat"]


def test_json_min(folder: Path) -> None:
    own = {"id": 3, "annotator": 1, "annotation_id": 2, "created_at": "2024", "updated_at": "2024", "lead_time": 2.5}
    records = [
        {"image": "a.jpg", "choice": {"choices": ["dog", "cat"]}, **own},
        {"image": "b.jpg", "choice": "dog", "remark": "x" * 100, **own},
        {"image": "c.jpg", **own},
        {"image": "d.jpg", "box": [{"x": 1, "rectanglelabels": ["bird"]}, {"x": 2, "rectanglelabels": ["dog"]}], **own},
    ]
    path = put(folder / "min.json", records)
    assert labels_of(read(path)) == {"a.jpg": "cat dog", "b.jpg": "dog", "c.jpg": "", "d.jpg": "bird dog"}
    assert labels_of(read(path, label_column="box")) == {"a.jpg": "", "b.jpg": "", "c.jpg": "", "d.jpg": "bird dog"}


def test_a_split_among_the_data(folder: Path) -> None:
    tasks = [task("a.jpg", annotation(choices("dog"))), task("b.jpg", annotation(choices("cat")))]
    for one, part in zip(tasks, ["train", "val"], strict=True):
        one["data"]["split"] = part
    assert parts_of(read(put(folder / "p.json", tasks))) == {"a.jpg": "train", "b.jpg": "validation"}


@pytest.mark.parametrize(
    "content, expected",
    [
        ([{"data": {"text": "no photo"}, "annotations": []}], "no field with image names"),
        ([{"data": {"image": "a.jpg"}, "annotations": 5}], "not a list of objects"),
        ([{"data": {"image": "a.jpg"}, "annotations": []}], "is annotated"),
        ([{"data": {"image": "a.jpg"}, "annotations": [{"result": [choices("")]}]}], "'' for a name"),
    ],
)
def test_damaged_tasks(content: Any, expected: str, folder: Path) -> None:
    assert expected in refusal(put(folder / "p.json", content))

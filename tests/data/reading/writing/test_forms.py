"""Data sets that are written as metadata.jsonl, Label Studio, FiftyOne, COCO or folders come back as they were."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from polytag import read, write
from polytag.data.dataset import Dataset
from polytag.data.reading.writing.forms import FORMS, form_of
from polytag.errors import DataError, PolytagError, SettingsError

Photos = Callable[..., list[str]]

NAMES = ["a.jpg", "sub/b.png", "x,1.jpg", 'q"uote.jpg', "ünï 字.jpg", "e|f.jpg", "100%.jpg", "a#b?.jpg", "train/c.jpg"]
LABELS = ["dog", "traffic light", "cat|bird", "a,b", "<a> & b", "ünï", "0", "image", "=1+1", "None", "split"]
FILES = {"metadata": "metadata.jsonl", "label-studio": "tasks.json", "fiftyone": "samples.json", "coco": "coco.json"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, photos: Photos) -> Path:
    home = tmp_path_factory.mktemp("home").resolve()
    photos(home, NAMES)
    return home


@st.composite
def datasets(draw: st.DrawFn, root: Path, values: list[int]) -> Dataset:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    labels = draw(st.lists(st.sampled_from(LABELS), unique=True, min_size=1, max_size=5))
    n, k = len(names), len(labels)
    row = st.lists(st.sampled_from(values), min_size=k, max_size=k)
    parts = st.lists(st.sampled_from(["train", "validation", "test"]), min_size=n, max_size=n).map(np.array)
    return Dataset(
        paths=np.array([str(root / name) for name in names]),
        targets=np.array(draw(st.lists(row, min_size=n, max_size=n)), dtype=np.int8),
        labels=tuple(labels),
        groups=np.array(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))),
        root=root,
        parts=draw(st.none() | parts),
    )


def known(data: Dataset) -> list[dict[str, int]]:
    """What is said about each photo, less the labels that are absent everywhere, which some forms cannot name."""
    used = (data.targets != 0).any(axis=0)
    return [
        {label: int(value) for label, value, use in zip(data.labels, row, used, strict=True) if use}
        for row in data.targets
    ]


def together(data: Dataset) -> set[frozenset[str]]:
    names = np.array(data.names)
    return {frozenset(names[data.groups == group].tolist()) for group in data.groups}


@given(data=st.data(), form=st.sampled_from(sorted(FILES)))
def test_what_is_written_is_read_again(home: Path, data: st.DataObject, form: str) -> None:
    values = [0, 1] if form == "label-studio" else [-1, 0, 1]
    whole = data.draw(datasets(home, values))
    assume((whole.targets == 1).any())
    path = home / FILES[form]
    try:
        written = write(path, whole, form)
        again = read(path)
    finally:
        path.unlink(missing_ok=True)
    assert again.names == whole.names
    assert known(again) == known(whole)
    assert together(again) == together(whole)
    if form in ("coco", "fiftyone"):
        assert again.labels == whole.labels
    if whole.parts is not None and len(set(whole.parts.tolist())) > 1:
        assert again.parts is not None and again.parts.tolist() == whole.parts.tolist()
    elif form != "metadata":
        assert again.parts is None
        assert (whole.parts is not None) == any("the split is lost" in note for note in written.notes)


@given(data=st.data(), split=st.booleans())
def test_folders_are_read_again(home: Path, data: st.DataObject, split: bool) -> None:
    names = data.draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=2))
    labels = ["dog", "traffic light", "été", "a,b"]
    chosen = data.draw(st.lists(st.integers(0, 3), min_size=len(names), max_size=len(names)))
    assume(len(set(chosen)) > 1)
    parts = np.array([["train", "validation", "test"][i % 3] for i in range(len(names))]) if split else None
    whole = Dataset(
        paths=np.array([str(home / name) for name in names]),
        targets=np.eye(4, dtype=np.int8)[chosen],
        labels=tuple(labels),
        groups=np.arange(len(names)),
        root=home,
        parts=parts,
    )
    path = home.parent / "folders"
    try:
        assert write(path, whole, link=split).form == "folders"
        again = read(path)
        found = {Path(photo).read_bytes(): i for i, photo in enumerate(again.paths)}
        assert {os.path.islink(photo) for photo in again.paths} == {split}
    finally:
        shutil.rmtree(path, ignore_errors=True)
    assert len(again) == len(whole)
    for i, photo in enumerate(whole.paths):
        j = found[Path(photo).read_bytes()]
        assert again.labels[int(again.targets[j].argmax())] == labels[chosen[i]]
        if split:
            assert again.parts is not None and parts is not None and again.parts[j] == parts[i]


@pytest.fixture
def small(tmp_path: Path, photos: Photos) -> Dataset:
    photos(tmp_path / "photos", ["a.jpg", "b.jpg", "c.jpg"])
    (tmp_path / "photos/labels.csv").write_text("image,dog,cat\na.jpg,1,0\nb.jpg,0,1\nc.jpg,1,0\n")
    return read(tmp_path / "photos")


@pytest.mark.parametrize(
    "name, to, form",
    [
        ("a.csv", None, "table"),
        ("a.parquet", None, "table"),
        ("metadata.jsonl", None, "metadata"),
        ("label_studio.json", None, "label-studio"),
        ("label-studio-tasks.json", None, "label-studio"),
        ("instances_default.json", None, "coco"),
        ("FiftyOne.json", None, "fiftyone"),
        ("x.json", "coco", "coco"),
        ("out", None, "folders"),
    ],
)
def test_the_name_decides_the_form(name: str, to: str | None, form: str) -> None:
    assert form_of(name, to) == form


@pytest.mark.parametrize(
    "name, to, expected",
    [
        ("x.json", None, "choose with --to"),
        ("x.xlsx", None, "expected .csv"),
        ("x.csv", "coco", "does not fit --to coco"),
        ("x.json", "table", "does not fit --to table: expected .csv"),
        ("x.csv", "yolo", "--to must be one of table"),
    ],
)
def test_a_form_that_does_not_fit(name: str, to: str | None, expected: str) -> None:
    with pytest.raises(SettingsError, match=expected):
        form_of(name, to)


def test_photos_without_known_labels_become_tasks_to_do_with_predictions(small: Dataset, tmp_path: Path) -> None:
    new = replace(small, targets=np.array([[1, 0], [-1, -1], [-1, -1]], np.int8))
    predictions = np.array([[0.9, 0.2], [0.4, 0.8], [0.1, 0.1]])
    written = write(tmp_path / "tasks.json", new, "label-studio", predictions=predictions, threshold=0.3)
    assert written.notes == ("2 photos without known labels: tasks without an annotation",)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [len(task["annotations"]) for task in tasks] == [1, 0, 0]
    found = [[result["value"]["choices"] for result in task["predictions"][0]["result"]] for task in tasks]
    assert found == [[["dog"]], [["dog", "cat"]], []]
    again = read(tmp_path / "tasks.json", images=small.root)
    assert [Path(path).name for path in again.paths] == ["a.jpg"]


def test_what_a_form_cannot_hold_is_refused_or_said(small: Dataset, tmp_path: Path) -> None:
    unknown = replace(small, targets=np.array([[1, -1], [0, 1], [1, 0]], np.int8))
    with pytest.raises(DataError, match="cannot hold 1 unknown entry"):
        write(tmp_path / "tasks.json", unknown, "label-studio")
    idle = replace(small, targets=np.array([[1, 0], [1, 0], [1, 0]], np.int8))
    for form in ("metadata", "label-studio"):
        written = write(tmp_path / FILES[form], idle, form)
        assert written.notes == ("1 label without photos not written: cat",)
    several = replace(small, targets=np.array([[1, 1], [0, 0], [1, -1]], np.int8))
    with pytest.raises(
        DataError, match="1 photo without a label, 1 photo with several labels, 1 photo with unknown labels"
    ):
        write(tmp_path / "folders", several)
    with pytest.raises(DataError, match="cannot be the name of a folder"):
        write(tmp_path / "folders", replace(small, labels=("a/b", "cat")))
    with pytest.raises(DataError, match="would not be read as labels"):
        write(tmp_path / "folders", replace(small, labels=("2019", "2020")))
    assert not (tmp_path / "folders").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_input_is_never_written_over(small: Dataset, tmp_path: Path) -> None:
    linked = tmp_path / "photos/other.jsonl"
    os.link(tmp_path / "photos/labels.csv", linked)
    with pytest.raises(SettingsError, match="is the same file as the input"):
        write(linked, small, inputs=[tmp_path / "photos/labels.csv"])
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    with pytest.raises(PolytagError, match="not an empty folder"):
        write(full, small)
    assert (full / "mine").read_text() == "mine"


def test_predictions(small: Dataset, tmp_path: Path) -> None:
    probabilities = np.array([[0.9, 0.2], [0.4, np.nan], [np.nan, np.nan]], np.float32)
    path = tmp_path / "photos/tasks.json"
    write(path, small, "label-studio", predictions=probabilities, threshold=[0.5, 0.1])
    tasks = json.loads(path.read_text())
    first, second, third = (task["predictions"][0] for task in tasks)
    assert first["result"][0]["value"] == {"choices": ["dog", "cat"]} and first["score"] == pytest.approx(0.8)
    assert second["result"] == [] and second["score"] == pytest.approx(0.6)
    assert third["result"] == [] and third["score"] == 0
    assert known(read(path)) == known(small)

    path = tmp_path / "photos/fiftyone.json"
    write(path, small, predictions=probabilities)
    sample = json.loads(path.read_text())["samples"][0]
    assert sample["predictions"]["classifications"] == [
        {"_cls": "Classification", "label": "dog", "confidence": pytest.approx(0.9)}
    ]
    again = read(path)
    assert known(again) == known(small)
    assert "fields not used: predictions; choose one with --label-column" in again.notes
    for form in set(FORMS) - {"label-studio", "fiftyone"}:
        with pytest.raises(SettingsError, match="predictions can be written for"):
            write(tmp_path / {**FILES, "table": "x.csv", "folders": "x"}[form], small, form, predictions=probabilities)
    with pytest.raises(SettingsError, match="need the shape"):
        write(path, small, "fiftyone", predictions=probabilities[:2])

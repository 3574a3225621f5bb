"""Doubtful labels are judged by Bayes' rule and ranked, missing and wrong ones separately."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from polytag.auditing.contact_sheet import CELL, contact_sheet
from polytag.auditing.label_errors import FEWEST, NOISE, error_probabilities, label_errors
from polytag.data.dataset import Dataset
from polytag.errors import DataError, SettingsError


def dataset(targets: np.ndarray) -> Dataset:
    n, k = targets.shape
    return Dataset(
        paths=np.array([f"/photos/{i}.jpg" for i in range(n)]),
        targets=targets.astype(np.int8),
        labels=tuple(f"label{j}" for j in range(k)),
        groups=np.arange(n),
        root=Path("/photos"),
    )


def test_an_entry_is_weighed_by_bayes_rule() -> None:
    # With so many photos without any label as independent labels would leave, only the rule itself is at work.
    targets = np.array([[0], [1], [0], [1], [-1]], np.int8)
    p = np.array([[0.9], [0.9], [0.2], [0.2], [0.7]])
    wrong = error_probabilities(
        np.vstack([p, np.full((30, 1), 0.01)]), np.vstack([targets, np.zeros((30, 1), np.int8)])
    )
    absent = [0.9 * NOISE / (0.9 * NOISE + 0.1 * (1 - NOISE)), 0.2 * NOISE / (0.2 * NOISE + 0.8 * (1 - NOISE))]
    present = [0.1 * NOISE / (0.1 * NOISE + 0.9 * (1 - NOISE)), 0.8 * NOISE / (0.8 * NOISE + 0.2 * (1 - NOISE))]
    assert np.allclose(wrong[:5, 0], [absent[0], present[0], absent[1], present[1], 0.7])


def test_the_only_label_of_a_photo_is_not_doubted_lightly() -> None:
    rng = np.random.default_rng(0)
    targets = np.eye(4, dtype=np.int8)[rng.integers(0, 4, 200)]  # each photo has exactly one label
    p = np.where(targets == 1, 0.9, 0.05)
    p[0] = 0.02  # nothing looks like being on this photo, but something has to be
    wrong = error_probabilities(p, targets)
    targets_two = np.vstack([targets, np.zeros((200, 4), np.int8)])  # half of the photos show nothing
    wrong_two = error_probabilities(np.vstack([p, np.full((200, 4), 0.05)]), targets_two)
    present = int(np.argmax(targets[0]))
    assert wrong[0, present] < wrong_two[0, present]


def test_ranked_with_missing_and_wrong_apart() -> None:
    targets = np.array([[1, 0], [0, 1]] * 10, np.int8)
    p = np.where(targets == 1, 0.95, 0.05)
    p[0, 1] = 0.999  # absent, surely there
    p[1, 1] = 0.001  # present, surely not
    p[2, 1] = 0.7  # absent, perhaps there
    found = label_errors(dataset(targets), p)
    assert list(found.columns) == ["image", "label", "kind", "score", "probability", "flag"]
    top = found.set_index(["image", "label"])
    assert top.loc[("0.jpg", "label1"), "kind"] == "missing" and top.loc[("0.jpg", "label1"), "flag"]
    assert top.loc[("1.jpg", "label1"), "kind"] == "wrong" and top.loc[("1.jpg", "label1"), "flag"]
    assert not top.loc[("2.jpg", "label1"), "flag"]
    assert found["score"].is_monotonic_increasing and found["score"].between(0, 1).all()
    assert set(zip(found["image"][:2], found["label"][:2], strict=True)) == {("0.jpg", "label1"), ("1.jpg", "label1")}


def test_unknown_entries_and_rare_labels_are_not_judged() -> None:
    targets = np.zeros((30, 3), np.int8)
    targets[: FEWEST - 1, 0] = 1
    targets[:15, 1] = 1
    targets[15, 1] = -1
    targets[::2, 2] = 1
    found = label_errors(dataset(targets), np.full(targets.shape, 0.5))
    assert "label0" not in set(found["label"])
    assert ("15.jpg", "label1") not in set(zip(found["image"], found["label"], strict=True))


def test_what_are_no_probabilities_is_refused() -> None:
    data = dataset(np.eye(4))
    for wrong in (np.zeros((3, 4)), np.full((4, 4), 1.5), np.full((4, 4), np.nan)):
        with pytest.raises(DataError, match="from 0 to 1"):
            label_errors(data, wrong)


def test_a_set_without_doubt_has_an_empty_table() -> None:
    targets = np.array([[1, 0], [0, 1]] * 10, np.int8)
    found = label_errors(dataset(targets), np.where(targets == 1, 0.999, 0.001))
    assert not len(found) and "flag" in found


@pytest.fixture
def doubtful(tmp_path: Path, photos) -> tuple[Dataset, pd.DataFrame]:
    """14 photos with three missing and nine wrong labels, whose long names use several scripts."""
    targets = np.array([[1, 0], [0, 1]] * 7, np.int8)
    labels = ("закат", "海 " + "very long " * 20 + "\n<b>")
    data = Dataset(np.array(photos(tmp_path, 14)), targets, labels, np.arange(14), tmp_path)
    kinds = ["wrong"] * 9 + ["missing"] * 3
    rows = {"image": data.names[:12], "label": [labels[i % 2] for i in range(12)], "kind": kinds}
    return data, pd.DataFrame(rows | {"score": np.linspace(0, 0.4, 12), "probability": 0.5, "flag": True})


def cells(path: Path) -> int:
    """How many cells of a sheet hold anything."""
    with Image.open(path) as sheet:
        grey = np.asarray(sheet.convert("L"))
    width, height = CELL
    assert grey.shape[1] % width == 0 and grey.shape[0] % height == 0
    return sum(
        grey[y : y + height, x : x + width].min() < 200
        for y in range(0, grey.shape[0], height)
        for x in range(0, grey.shape[1], width)
    )


def test_a_contact_sheet_has_a_cell_for_each_entry(tmp_path: Path, doubtful) -> None:
    data, errors = doubtful
    for settings, expected in [({}, 12), ({"at_most": 5}, 5)]:
        path = tmp_path / "sheet.png"
        assert contact_sheet(data, errors, path, **settings) == expected
        assert cells(path) == expected


def test_a_photo_that_is_gone_keeps_its_cell(tmp_path: Path, doubtful) -> None:
    data, errors = doubtful
    Path(data.paths[0]).unlink()
    assert contact_sheet(data, errors, tmp_path / "sheet.png") == cells(tmp_path / "sheet.png") == 12


def test_a_contact_sheet_that_cannot_be_drawn_is_refused(tmp_path: Path, doubtful) -> None:
    data, errors = doubtful
    with pytest.raises(SettingsError, match="cannot be written"):
        contact_sheet(data, errors, tmp_path / "nowhere" / "sheet.png")
    with pytest.raises(DataError, match="no suspect labels"):
        contact_sheet(data, errors[:0], tmp_path / "sheet.png")
    assert not list(tmp_path.glob("*.png"))

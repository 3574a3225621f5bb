"""Doubtful labels: weighed by Bayes' rule, ranked, missing and wrong ones apart."""

from pathlib import Path

import numpy as np
import pytest

from polytag.data.dataset import Dataset
from polytag.data.label_errors import FEWEST, NOISE, error_probabilities, label_errors
from polytag.errors import DataError


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

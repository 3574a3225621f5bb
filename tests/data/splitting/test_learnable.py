"""Labels that cannot be learned are found and named; only hopeless data are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from polytag.data.dataset import Dataset
from polytag.data.splitting.learnable import check_learnable, learnable, unlearnable
from polytag.data.splitting.split import split
from polytag.errors import DataError


def dataset(targets: ArrayLike, groups: ArrayLike | None = None) -> Dataset:
    targets = np.asarray(targets, dtype=np.int8)
    n, k = targets.shape
    return Dataset(
        paths=np.array([f"/photos/image{i}.jpg" for i in range(n)]),
        targets=targets,
        labels=tuple(f"label{j}" for j in range(k)),
        groups=np.arange(n) if groups is None else np.asarray(groups, dtype=np.int64),
        root=Path("/photos"),
    )


TRAIN = dataset(
    # learnable, never present, always, once, two copies, once here and once in validation, in validation only
    [
        [1, 0, 1, 1, 1, 0, 0],
        [0, 0, 1, 0, 1, 0, 0],
        [1, -1, 1, 0, 0, 1, 0],
        [0, 0, -1, 0, 0, 0, -1],
    ],
    [0, 0, 1, 2],
)
VALIDATION = dataset([[1, 0, 0, 0, 0, 1, 1], [0, 0, 1, 0, 0, 0, 1], [1, 0, 1, 0, 0, 0, 1]])

REASONS = {
    "label1": "no training photo has it",
    "label2": "no training photo lacks it",
    "label3": "only one photo has it",
    "label4": "only one group of photos has it",
    "label6": "no training photo has it",
}


def test_each_label_that_cannot_be_learned_has_its_reason() -> None:
    assert unlearnable(TRAIN, VALIDATION) == REASONS


def test_what_cannot_be_learned_is_left_out_and_named() -> None:
    train, validation = learnable(replace(TRAIN, labels_left_out={"cat": "only one photo has it"}), VALIDATION)
    for part, before in ((train, TRAIN), (validation, VALIDATION)):
        assert part.labels == ("label0", "label5")
        np.testing.assert_array_equal(part.targets, before.targets[:, [0, 5]])
    assert train.labels_left_out == {"cat": "only one photo has it", **REASONS}
    assert train.notes == (
        "5 labels left out of training: label1 (no training photo has it), label2 (no training photo lacks it), label3 "
        "(only one photo has it), label4 (only one group of photos has it), label6 (no training photo has it)",
    )


def test_ordinary_data_stay_as_they_are() -> None:
    train = TRAIN.without_labels(REASONS)
    validation = VALIDATION.without_labels(REASONS)
    again = learnable(train, validation)
    assert again[0] is train and again[1] is validation


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (np.eye(4), "no label can be learned: label0 (only one photo has it), label1 (only"),
        (np.ones((4, 1)), "no label can be learned: label0 (no training photo lacks it); add photos"),
        (np.zeros((4, 2)), "no label can be learned: label0 (no training photo has it), label1 (no"),
        ([[1], [0]], "2 different images: expected at least 3"),
        ([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 0]], "3 images for 4 labels: expected more images than labels"),
    ],
)
@pytest.mark.parametrize("refuse", [check_learnable, split])
def test_hopeless_data_are_refused(refuse: Callable[[Dataset], object], targets: ArrayLike, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        refuse(dataset(targets))
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)


def test_a_split_without_a_learnable_label_is_refused() -> None:
    with pytest.raises(DataError, match=r"no label can be learned: label0 \(no training photo has it\)"):
        learnable(dataset([[0], [0]]), dataset([[1], [0]]))

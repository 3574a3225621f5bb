"""Slices find the photos on which a model is weaker."""

import json
from pathlib import Path

import numpy as np
import pytest

from polytag.data.dataset import Dataset
from polytag.errors import DataError
from polytag.evaluation.evaluate import Evaluation, judge
from polytag.evaluation.slices import MIN_SLICE, automatic_slices, slices
from polytag.photos.measure import RECORD


def evaluation(weak: np.ndarray, groups: np.ndarray | None = None, seed: int = 0) -> Evaluation:
    """An evaluation of a model that only guesses on the photos where ``weak`` is true."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((len(weak), 5)) < 0.4).astype(np.int8)
    right = np.where(weak[:, None], rng.random(targets.shape) < 0.5, rng.random(targets.shape) < 0.9)
    p = np.where(right == (targets == 1), 0.9, 0.1).astype(np.float32)
    paths = np.array([f"/x/{i}.jpg" for i in range(len(weak))])
    groups = np.arange(len(weak)) if groups is None else groups
    data = Dataset(paths, targets, tuple("abcde"), groups, Path("/x"))
    return judge(data.labels, np.full(5, 0.5, np.float32), data, targets, p, 1.0, [])


def test_the_weak_part_is_first_and_beyond_chance() -> None:
    weak = np.arange(400) % 4 == 0
    columns = {"camera": np.where(weak, "old", "new"), "day": np.array(["odd", "even"])[np.arange(400) // 4 % 2]}
    first, *others = slices(evaluation(weak), columns)
    assert (first.column, first.value, first.photos) == ("camera", "old", 100)
    assert first.high < 0 and first.interval[0] < first.score < first.interval[1]
    assert not any(s.beyond_chance for s in others if s.column == "day")
    assert [s.score for s in others] == sorted(s.score for s in others)


def test_parts_of_equal_quality_rarely_differ() -> None:
    rng, found = np.random.default_rng(0), 0
    for seed in range(40):
        columns = {f"column {i}": rng.integers(3, size=200).astype(str) for i in range(5)}
        found += any(s.beyond_chance for s in slices(evaluation(np.zeros(200, bool), seed=seed), columns))
    assert found <= 6


def test_small_parts_and_photos_without_a_value_are_left_out() -> None:
    values = np.full(200, "", dtype="<U8")
    values[: MIN_SLICE - 1] = "few"
    values[MIN_SLICE : 3 * MIN_SLICE] = "enough"
    (only,) = slices(evaluation(np.zeros(200, bool)), {"place": values})
    assert (only.value, only.photos) == ("enough", 2 * MIN_SLICE)
    assert slices(evaluation(np.zeros(200, bool)), {"place": np.full(200, "all")}) == []
    assert slices(evaluation(np.zeros(200, bool)), {}) == []


def test_a_few_groups_prove_nothing() -> None:
    """Photos of one group resemble each other, so all of a burst may be difficult by chance."""
    found = {2: 0, 8: 0}
    for n_groups in found:
        for seed in range(60):
            rng = np.random.default_rng(seed)
            groups = np.concatenate([np.arange(24) % n_groups, np.repeat(np.arange(100, 150), 4)])
            weak = rng.random(200)[groups] < 0.5  # as it happens to be for the whole group
            columns = {"camera": np.where(groups < 50, "A", "")}
            found[n_groups] += slices(evaluation(weak, groups, seed), columns)[0].beyond_chance
    assert found[2] == 0 and found[8] <= 8
    (single,) = slices(evaluation(np.zeros(60, bool), np.zeros(60, int)), {"camera": np.repeat(["A", ""], 30)})
    assert json.loads(json.dumps(single.recorded(), allow_nan=False))["beyond_chance"] is False


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match="has 3 values for 30 photos"):
        slices(evaluation(np.zeros(30, bool)), {"camera": ["a"] * 3})


def test_groups_widen_the_intervals() -> None:
    weak = np.repeat(np.arange(20) % 4 == 0, 20)
    columns = {"camera": np.where(weak, "old", "new")}
    by_photo, by_group = (slices(evaluation(weak, g), columns)[0] for g in (None, np.repeat(np.arange(20), 20)))
    assert by_group.high - by_group.low > by_photo.high - by_photo.low


def test_automatic_parts_are_the_dark_the_blurred_the_small_and_those_with_few_labels() -> None:
    measured = np.zeros(100, RECORD)
    measured["brightness"], measured["sharpness"] = np.arange(100) / 100, np.arange(100)[::-1]
    measured["width"] = measured["height"] = 64
    targets = np.zeros((100, 6), np.int8)
    targets[50:, 0] = targets[90:, 1:5] = 1
    columns = automatic_slices(measured, targets)
    assert columns["light"] == ["darkest fifth"] * 20 + [""] * 80
    assert columns["sharpness"] == [""] * 80 + ["most blurred fifth"] * 20
    assert set(columns["size"]) == {""}, "photos of one size are not smaller than others"
    assert (columns["labels"][0], columns["labels"][50], columns["labels"][99]) == ("none", "one", "four or more")
    assert set(automatic_slices(measured[:0], targets[:0])) == {"light", "sharpness", "size", "labels"}

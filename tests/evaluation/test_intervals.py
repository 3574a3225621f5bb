"""Intervals contain their score, cover the truth, and widen with the number of comparisons."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import t as student

from polytag.evaluation.intervals import interval, simultaneous_intervals, spread
from polytag.evaluation.jackknife import blocks_of, left_out
from polytag.evaluation.metrics import average_precisions, scores


def means_without(values: np.ndarray) -> np.ndarray:
    return (values.sum(axis=0) - values) / (len(values) - 1)


def test_the_standard_error_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).random((50, 2))
    found = spread(values.mean(axis=0), means_without(values))
    assert found.bias == pytest.approx([0, 0], abs=1e-12)
    assert found.error == pytest.approx(values.std(axis=0, ddof=1) / np.sqrt(50))


def test_an_unbounded_score_has_students_interval() -> None:
    values = 5 * np.random.default_rng(0).random(12)
    low, high = interval(values.mean(), means_without(values), upper=None)
    half = student.ppf(0.975, 11) * values.std(ddof=1) / np.sqrt(12)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
@settings(deadline=None)
def test_an_interval_contains_its_score_and_stays_in_range(values: list[float]) -> None:
    array = np.array(values)
    low, high = interval(float(array.mean()), means_without(array))
    assert 0 <= low <= array.mean() + 1e-9 and array.mean() - 1e-9 <= high <= 1


def test_perfect_scores_are_not_certain() -> None:
    low, high = interval(1.0, np.ones(100))
    assert 0.95 < low < 0.99 and high == 1


def test_one_block_says_nothing() -> None:
    assert interval(0.7, np.array([np.nan])) == (0, 1)
    assert interval(0.7, np.full(10, 0.7), evidence=1) == (0, 1)
    assert all(np.isnan(interval(float("nan"), np.full(10, np.nan))))
    assert all(np.isnan(interval(3.0, np.array([np.nan]), upper=None)))


def test_the_interval_of_map_covers_the_truth_where_a_bootstrap_does_not() -> None:
    rng, covered = np.random.default_rng(0), []
    centers = np.linspace(-4, -1, 8)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        p = expit(centers + 2 * rng.standard_normal((n, 8))).astype(np.float32)
        return (rng.random((n, 8)) < p).astype(np.int8), p

    truth = average_precisions(*draw(100_000))
    for _ in range(150):
        targets, p = draw(120)
        judged = targets.sum(axis=0) >= 3
        score = scores(targets, p, 0.5, judged)["mean_average_precision"]
        without, _ = left_out(targets, p, np.full(8, 0.5, np.float32), blocks_of(np.arange(120)), judged)
        low, high = interval(score, without["mean_average_precision"])
        assert low <= score <= high
        covered.append(low <= truth[judged].mean() <= high)
    assert np.mean(covered) >= 0.9


def test_simultaneous_intervals_of_one_difference_are_students() -> None:
    values = np.random.default_rng(0).normal(size=20)
    (low, high), *_ = simultaneous_intervals(np.array([values.mean()]), means_without(values)[:, None])
    half = student.ppf(0.975, 19) * values.std(ddof=1) / np.sqrt(20)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_simultaneous_intervals_miss_together_in_one_of_twenty() -> None:
    rng, missed = np.random.default_rng(0), 0
    for _ in range(300):
        values = rng.normal(size=(60, 8)) + rng.normal(size=(60, 1))
        ends = simultaneous_intervals(values.mean(axis=0), means_without(values))
        missed += bool((ends[:, 0] > 0).any() or (ends[:, 1] < 0).any())
    assert 4 <= missed <= 26


@pytest.mark.parametrize("blocks", [6, 12])
def test_few_blocks_do_not_make_simultaneous_intervals_too_narrow(blocks: int) -> None:
    rng, missed = np.random.default_rng(0), 0
    for _ in range(200):
        values = rng.normal(size=(blocks, 30))
        ends = simultaneous_intervals(values.mean(axis=0), means_without(values))
        missed += bool((ends[:, 0] > 0).any() or (ends[:, 1] < 0).any())
    assert missed <= 18


def test_the_same_difference_twice_is_no_second_comparison() -> None:
    values = np.random.default_rng(0).normal(size=(60, 2))
    values = np.append(values, values, axis=1)
    ends = simultaneous_intervals(values.mean(axis=0), means_without(values))
    two = simultaneous_intervals(values[:, :2].mean(axis=0), means_without(values[:, :2]))
    np.testing.assert_allclose(ends[:2], two, rtol=0.05)
    np.testing.assert_allclose(ends[:2], ends[2:])


def test_undefined_differences_have_no_interval_and_spare_the_others() -> None:
    values = np.random.default_rng(0).normal(size=(30, 1))
    without = np.append(means_without(values), np.full((30, 1), np.nan), axis=1)
    ends = simultaneous_intervals(np.array([values.mean(), np.nan]), without)
    assert np.isfinite(ends[0]).all() and np.isnan(ends[1]).all()


def test_ends_stay_within_the_range_of_the_score() -> None:
    few = np.array([0.1, 0.2, 3.0])
    low, high = interval(float(few.mean()), means_without(few), upper=None)
    assert low == 0 and high > few.mean()
    wide = np.array([[0.9, 0.0], [0.1, 0.1], [-0.9, 0.2]])
    ends = simultaneous_intervals(wide.mean(axis=0), means_without(wide))
    assert ends[0].tolist() == [-1, 1] and (np.abs(ends[1]) < 1).all()


@pytest.mark.parametrize("photos", [3, 4, 10, 11, 40, 200])
def test_the_same_score_on_every_photo_is_not_certain(photos: int) -> None:
    total = np.full(photos, 2 / 3).sum()
    low, high = interval(total / photos, (total - np.full(photos, 2 / 3)) / (photos - 1))
    assert low < 2 / 3 - 0.04 and high > 2 / 3 + 0.04


def test_two_photos_prove_no_difference() -> None:
    ends = simultaneous_intervals(np.array([1.0, 0.0]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert ends[0, 0] < 0 and ends[1].tolist() == [0, 0]
    many = simultaneous_intervals(np.array([1.0]), np.ones((100, 1)))
    assert many[0, 0] > 0.9

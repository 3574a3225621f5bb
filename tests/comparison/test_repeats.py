"""Repeats: means, spreads and the corrected resampled t-test."""

import numpy as np
import pytest
from scipy.stats import t as student

from polytag.comparison.repeats import Repeats, repeats_of_each, with_test_photos
from polytag.errors import SettingsError
from polytag.evaluation.evaluate import MAIN_SCORES, Difference


def repeats(*models: list[float | None], one_split: bool = False) -> Repeats:
    scores = {
        name: [None if value is None else dict.fromkeys(MAIN_SCORES, value) for value in values]
        for name, values in zip("abc", models, strict=False)
    }
    return Repeats(tuple(range(len(models[0]))), 700, 150, scores, one_split)


def test_mean_and_spread_skip_what_was_not_trained() -> None:
    found = repeats([0.5, 0.7, None])
    assert found.mean("a", "samples_f1") == pytest.approx(0.6)
    assert found.spread("a", "samples_f1") == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert np.isnan(repeats([0.5, None]).spread("a", "samples_f1"))


def test_the_variance_is_corrected_for_shared_photos() -> None:
    a, b = [0.80, 0.82, 0.79, 0.83, 0.81], [0.78, 0.79, 0.78, 0.79, 0.80]
    first, *_ = repeats(a, b).compared([("a", "b")])[0]
    values = np.subtract(a, b)
    error = np.sqrt((1 / 5 + 150 / 700) * values.var(ddof=1))
    half = student.ppf(1 - 0.025 / 4, 4) * error
    assert (first.low, first.difference, first.high) == pytest.approx(
        (values.mean() - half, values.mean(), values.mean() + half)
    )


def test_only_common_repeats_are_compared() -> None:
    (first, *_), (second, *_) = repeats([0.8, 0.9, 0.7], [0.7, None, 0.6], [None, 0.5, None]).compared(
        [("a", "b"), ("a", "c")]
    )
    assert first.difference == pytest.approx(0.1)
    assert second.difference == pytest.approx(0.4) and np.isnan(second.low) and not second.beyond_chance


def test_equally_good_models_rarely_differ() -> None:
    rng, found = np.random.default_rng(0), 0
    for _ in range(200):
        drawn = repeats(*rng.normal(0.8, 0.02, (3, 5)).tolist())
        found += any(d.beyond_chance for pair in drawn.compared([("a", "b"), ("a", "c"), ("b", "c")]) for d in pair)
    assert found <= 10


def test_on_one_split_trainings_are_independent() -> None:
    a, b = [0.80, 0.82, 0.79, 0.83, 0.81], [0.78, 0.79, 0.78, 0.79, 0.80]
    first, *_ = repeats(a, b, one_split=True).compared([("a", "b")])[0]
    half = student.ppf(1 - 0.025 / 4, 4) * np.std(np.subtract(a, b), ddof=1) / np.sqrt(5)
    assert first.high - first.difference == pytest.approx(half)


def test_accidental_agreement_is_no_certainty() -> None:
    first, *_ = repeats([0.81, 0.82], [0.80, 0.81]).compared([("a", "b")])[0]
    assert first.low < 0 < first.high


def test_on_one_split_the_intervals_cover_test_photos_and_trainings() -> None:
    rng, found = np.random.default_rng(0), 0
    for _ in range(1000):
        # Equally good models: these test photos favor one of them in all trainings, and each training adds its own.
        a = 0.8 + rng.normal(0, 0.02) + rng.normal(0, 0.02, 5)
        (trainings, *_), *_ = repeats(a.tolist(), [0.8] * 5, one_split=True).compared([("a", "b")])
        once = Difference("samples_f1", a[0] - 0.8, a[0] - 0.8 - 1.96 * 0.02, a[0] - 0.8 + 1.96 * 0.02)
        found += with_test_photos(trainings, once).beyond_chance
    assert found <= 60


def test_repeats_of_each_model() -> None:
    assert repeats_of_each(["a", "b"], 5, {"b": 2}) == {"a": 5, "b": 2}
    with pytest.raises(SettingsError, match="c is not compared"):
        repeats_of_each(["a", "b"], 5, {"c": 2})


def test_what_varied_in_words() -> None:
    uneven = repeats([0.5, 0.7, 0.6], [0.5, None, None])
    assert uneven.scope == "over 1 to 3 splits and trainings" and uneven.count("a", "b") == 1
    assert repeats([0.5, 0.7], one_split=True).scope == "over 2 trainings on one split"

"""Repeats: means, spreads and the corrected resampled t-test."""

import numpy as np
import pytest
from scipy.stats import t as student

from polytag.comparison.repeats import Repeats
from polytag.evaluation.evaluate import MAIN_SCORES


def repeats(*models: list[float | None]) -> Repeats:
    scores = {
        name: [None if value is None else dict.fromkeys(MAIN_SCORES, value) for value in values]
        for name, values in zip("abc", models, strict=False)
    }
    return Repeats(tuple(range(len(models[0]))), 700, 150, scores)


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

"""Repeats: the same models trained several times, each time on a new split unless the data has its own split."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from polytag.errors import SettingsError, counted
from polytag.evaluation.evaluate import MAIN_SCORES, Difference
from polytag.evaluation.intervals import LEVEL


def repeats_of_each(models: Sequence[str], repeats: int, fewer: Mapping[str, int]) -> dict[str, int]:
    """Return the number of repeats of each model.

    Args:
        models: names of the models.
        repeats: number of repeats.
        fewer: models that get fewer repeats, with their number.

    Raises:
        SettingsError: a number is out of range, or ``fewer`` names a model that is not compared.
    """
    if repeats < 1:
        raise SettingsError(f"repeats must be 1 or more, not {repeats}")
    for model, number in fewer.items():
        if model not in models:
            raise SettingsError(f"{model} is not compared, so it cannot be repeated. Add it to the models.")
        if not 1 <= number <= repeats:
            raise SettingsError(f"{model} can have 1 to {counted(repeats, 'repeat')}, not {number}")
    return {model: fewer.get(model, repeats) for model in models}


@dataclass(frozen=True)
class Repeats:
    """Scores of models over N splits and training runs.

    Attributes:
        seeds: N seeds, one per repeat, for the split and training.
        train_photos, test_photos: number of photos in the training set and the test set of a split.
        scores: the scores of each model on each repeat; ``None`` if the model was not trained on that repeat.
        one_split: whether all repeats share the split that came with the data. If so, only training varies.
    """

    seeds: tuple[int, ...]
    train_photos: int
    test_photos: int
    scores: Mapping[str, Sequence[Mapping[str, float] | None]]
    one_split: bool = False

    @property
    def scope(self) -> str:
        """Describe what varied between repeats."""
        numbers = [self.count(model) for model in self.scores]
        least, most = min(numbers), max(numbers)
        number = f"{most}" if least == most else f"{least} to {most}"
        return f"over {number} trainings on one split" if self.one_split else f"over {number} splits and trainings"

    def count(self, *models: str) -> int:
        """Return the number of repeats on which all of these models were trained."""
        found = zip(*(self.scores[model] for model in models), strict=True)
        return sum(None not in scores for scores in found)

    def of(self, model: str, metric: str) -> np.ndarray:
        """Return the score on each repeat, float64 (N,); NaN where the model was not trained."""
        return np.array([math.nan if found is None else found[metric] for found in self.scores[model]])

    def mean(self, model: str, metric: str) -> float:
        """Return the mean over the repeats on which the score is defined."""
        values = self.of(model, metric)
        return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan

    def spread(self, model: str, metric: str) -> float:
        """Return the standard deviation over the repeats; NaN with fewer than two repeats."""
        values = self.of(model, metric)
        values = values[np.isfinite(values)]
        return float(values.std(ddof=1)) if len(values) > 1 else math.nan

    def compared(self, pairs: Sequence[tuple[str, str]]) -> list[list[Difference]]:
        """Compare models pairwise on the repeats that both models have.

        Splits share photos, so scores on different splits are not independent. The variance is corrected for that
        (Nadeau & Bengio 2003, Inference for the Generalization Error). On one split, training runs are independent, and
        the intervals do not account for other test photos. The intervals are simultaneous at 95% (Bonferroni).

        Args:
            pairs: names of two models each; differences are the first minus the second.

        Returns:
            The difference in each of `MAIN_SCORES` for each pair. With fewer than two repeats, it has no interval.
        """
        level = 1 - (1 - LEVEL) / (2 * max(1, len(pairs) * len(MAIN_SCORES)))
        return [[self._difference(a, b, metric, level) for metric in MAIN_SCORES] for a, b in pairs]

    def _difference(self, a: str, b: str, metric: str, level: float) -> Difference:
        values = self.of(a, metric) - self.of(b, metric)
        values = values[np.isfinite(values)]
        n = len(values)
        if n < 2:
            return Difference(metric, float(values.mean()) if n else math.nan, math.nan, math.nan)
        # Scores change in steps, so with few photos they can agree by accident. To keep this from passing for
        # certainty, the deviation is at least the weight of one photo.
        mean, variance = float(values.mean()), max(float(values.var(ddof=1)), 1 / self.test_photos**2)
        shared = 0.0 if self.one_split else self.test_photos / self.train_photos
        half = float(student.ppf(level, n - 1)) * math.sqrt((1 / n + shared) * variance)
        return Difference(metric, mean, mean - half, mean + half)

    def recorded(self) -> dict[str, Any]:
        """Return the part of results.json about the repeats. Undefined numbers are ``None``."""

        def number(value: float) -> float | None:
            return value if math.isfinite(value) else None

        def summary(model: str) -> dict[str, Any]:
            found = self.scores[model]
            names = next((scores for scores in found if scores is not None), {})
            return {
                "repeats": self.count(model),
                "mean": {name: number(self.mean(model, name)) for name in names},
                "standard_deviation": {name: number(self.spread(model, name)) for name in names},
                "scores": [None if f is None else {name: number(value) for name, value in f.items()} for f in found],
            }

        return {
            "seeds": list(self.seeds),
            "one_split": self.one_split,
            "models": {model: summary(model) for model in self.scores},
        }


def with_test_photos(trainings: Difference, photos: Difference) -> Difference:
    """Widen the interval over several training runs on one split to account for other test photos.

    The two sources of error are independent, so the distances from the difference to the ends of the two intervals are
    combined as the root of the sum of squares (MOVER; Zou & Donner 2008, Construction of Confidence Limits about Effect
    Measures).

    Args:
        trainings: the mean difference over training runs, with the interval from `Repeats.compared`.
        photos: the difference of one training run, with the interval from `polytag.evaluation.evaluate.compared`.
    """
    below = math.hypot(trainings.difference - trainings.low, photos.difference - photos.low)
    above = math.hypot(trainings.high - trainings.difference, photos.high - photos.difference)
    mean = trainings.difference
    return Difference(trainings.metric, mean, mean - below, mean + above)

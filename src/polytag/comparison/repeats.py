"""Repeats: the same models on several splits, each trained anew on each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from polytag.evaluation.evaluate import MAIN_SCORES, Difference
from polytag.evaluation.intervals import LEVEL


@dataclass(frozen=True)
class Repeats:
    """Scores of models over N splits and trainings.

    Attributes:
        seeds: the seed of split and training of each repeat, N of them.
        train_photos, test_photos: number of photos in these parts of a split.
        scores: for each model its scores on each repeat; ``None`` where the model was not trained.
    """

    seeds: tuple[int, ...]
    train_photos: int
    test_photos: int
    scores: Mapping[str, Sequence[Mapping[str, float] | None]]

    def of(self, model: str, metric: str) -> np.ndarray:
        """The score on each repeat, float64 (N,); NaN where the model was not trained."""
        return np.array([math.nan if found is None else found[metric] for found in self.scores[model]])

    def mean(self, model: str, metric: str) -> float:
        """The mean over the repeats on which the score is defined."""
        values = self.of(model, metric)
        return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan

    def spread(self, model: str, metric: str) -> float:
        """The standard deviation over the repeats; NaN with fewer than two."""
        values = self.of(model, metric)
        values = values[np.isfinite(values)]
        return float(values.std(ddof=1)) if len(values) > 1 else math.nan

    def compared(self, pairs: Sequence[tuple[str, str]]) -> list[list[Difference]]:
        """Compare models pairwise on the repeats that both have.

        Splits share photos, so their scores are not independent. The variance is corrected for that (Nadeau & Bengio
        2003, Inference for the Generalization Error). The intervals hold together with 95 % probability (Bonferroni).

        Args:
            pairs: names of models; differences are the first minus the second.

        Returns:
            For each pair the difference in each of `MAIN_SCORES`; without an interval on fewer than two repeats.
        """
        level = 1 - (1 - LEVEL) / (2 * max(1, len(pairs) * len(MAIN_SCORES)))
        return [[self._difference(a, b, metric, level) for metric in MAIN_SCORES] for a, b in pairs]

    def _difference(self, a: str, b: str, metric: str, level: float) -> Difference:
        values = self.of(a, metric) - self.of(b, metric)
        values = values[np.isfinite(values)]
        n = len(values)
        if n < 2:
            return Difference(metric, float(values.mean()) if n else math.nan, math.nan, math.nan)
        mean, variance = float(values.mean()), float(values.var(ddof=1))
        error = math.sqrt((1 / n + self.test_photos / self.train_photos) * variance)
        half = float(student.ppf(level, n - 1)) * error
        return Difference(metric, mean, mean - half, mean + half)

    def recorded(self) -> dict[str, Any]:
        """The content of results.json about the repeats. Undefined scores are ``None``."""

        def plain(found: Mapping[str, float] | None) -> dict[str, float | None] | None:
            if found is None:
                return None
            return {name: value if math.isfinite(value) else None for name, value in found.items()}

        return {"seeds": list(self.seeds), "scores": {m: [plain(f) for f in found] for m, found in self.scores.items()}}

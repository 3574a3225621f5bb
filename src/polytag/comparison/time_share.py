"""The time of a comparison, shared out among its trainings."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from polytag.progress import duration

REPORT_SHARE, TEST_SHARE = 0.03, 0.1
"""Share of the whole time for the report, and share of a training's time for testing its model."""

LEAST_MINUTES = 0.05
"""A training gets at least this much, even if reading the photos took all of the time."""


class TimeShare:
    """The clock of a comparison.

    Args:
        minutes: time for the whole comparison, which begins now. ``None`` sets no limit.
        trainings: number of trainings that share the time.
    """

    def __init__(self, minutes: float | None, trainings: int):
        self._end = None if minutes is None else time.monotonic() + 60 * minutes * (1 - REPORT_SHARE)
        self._trainings = trainings
        self._expected: dict[str, tuple[float, float]] = {}
        self._repeats: Mapping[str, int] = {}
        self._waiting: Counter[str] = Counter()
        self._taken = self._guessed = 0.0

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit, to which each training adapts."""
        return self._end is not None

    def expect(self, seconds: Mapping[str, tuple[float, float]], repeats: Mapping[str, int]) -> str:
        """Note the expected times of `expected_seconds`, and describe them in one line; "" if they are unknown."""
        self._expected, self._repeats, self._waiting = dict(seconds), repeats, Counter(repeats)
        if not seconds or self._end is not None:
            return ""
        each = ", ".join(f"{model} {duration(self._left_of(model))}" for model in repeats)
        whole = seconds[""][0] + self._left()
        return f"about {duration(whole)} on this machine, estimated from a few photos: {each}"

    def left_after(self, model: str, seconds: float | None) -> str:
        """Note that a training took this time, and say how long the others will take; "" if this is unknown.

        Args:
            model: name of the model.
            seconds: time in seconds, ``None`` if the model had been trained before.
        """
        before = self._left_of(model)
        self._waiting[model] -= 1
        if seconds is not None:
            self._taken, self._guessed = self._taken + seconds, self._guessed + before - self._left_of(model)
        known = self._expected and self._end is None and self._waiting.total() > 0
        return f"; about {duration(self._left())} left" if known else ""

    def _left_of(self, model: str) -> float:
        """Return the expected time of a model's trainings that wait."""
        first, again = self._expected.get(model, (0.0, 0.0))
        waiting = self._waiting[model]
        return again * waiting + (first - again if waiting == self._repeats.get(model) else 0.0)

    def _left(self) -> float:
        """Return the expected time of the trainings that wait, corrected by the time that finished ones took."""
        factor = self._taken / self._guessed if self._guessed else 1.0
        return factor * sum(map(self._left_of, self._waiting))

    def next(self) -> float | None:
        """Return the minutes of the next training: an equal share of what is left, ``None`` without a limit."""
        self._trainings, left = self._trainings - 1, self._trainings
        if self._end is None:
            return None
        return max(LEAST_MINUTES, (self._end - time.monotonic()) / 60 / left * (1 - TEST_SHARE))


def time_notes(model: str, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return sentences about a model's time limit: what was chosen for it, and whether it ended training early.

    Args:
        model: name of the model.
        facts: manifest of its bundle.
    """
    if "budget" not in facts:
        return ()
    notes: tuple[str, ...] = (facts["budget"],)
    if done := facts.get("cut_short"):
        notes += (f"The time limit ended {model}'s {done} (see its curve).",)
    return notes

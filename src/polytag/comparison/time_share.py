"""The time of a comparison, shared out among its trainings."""

import time
from collections.abc import Mapping
from typing import Any

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
    if facts.get("cut_short"):
        done, epochs = len(facts["history"]), facts["recipe"]["epochs"]
        notes += (f"The time limit ended the training of {model} after {done} of {epochs} epochs (see its curve).",)
    return notes

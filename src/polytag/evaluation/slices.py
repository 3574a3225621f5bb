"""Slices: scores of a model on parts of the test set, such as dark photos or photos from one camera."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import DataError, counted
from polytag.evaluation.evaluate import Evaluation
from polytag.evaluation.intervals import Interval, interval, simultaneous_intervals
from polytag.evaluation.jackknife import blocks_of
from polytag.evaluation.metrics import photo_f1

MIN_SLICE = 20
"""Minimum number of photos in a slice, and of photos outside it."""

MOST_SLICES = 100
"""Maximum number of slices. Beyond this number, the correction for multiple comparisons could hide every difference, so
only the largest slices are scored."""

Columns = Mapping[str, Sequence[str] | NDArray[np.str_]]
"""The value of each column for each photo; "" for photos without a value."""


@dataclass(frozen=True)
class Slice:
    """Samples-F1 on one part of the test set.

    Attributes:
        column, value: the column and the value that define the slice, such as "camera" and "A".
        photos: number of photos.
        score: samples-F1 on these photos, 0 to 1.
        interval: the 95% interval of the score.
        difference: the score minus the score on all other photos.
        low, high: the ends of the 95% interval of the difference. The intervals of all slices are simultaneous. With
            fewer than `polytag.evaluation.intervals.FEW_GROUPS` groups in the slice or outside it, -1 and 1.
    """

    column: str
    value: str
    photos: int
    score: float
    interval: Interval
    difference: float
    low: float
    high: float

    @property
    def beyond_chance(self) -> bool:
        """Return whether the interval of the difference excludes zero."""
        return self.low > 0 or self.high < 0

    def recorded(self) -> dict[str, Any]:
        """Return the slice as JSON, with ``None`` for what is not defined."""
        values = {name: _json(value) for name, value in vars(self).items() if name != "interval"}
        return values | {"interval": [_json(end) for end in self.interval], "beyond_chance": self.beyond_chance}


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def slices(evaluation: Evaluation, columns: Columns) -> list[Slice]:
    """Score the photos with each value of each column, worst first.

    A value is skipped if fewer than `MIN_SLICE` photos have it or fewer than `MIN_SLICE` photos lack it.

    Args:
        evaluation: the evaluation of a model on n photos.
        columns: the value of each column for each of the n photos; "" for photos without a value.

    Raises:
        DataError: a column does not have n values.
    """
    n = len(evaluation.names)
    for name, values in columns.items():
        if len(values) != n:
            raise DataError(f"The column {name} has {len(values):,} values for {n:,} photos.")
    f1 = photo_f1(evaluation.targets, evaluation.probabilities, evaluation.thresholds)
    known = np.isfinite(f1)
    members: list[tuple[str, str, NDArray[np.bool_]]] = []
    for name, values in columns.items():
        array = np.asarray(values, dtype=str)
        for value in np.unique(array[array != ""]):
            inside = (array == value) & known
            if min(inside.sum(), known.sum() - inside.sum()) >= MIN_SLICE:
                members.append((name, str(value), inside))
    members = sorted(members, key=lambda member: -member[2].sum())[:MOST_SLICES]
    if not members:
        return []
    blocks = blocks_of(evaluation.groups)
    n_blocks = int(blocks.max()) + 1
    weights = np.stack([inside for _, _, inside in members], axis=1).astype(float)
    outside = known[:, None] - weights
    scores, without = _means(f1, weights, blocks, n_blocks)
    others, others_without = _means(f1, outside, blocks, n_blocks)
    evidence = [len(np.unique(blocks[inside])) for _, _, inside in members]
    beside = [len(np.unique(blocks[known & ~inside])) for _, _, inside in members]
    fewer = np.minimum(evidence, beside)
    ends = simultaneous_intervals(scores - others, without - others_without, evidence=fewer)
    found = [
        Slice(
            name,
            value,
            int(inside.sum()),
            float(scores[i]),
            interval(float(scores[i]), without[:, i], 1.0, evidence[i]),
            float(scores[i] - others[i]),
            float(ends[i, 0]),
            float(ends[i, 1]),
        )
        for i, (name, value, inside) in enumerate(members)
    ]
    return sorted(found, key=lambda s: s.score)


def _means(
    values: NDArray[np.float64], weights: NDArray[np.float64], blocks: NDArray[np.int64], n_blocks: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weighted means (c,) of values (n,) with weights (n, c), and the means without each block (b, c)."""
    values = np.nan_to_num(values)[:, None] * weights
    by_block = np.zeros((2, n_blocks, weights.shape[1]))
    np.add.at(by_block[0], blocks, values)
    np.add.at(by_block[1], blocks, weights)
    total = by_block.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = total[:, None] - by_block
        return total[0] / total[1], rest[0] / rest[1]


def without_slices(columns: Columns) -> list[str]:
    """Return a note for each column without a value that enough photos have and enough photos lack."""
    notes = []
    for name, values in columns.items():
        _, count = np.unique([value for value in values if value], return_counts=True)
        if not ((count >= MIN_SLICE) & (len(values) - count >= MIN_SLICE)).any():
            notes.append(
                f"--slice {name}: no scores, because a value needs {MIN_SLICE} test photos with it and {MIN_SLICE} "
                f"without it; the largest of {counted(len(count), 'value')} has {max(count, default=0):,}"
            )
    return notes


def automatic_slices(measured: NDArray, targets: NDArray[np.int8]) -> dict[str, list[str]]:
    """Return the columns for `slices` that every photo has: light, sharpness, size and number of labels.

    The darkest, the most blurred and the smallest fifth of the photos each form a slice.

    Args:
        measured: `polytag.photos.measure.RECORD` (n,), the measurements of the photos.
        targets: int8 (n, k).
    """
    columns: dict[str, list[str]] = {}
    pixels = measured["width"].astype(float) * measured["height"]
    for column, name, values in (
        ("light", "darkest fifth", measured["brightness"]),
        ("sharpness", "most blurred fifth", measured["sharpness"]),
        ("size", "smallest fifth", pixels),
    ):
        below = values < np.quantile(values, 0.2, method="higher") if len(values) else values > 0
        columns[column] = np.where(below, name, "").tolist()
    count = np.minimum((targets == 1).sum(axis=1), 4)
    columns["labels"] = np.array(["none", "one", "two", "three", "four or more"])[count].tolist()
    return columns

"""The table of images and targets that every source of labels is converted to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "validate": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


NOT_ANNOTATED = "not annotated"
"""Reason for leaving out a photo about which the source says nothing, not even that it has no labels."""


@dataclass(frozen=True)
class Table:
    """The content of a label source, row by row. Every format that polytag reads is converted to such a table.

    Attributes:
        images: the photo of each row, as a path relative to the folder of the photos.
        lines: the place of each row in the source, from 1.
        targets: int8 (rows, k), 1, 0 or -1 (unknown). 1 if label names and 0/1 columns disagree.
        disagreements: bool (rows, k), whether label names and 0/1 columns disagree.
        labels: the names of the k labels, in the order of the source.
        source: the name of the file or folder, for messages.
        recognised: the format that was recognized, in one sentence.
        parts: the part of each row if the source comes with a split, else ``None``.
        groups: the group of each row if the source names groups, else ``None``. Rows with "" belong to no common group.
        columns: the other columns that the user named, by header, each with the cell of every row.
        place: the unit that `lines` counts: "line", "row" or "record".
        homes: the folders that are searched for the photos, including their subfolders, nearest first.
        notes: messages about what was decided during reading.
        left_out: photos whose labels the source does not say, each with the reason.
        long_form: whether an image has the labels of all its rows. If so, it is no contradiction if a label is missing
            from one row and present in another. Rows contradict each other only in `parts` or `disagreements`.
    """

    images: list[str]
    lines: list[int]
    targets: NDArray[np.int8]
    disagreements: NDArray[np.bool_]
    labels: tuple[str, ...]
    source: str
    recognised: str
    parts: list[str] | None = None
    groups: list[str] | None = None
    columns: Mapping[str, list[str]] = field(default_factory=dict)
    place: str = "line"
    homes: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    long_form: bool = False

"""What every source of labels becomes: a table of images and targets."""

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
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


NOT_ANNOTATED = "not annotated"
"""Why a photo is left out of which the source says nothing, not even that it carries no label."""


@dataclass(frozen=True)
class Table:
    """What a source of labels says, row by row: every form that polytag reads becomes one.

    Attributes:
        images: what names the photo of each row, a path relative to the photos' folder.
        lines: each row's place in the source, from 1.
        targets: int8 (rows, k): 1, 0 or -1 (unknown); 1 where names and 0/1 columns disagree.
        disagreements: bool (rows, k): where names and 0/1 columns disagree.
        labels: the k names, in the source's order.
        source: the name of the file or folder, for messages.
        recognised: what was recognised, in one sentence.
        parts: the part of each row where the source comes with a split, else ``None``.
        groups: the group of each row where the source names groups, else ``None``; "" is a group of its own.
        place: what `lines` counts: "line", "row" or "record".
        homes: the folders where the photos are looked for, and below which, the nearest first.
        notes: what was decided on reading.
        left_out: photos that the source cannot speak for, each with the reason.
        long_form: several rows of one image are the labels of that image: a label that one row lacks and another has
            is present, and that is no contradiction. Rows contradict each other only in `parts` or `disagreements`.
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
    place: str = "line"
    homes: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    long_form: bool = False

"""Convert 0/1 columns, columns of values between 0 and 1, and multi-hot vectors to labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.options import ReadOptions
from polytag.data.reading.tables.cells import Cells
from polytag.data.reading.tables.lists import bit
from polytag.data.reading.tables.long_form import LongForm
from polytag.data.reading.tables.roles import Roles, is_vector
from polytag.data.reading.tables.values import Kind, Reading
from polytag.errors import DataError, SettingsError, counted, listed


@dataclass(frozen=True, eq=False)
class Labelled:
    """The labels of a table.

    Attributes:
        targets: int8 (n, k), one row per row of the table, or per image if the table is in long form.
        disagreements: bool (n, k), whether the table contradicts itself about a label.
        labels: the names of the k labels.
        form: description of the format.
        used: positions of the columns that contain the labels.
        notes: messages about what was decided.
        long: the labels by image if the table is in long form, else ``None``.
    """

    targets: NDArray[np.int8]
    disagreements: NDArray[np.bool_]
    labels: tuple[str, ...]
    form: str
    used: tuple[int, ...]
    notes: tuple[str, ...] = ()
    long: LongForm | None = None


def from_columns(path: Path, cells: Cells, roles: Roles, options: ReadOptions) -> Labelled:
    """Read 0/1 columns and columns of values between 0 and 1."""
    chosen = sorted({*roles.indicators, *roles.fractions})
    if roles.named:
        chosen = [i for i in roles.named if i in chosen]
    labels = tuple(cells.header[i] for i in chosen)
    if not cells.has_header:
        if len(options.labels) != len(chosen):
            raise DataError(
                f"{path} has no header line to name its {counted(len(chosen), '0/1 column')}: write one, or name them "
                "with --labels"
            )
        labels = tuple(options.labels)
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise DataError(f"{path} has more than one column called {listed(twice)}: label names must differ")
    if not labels:
        raise DataError(f"{path} has an image column but no labels: expected a column of names or 0/1 columns")
    readings = [roles.readings[i] for i in chosen]
    targets, notes = indicator_targets(path, labels, readings, options)
    form = f"a 0/1 column for each of {counted(len(labels), 'label')}"
    if roles.fractions:
        form = f"values in {counted(len(labels), 'column')}, present if at least {options.at_least:g}"
    return Labelled(targets, np.zeros(targets.shape, dtype=bool), labels, form, tuple(chosen), notes)


def indicator_targets(
    path: Path, labels: Sequence[str], readings: Sequence[Reading], options: ReadOptions
) -> tuple[NDArray[np.int8], tuple[str, ...]]:
    """Return targets from 0/1 columns, int8 (n, k), and notes about the meaning of -1 and blanks."""
    held = frozenset[Kind]().union(*(reading.held for reading in readings))
    minus = -1
    notes = []
    if Kind.MINUS in held and Kind.PRESENT in held and Kind.ABSENT not in held:
        if Kind.BLANK in held and options.blank is None:
            raise DataError(
                f"{path}: the 0/1 columns hold 1, -1 and blanks, but no 0: either -1 is absent and blank unknown "
                "(--blank unknown), or blank is absent and -1 unknown (--blank absent)"
            )
        if not (Kind.BLANK in held and options.blank == "absent"):
            minus = 0
            notes.append("-1 means absent, because the columns contain 1 and -1 but no 0")
    blanks = [_blank_of(reading, options) for reading in readings]
    targets = np.empty((len(readings[0].column), len(readings)), dtype=np.int8)
    for j, (reading, blank) in enumerate(zip(readings, blanks, strict=True)):
        targets[:, j] = reading.values(blank, minus, options.at_least)
    if options.blank is None:
        absent = [x for x, r, b in zip(labels, readings, blanks, strict=True) if r.has(Kind.BLANK) and b == 0]
        unknown = [x for x, r, b in zip(labels, readings, blanks, strict=True) if r.has(Kind.BLANK) and b < 0]
        if absent:
            notes.append(
                f"blank means absent in {counted(len(absent), 'column')} without any 0 ({listed(absent)}); "
                "--blank unknown changes that"
            )
        if unknown:
            notes.append(
                f"blank means unknown in {counted(len(unknown), 'column')} ({listed(unknown)}); "
                "--blank absent changes that"
            )
    return targets, tuple(notes)


def _blank_of(reading: Reading, options: ReadOptions) -> int:
    """Return the meaning of a blank cell: absent (0) if all other cells say present, else unknown (-1)."""
    if options.blank is not None:
        return 0 if options.blank == "absent" else -1
    return 0 if reading.only((Kind.PRESENT, Kind.BLANK)) else -1


def from_vector(path: Path, cells: Cells, i: int, options: ReadOptions) -> Labelled:
    """Read a column of multi-hot vectors. The user names the entries of the vectors."""
    column = cells.columns[i]
    entries = is_vector(column, len(options.labels)) or []
    n = max(len(entry) for entry in entries if entry)
    if not options.labels:
        raise DataError(
            f"{path}: the column '{cells.header[i]}' holds multi-hot vectors of {n} entries (first: "
            f"{next(word for word, entry in zip(column.words, entries, strict=True) if entry)[:60]}): name the entries "
            "with --labels"
        )
    if len(options.labels) != n:
        raise SettingsError(
            f"--labels has {counted(len(options.labels), 'name')}, and the vectors in column '{cells.header[i]}' of "
            f"{path.name} have {n} entries"
        )
    bits = all(
        len(entry) <= 5 and entry.rstrip("0.") in ("", "1", "True", "False", "true", "false")
        for row in entries
        for entry in row or ()
    )
    if not bits and options.at_least is None:
        raise DataError(
            f"{path}: the vectors in column '{cells.header[i]}' contain values between 0 and 1: set the minimum "
            "value of a present label with --at-least"
        )
    x = options.at_least
    table = np.array(
        [
            [-1] * n if row is None else [int(float(entry) >= x) if x is not None else bit(entry) for entry in row]
            for row in entries
        ],
        dtype=np.int8,
    )
    targets = table[column.codes]
    notes = []
    blank = len(column.rows_where([row is None for row in entries]))
    if blank:
        notes.append(f"{counted(blank, 'row')} without a vector: all labels unknown")
    restored = sum(bool(row) and len(word) < n for word, row in zip(column.words, entries, strict=True))
    if restored:
        notes.append(f"{counted(restored, 'distinct vector')} had lost leading zeros: restored with --labels")
    form = f"multi-hot vectors in column '{cells.header[i]}' ({counted(n, 'label')}, named by --labels)"
    return Labelled(targets, np.zeros(targets.shape, dtype=bool), tuple(options.labels), form, (i,), tuple(notes))

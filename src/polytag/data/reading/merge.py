"""Merge all rows of each photo. Contradictions are resolved or refused, and everything that was done is reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.table import Table
from polytag.errors import ConflictError, DataError, counted, listed
from polytag.photos.groups import connected


@dataclass(frozen=True)
class Merged:
    """Distinct photos, in the order of their first rows.

    Attributes:
        files: the files of the n photos.
        rows: int64 (n,), the first row of each photo.
        targets: int8 (n, k), 1 for present, 0 for absent, -1 for unknown.
        parts: the part of each photo, or ``None``.
        groups: maps each photo that has groups to the groups that its rows name.
        lines: maps each photo that has several rows to the places of its rows. Empty for tables in long form.
        disputed: maps each photo with contradictory rows to the labels in question, bool (k,).
        notes: messages about what was done.
    """

    files: list[str]
    rows: NDArray[np.int64]
    targets: NDArray[np.int8]
    parts: list[str] | None
    groups: Mapping[str, frozenset[str]]
    lines: Mapping[str, Sequence[int]]
    disputed: Mapping[str, NDArray[np.bool_]]
    notes: tuple[str, ...]


def merge(table: Table, files: Sequence[str], conflicts: str | None) -> Merged:
    """Merge the rows of each photo. ``files`` contains the photo file of each row.

    Raises:
        ConflictError: rows contradict each other and ``conflicts`` is ``None``.
        DataError: a photo is listed in two parts of the split.
    """
    numbers: dict[str, int] = {}
    photo = np.fromiter((numbers.setdefault(file, len(numbers)) for file in files), np.int64, len(files))
    names = list(numbers)
    order = np.argsort(photo, kind="stable")
    starts = np.searchsorted(photo[order], np.arange(len(names)))
    several = np.flatnonzero(np.diff([*starts, len(files)]) > 1)
    first = order[starts]
    disagree = bool(table.disagreements.any())
    # Without repeated or contradictory rows, nothing changes, and the copy would take a gigabyte for Open Images.
    targets = table.targets[first] if len(several) or disagree else table.targets
    rows_of = {int(i): order[starts[i] : (starts[i + 1] if i + 1 < len(names) else None)] for i in several}
    disputed: dict[str, NDArray[np.bool_]] = {}
    for i in np.flatnonzero(table.disagreements.any(axis=1)).tolist() if disagree else ():
        clash = disputed.setdefault(files[i], np.zeros(len(table.labels), dtype=bool))
        clash |= table.disagreements[i]
    for i, rows in rows_of.items():
        values = table.targets[rows]
        # Known values override unknown ones (-1). If two known values differ, "present" (1) wins.
        targets[i] = values.max(axis=0)
        clash = (values == 0).any(axis=0) & (targets[i] == 1)
        if clash.any() and not table.long_form:
            disputed[names[i]] = clash | disputed.get(names[i], np.zeros_like(clash))
    lines = {} if table.long_form else {names[i]: [table.lines[row] for row in rows] for i, rows in rows_of.items()}
    disputed = {name: disputed[name] for name in names if name in disputed} if disputed else {}

    def places(name: str) -> str:
        numbers = lines.get(name, [table.lines[first[names.index(name)]]])
        return f"{table.place}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"

    shown = {name: table.images[first[numbers[name]]] for name in disputed}
    notes = _settle(disputed, conflicts, [f"{shown[name]} ({places(name)})" for name in disputed])
    agreeing = sum(name not in disputed for name in lines)
    if agreeing:
        notes.insert(0, f"{counted(agreeing, 'image')} listed more than once with the same labels: merged")
    if conflicts == "unknown":
        for name, clash in disputed.items():
            targets[numbers[name]][clash] = -1
    groups: dict[str, frozenset[str]] = {}
    for file, group in zip(files, table.groups, strict=True) if table.groups is not None else ():
        if group:
            groups[file] = groups.get(file, frozenset()) | {group}
    parts = None if table.parts is None else [table.parts[row] for row in first]
    for rows in rows_of.values() if table.parts is not None else ():
        if len({(table.parts or [])[row] for row in rows}) > 1:
            where = ", ".join(str(table.lines[row]) for row in rows)
            raise DataError(
                f"{table.images[rows[0]]} is listed in two parts of the split ({table.place}s {where}): put it into one"
            )
    return Merged(names, first, targets, parts, groups, lines, disputed, tuple(notes))


def _settle(disputed: Mapping[str, NDArray[np.bool_]], conflicts: str | None, found: list[str]) -> list[str]:
    """Return notes about how contradictions are resolved, or refuse them."""
    if not disputed:
        return []
    if conflicts is None:
        # If only a single line is named, its label names contradict its 0/1 columns.
        raise ConflictError(
            f"{counted(len(disputed), 'image')} with labels that contradict each other: {listed(found, 200)}; "
            "decide with --conflicts unknown (only the disputed labels become unknown), union or drop"
        )
    outcome = {
        "unknown": "the disputed labels became unknown",
        "union": "all labels of all rows were used",
        "drop": "the images were left out",
    }
    return [f"{counted(len(disputed), 'image')} with contradicting labels: {outcome[conflicts]}"]


def join_groups(contents: NDArray[np.int64], named: Sequence[frozenset[str]]) -> NDArray[np.int64]:
    """Group photos that share their content or the name of a group, directly or through other photos.

    Args:
        contents: int64 (n,), content numbers. Photos with identical content have the same number.
        named: the names of the groups that each photo belongs to.

    Returns:
        int64 (n,), group numbers from 0 in order of first appearance.
    """
    first: dict[int | str, int] = {}
    keys: list[tuple[int | str, ...]] = [(int(own), *names) for own, names in zip(contents, named, strict=True)]
    return connected(len(keys), ((first.setdefault(key, i), i) for i, own in enumerate(keys) for key in own))

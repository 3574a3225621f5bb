"""Rows of one photo come together: labels are joined, contradictions settled or refused, nothing is silent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.table import Table
from polytag.errors import ConflictError, DataError, counted, listed
from polytag.photos.groups import connected


@dataclass(frozen=True)
class Merged:
    """Photos, each once, in the order of their first rows.

    Attributes:
        rows: the first row of each photo, file → row.
        targets: file → int8 (k,).
        parts: file → part, or ``None``.
        groups: file → the groups that its rows name; empty where none is named.
        lines: file → the places of its rows.
        disputed: file → bool (k,), the labels on which its rows contradict each other.
        notes: what was done, in words.
    """

    rows: Mapping[str, int]
    targets: Mapping[str, NDArray[np.int8]]
    parts: Mapping[str, str] | None
    groups: Mapping[str, frozenset[str]]
    lines: Mapping[str, Sequence[int]]
    disputed: Mapping[str, NDArray[np.bool_]]
    notes: tuple[str, ...]


def merge(table: Table, files: Sequence[str], conflicts: str | None) -> Merged:
    """Bring the rows of each photo together; ``files`` has the photo's file of each row.

    Raises:
        ConflictError: rows contradict each other and ``conflicts`` is ``None``.
        DataError: a photo is listed in two parts of the split.
    """
    notes: list[str] = []
    rows: dict[str, int] = {}
    targets: dict[str, NDArray[np.int8]] = {}
    lines: dict[str, list[int]] = {}
    disputed: dict[str, NDArray[np.bool_]] = {}
    groups: dict[str, frozenset[str]] = {}
    for row, file in enumerate(files):
        lines.setdefault(file, []).append(table.lines[row])
        here = table.targets[row]
        clash = table.disagreements[row].copy()
        if file in targets:
            before = targets[file]
            clash |= (before >= 0) & (here >= 0) & (before != here)
            clash |= disputed.get(file, np.zeros_like(clash))
            # What one row knows settles what another leaves open; of two that differ the larger says "present".
            here = np.maximum(before, here)
        else:
            rows[file] = row
        targets[file] = here
        if clash.any():
            disputed[file] = clash
        if table.groups is not None and table.groups[row]:
            groups[file] = groups.get(file, frozenset()) | {table.groups[row]}

    name = {file: table.images[row] for file, row in rows.items()}

    def places(file: str) -> str:
        return f"{table.place}{'s' * (len(lines[file]) > 1)} {', '.join(map(str, lines[file]))}"

    if disputed and conflicts is None:
        # On a single line it is the names that contradict the 0/1 columns.
        found = [f"{name[file]} ({places(file)})" for file in disputed]
        raise ConflictError(
            f"{counted(len(disputed), 'image')} with labels that contradict each other: {listed(found, 200)}; "
            "decide with --conflicts unknown (only the disputed labels become unknown), union or drop"
        )
    agreeing = sum(len(numbers) > 1 and file not in disputed for file, numbers in lines.items())
    if agreeing:
        notes.append(f"{counted(agreeing, 'image')} listed more than once, in agreement: merged")
    if disputed:
        outcome = {
            "unknown": "the disputed labels became unknown",
            "union": "every label that any row has was taken",
            "drop": "the images were left out",
        }
        notes.append(f"{counted(len(disputed), 'image')} with contradicting labels: {outcome[str(conflicts)]}")
    if conflicts == "unknown":
        for file, clash in disputed.items():
            targets[file] = np.where(clash, np.int8(-1), targets[file])

    parts: dict[str, str] | None = None
    if table.parts is not None:
        parts = {}
        for row, file in enumerate(files):
            if parts.setdefault(file, table.parts[row]) != table.parts[row]:
                raise DataError(f"{name[file]} is listed in two parts of the split ({places(file)}): put it into one")
    return Merged(rows, targets, parts, groups, lines, disputed, tuple(notes))


def join_groups(contents: NDArray[np.int64], named: Sequence[frozenset[str]]) -> NDArray[np.int64]:
    """Photos share a group if they share their content or a group's name, be it through other photos.

    Args:
        contents: int64 (n,), photos of identical content share a number.
        named: the groups that each photo was given.

    Returns:
        int64 (n,), numbered from 0 in order of first appearance.
    """
    first: dict[int | str, int] = {}
    keys: list[tuple[int | str, ...]] = [(int(own), *names) for own, names in zip(contents, named, strict=True)]
    return connected(len(keys), ((first.setdefault(key, i), i) for i, own in enumerate(keys) for key in own))

"""Tables of labels → Dataset.

A table is a CSV or TSV file whose form is recognised from its content, and said: an image column plus a
column of names, or a 0/1 column for each label, or both at once. `table.py` tells the columns apart;
here their cells become targets, rows of the same photo are brought together, and files are found.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset, grouped
from polytag.data.images import EXTENSIONS
from polytag.data.table import Table, read_table
from polytag.errors import ConflictError, DataError, SettingsError, counted, listed

CONFLICTS = ("unknown", "union", "drop")
"""What may become of labels on which two rows of one photo disagree."""


def read_csv(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    conflicts: str | None = None,
) -> Dataset:
    """Read photos and their labels.

    Args:
        path: a CSV or TSV file (UTF-8), or a folder that holds ``labels.csv``.
        images: the folder of the photos; found by itself when ``None``.
        image_column: the column that names the photos; found by itself when ``None``.
        label_column: the column of label names; found by itself when ``None``.
        conflicts: what becomes of labels on which two rows of one photo, or its names and its 0/1 columns,
            disagree. "unknown" marks just those labels unknown, "union" takes every label that any row
            has, "drop" leaves the photo out, ``None`` refuses.

    Returns:
        The photos in the file's order, each once. In a 0/1 column an empty cell, ``-1`` or ``?`` is unknown;
        an empty cell in a column of names means that none of the labels is present. Photos that are listed
        but missing are named in ``left_out``.

    Raises:
        DataError: the table or the folder cannot be understood; the message says what to do.
        ConflictError: rows contradict each other and ``conflicts`` is ``None``.
    """
    if conflicts is not None and conflicts not in CONFLICTS:
        raise SettingsError(f"--conflicts must be one of {', '.join(CONFLICTS)}, not '{conflicts}'")
    path = Path(path).expanduser()
    if path.is_dir():
        path = path / "labels.csv"
        if not path.is_file():
            raise DataError(f"the folder {path.parent} holds no labels.csv: name the table itself, or rename it")
    table = read_table(path, image_column, label_column)
    folder = _find_images(table, path, images)
    files = [_file_in(folder, name, line) for name, line in zip(table.images, table.lines, strict=True)]

    first_row, targets, parts, notes, dropped = _merge(table, files, conflicts)
    kept = [row for row in first_row if files[row] not in dropped]
    if not kept:
        raise DataError(f"{path} has no usable row: every image was left out because its rows conflict")
    missing = {table.images[row]: "no such file" for row in kept if not os.path.isfile(files[row])}
    locked = {
        table.images[row]: "it may not be read"
        for row in kept
        if table.images[row] not in missing and not os.access(files[row], os.R_OK)
    }
    present = [row for row in kept if table.images[row] not in missing | locked]
    if not present:
        raise DataError(
            f"none of the {len(kept):,} images of {path.name} is in {folder} (first: {table.images[kept[0]]}): "
            "name their folder with --images"
        )
    if missing:
        notes.append(f"{counted(len(missing), 'image')} left out because missing: {listed(list(missing))}")
    if locked:
        notes.append(f"{counted(len(locked), 'image')} left out because they may not be read: {listed(list(locked))}")
    paths = [files[row] for row in present]
    groups = grouped(paths)
    copies = len(paths) - len(np.unique(groups))
    if copies:
        notes.append(f"{counted(copies, 'image')} with the content of another: kept together when splitting")
    return Dataset(
        paths=np.array(paths),
        targets=np.stack([targets[files[row]] for row in present]),
        labels=table.labels,
        groups=groups,
        root=folder,
        parts=None if parts is None else np.array([parts[files[row]] for row in present]),
        notes=(table.recognised, *notes),
        left_out={**missing, **locked, **dict.fromkeys(dropped.values(), "its rows conflict")},
    )


def _merge(
    table: Table, files: Sequence[str], conflicts: str | None
) -> tuple[list[int], dict[str, NDArray[np.int8]], dict[str, str] | None, list[str], dict[str, str]]:
    """Bring the rows of each photo together.

    Returns:
        The first row of each photo; its targets; its part; notes; and the photos to drop (file → name).
    """
    notes: list[str] = []
    first_row: dict[str, int] = {}
    targets: dict[str, NDArray[np.int8]] = {}
    lines: dict[str, list[int]] = {}
    disputed: dict[str, NDArray[np.bool_]] = {}
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
            first_row[file] = row
        targets[file] = here
        if clash.any():
            disputed[file] = clash

    name = {file: table.images[row] for file, row in first_row.items()}
    if disputed and conflicts is None:
        # On a single line it is the names that contradict the 0/1 columns.
        places = [
            f"{name[file]} ({'line' if len(lines[file]) == 1 else 'lines'} {', '.join(map(str, lines[file]))})"
            for file in disputed
        ]
        raise ConflictError(
            f"{counted(len(disputed), 'image')} with labels that contradict each other: {listed(places, 200)}; "
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
                raise DataError(
                    f"{name[file]} is listed in two parts of the split (lines {', '.join(map(str, lines[file]))}): "
                    "put it into one"
                )
    return (
        list(first_row.values()),
        targets,
        parts,
        notes,
        {f: name[f] for f in disputed} if conflicts == "drop" else {},
    )


def _find_images(table: Table, path: Path, images: str | os.PathLike[str] | None) -> Path:
    """The folder where the table's photos are: the one given, or the nearest that holds most of them."""
    if images is not None:
        folder = Path(images).expanduser()
        if not folder.is_dir():
            raise DataError(f"--images must name a folder, but {folder} is none")
        return folder.resolve()
    # A table that is a link is at home where the link is.
    base = path.parent.resolve()
    step = max(1, len(table.images) // 200)
    sample = table.images[::step]
    # Nearest first: `max` keeps the first of equals.
    folders = [base, *_subfolders(base, depth=2)]
    hits = [sum(_with_extension(folder, name) is not None for name in sample) for folder in folders]
    best = int(np.argmax(hits))
    if hits[best] == 0:
        for name, line in zip(table.images, table.lines, strict=True):
            _file_in(base, name, line)
        raise DataError(
            f"the images of {path.name} (first: {table.images[0]}) are neither in {base} nor in a folder below it: "
            "name their folder with --images"
        )
    return folders[best]


def _subfolders(base: Path, depth: int) -> list[Path]:
    try:
        children = sorted(child for child in base.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return []
    children = children[:50]
    return children + ([below for child in children for below in _subfolders(child, depth - 1)] if depth > 1 else [])


def _with_extension(folder: Path, name: str) -> str | None:
    """The file of this name in the folder; names without an ending may find one."""
    file = os.path.join(folder, name)
    if os.path.isfile(file):
        return file
    if os.path.splitext(name)[1].lower() not in EXTENSIONS:
        return next((file + ending for ending in sorted(EXTENSIONS) if os.path.isfile(file + ending)), None)
    return None


def _file_in(folder: Path, name: str, line: int) -> str:
    file = os.path.normpath(os.path.join(folder, name))
    if os.path.commonpath([folder, file]) != str(folder):
        raise DataError(f"line {line}: the image '{name}' leaves the folder {folder}: list only files inside it")
    return _with_extension(folder, os.path.relpath(file, folder)) or file

"""Read photos and their labels in any supported format into a `Dataset`.

`forms.py` detects the format and reads it into a `Table`. This module then finds the photos, merges the rows of each
photo and reports what cannot be used. All formats are therefore treated in the same way.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.data.reading.forms import read_form
from polytag.data.reading.kaggle import SCHEME, fetch
from polytag.data.reading.locate import Found, find_photos
from polytag.data.reading.merge import Merged, join_groups, merge
from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import NOT_ANNOTATED, Table
from polytag.errors import DataError, counted, listed
from polytag.files import is_readable
from polytag.photos.groups import grouped
from polytag.progress import progress_bar


def read(source: str | os.PathLike[str], options: ReadOptions | None = None, **settings: Any) -> Dataset:
    """Read photos and their labels.

    Args:
        source: a table (CSV, TSV, Parquet or Excel), a folder that contains a table, a file or folder written by an
            annotation tool, a folder with a subfolder of photos for each label, or ``kaggle:OWNER/NAME[/FILE]``.
        options: options for reading. Everything that is not set is detected.
        settings: fields of `ReadOptions`, such as ``images="photos"``. They override ``options``.

    Returns:
        The distinct photos, in the order of the source. ``left_out`` lists photos that are in the source but missing.

    Raises:
        SettingsError: an option is out of range, or cannot be combined with other options or with this source.
        DataError: the source or the folder of photos cannot be understood. The message says what to do.
        ConflictError: rows contradict each other and ``conflicts`` is ``None``.
    """
    options = (options or ReadOptions()).override(settings)
    notes: list[str] = []
    also: tuple[Path, ...] = ()
    if os.fspath(source).startswith(SCHEME):
        source, whole, note = fetch(os.fspath(source))
        also, notes = (whole,), [note]
    table = read_form(Path(source).expanduser(), options)
    table = replace(table, homes=(*table.homes, *also))
    found = find_photos(table, options.images)
    merged = merge(table, found.files, options.conflicts)
    names = _names(merged.files, found.root)
    usable, left_out, reasons = _usable(table, found, merged, names, options)
    present = [merged.files[i] for i in usable]
    groups, about_groups = _groups(table, merged, present, options.show_progress)
    return Dataset(
        paths=np.array(present),
        targets=merged.targets[usable],
        labels=table.labels,
        groups=groups,
        root=found.root,
        # If several rows list a photo, the first one counts.
        columns={name: np.array([cells[row] for row in merged.rows[usable]]) for name, cells in table.columns.items()},
        parts=None if merged.parts is None else np.array([merged.parts[i] for i in usable]),
        notes=(table.recognised, *notes, *table.notes, *found.notes, *merged.notes, *reasons, *about_groups),
        left_out=left_out,
        repeats={names[file]: tuple(lines) for file, lines in merged.lines.items()},
        disputed={
            names[file]: tuple(label for label, is_disputed in zip(table.labels, clash, strict=True) if is_disputed)
            for file, clash in merged.disputed.items()
        },
    )


def _usable(
    table: Table, found: Found, merged: Merged, names: Mapping[str, str], options: ReadOptions
) -> tuple[list[int], dict[str, str], list[str]]:
    """Return the positions of usable photos, the other photos with the reasons, and notes about them."""
    dropped = set(merged.disputed) if options.conflicts == "drop" else set()
    if len(dropped) == len(merged.files):
        raise DataError(f"{table.source} has no usable row: all images were left out because their rows conflict")
    usable, missing, locked = [], [], []
    for i, file in enumerate(merged.files):
        if file in dropped:
            continue
        if file in found.missing:
            missing.append(file)
        elif not is_readable(file):
            locked.append(file)
        else:
            usable.append(i)
    left_out = {
        **table.left_out,
        **{names[file]: "no such file" for file in missing},
        **{names[file]: "no permission to read it" for file in locked},
        **{names[file]: "its rows conflict" for file in merged.files if file in dropped},
    }
    _refuse_unwritable([*names.values(), *left_out])
    notes = []
    for files, why in ((missing, "missing"), (locked, "reading them is not permitted")):
        if files:
            notes.append(
                f"{counted(len(files), 'image')} left out because {why}: {listed([names[file] for file in files])}"
            )
    if not usable:
        raise DataError(f"none of the images of {table.source} can be used: {'; '.join(notes) or 'no image exists'}")
    silent = [photo for photo, reason in left_out.items() if reason == NOT_ANNOTATED]
    if silent:
        notes.append(f"{counted(len(silent), 'image')} left out because {NOT_ANNOTATED}: {listed(silent)}")
    return usable, left_out, notes


def _groups(
    table: Table, merged: Merged, present: list[str], show_progress: bool
) -> tuple[NDArray[np.int64], list[str]]:
    """Return the group of each photo, by content and, if the table has groups, also by name."""
    with progress_bar(len(present), "hashing photos", "photo", show_progress) as bar:
        contents = grouped(present, bar.update)
    notes = []
    copies = len(present) - len(np.unique(contents))
    if copies:
        notes.append(f"{counted(copies, 'image')} with the same content as another: they stay together in a split")
    if table.groups is None:
        return contents, notes
    groups = join_groups(contents, [merged.groups.get(file, frozenset()) for file in present])
    several = int((np.bincount(groups) > 1).sum())
    notes.append(f"{counted(several, 'group')} of several images: each stays together in a split")
    return groups, notes


def _names(files: Sequence[str], root: Path) -> dict[str, str]:
    """Return the names of the photos relative to the root, with forward slashes."""
    start = str(root).rstrip(os.sep) + os.sep
    return {
        file: (file[len(start) :] if file.startswith(start) else os.path.relpath(file, root)).replace(os.sep, "/")
        for file in files
    }


def _refuse_unwritable(names: Sequence[str]) -> None:
    unwritable = [one for one in names if not one.isprintable() and one != one.encode(errors="ignore").decode()]
    if unwritable:
        shown = listed([ascii(one) for one in unwritable])
        raise DataError(f"file names that are not valid UTF-8 ({shown}): rename these files")

"""Photos and their labels, in whatever form people have them → Dataset.

`forms.py` recognises the form and makes a `Table` of it; here the photos are found, rows of the same photo
are brought together, and what cannot be used is said. So all forms are treated alike.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from polytag.data.dataset import Dataset
from polytag.data.reading.forms import read_form
from polytag.data.reading.kaggle import SCHEME, fetch
from polytag.data.reading.locate import find_photos
from polytag.data.reading.merge import join_groups, merge
from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import NOT_ANNOTATED
from polytag.errors import DataError, counted, listed
from polytag.photos.groups import grouped
from polytag.photos.kinds import EXTENSIONS


def read(source: str | os.PathLike[str], options: ReadOptions | None = None, **settings: Any) -> Dataset:
    """Read photos and their labels.

    Args:
        source: a table (CSV, TSV or Parquet), a folder that holds ``labels.csv`` (or .tsv, .parquet), a
            folder with a subfolder of photos for each label, a COCO or Create ML JSON file, a folder of
            Pascal VOC XML files, or ``kaggle:OWNER/NAME[/FILE]``.
        options: how to read; everything that is not set is detected.
        settings: fields of `ReadOptions`, such as ``images="photos"``. They override ``options``.

    Returns:
        The photos in the source's order, each once. Photos that are listed but missing are named in ``left_out``.

    Raises:
        SettingsError: an option is out of range, or does not go with the others or with this kind of source.
        DataError: the source or the folder of photos cannot be understood; the message says what to do.
        ConflictError: rows contradict each other and ``conflicts`` is ``None``.
    """
    options = (options or ReadOptions()).override(settings)
    conflicts = options.conflicts
    notes: list[str] = []
    also: tuple[Path, ...] = ()
    if os.fspath(source).startswith(SCHEME):
        source, whole, note = fetch(os.fspath(source))
        also, notes = (whole,), [note]
    path = Path(source).expanduser()
    table = read_form(path, options)
    table = replace(table, homes=(*table.homes, *also))
    folder, files = find_photos(table, options.images)
    merged = merge(table, files, conflicts)

    name = {file: Path(os.path.relpath(file, folder)).as_posix() for file in merged.rows}
    dropped = merged.disputed if conflicts == "drop" else {}
    kept = [file for file in merged.rows if file not in dropped]
    if not kept:
        raise DataError(f"{path} has no usable row: every image was left out because its rows conflict")
    missing = [file for file in kept if not os.path.isfile(file)]
    found = [file for file in kept if os.path.isfile(file)]
    locked = [file for file in found if not os.access(file, os.R_OK)]
    present = [file for file in found if os.access(file, os.R_OK)]
    if not present:
        raise DataError(
            f"none of the {len(kept):,} images of {table.source} is in {folder} "
            f"(first: {table.images[merged.rows[kept[0]]]}): name their folder with --images"
        )
    left_out = {
        **table.left_out,
        **{name[file]: "no such file" for file in missing},
        **{name[file]: "it may not be read" for file in locked},
        **{name[file]: "its rows conflict" for file in dropped},
        **(_not_annotated(folder, files) if table.one_file_each else {}),
    }
    names = [*(name[file] for file in kept), *left_out]
    unwritable = [one for one in names if not one.isprintable() and one != one.encode(errors="ignore").decode()]
    if unwritable:
        shown = listed([ascii(one) for one in unwritable])
        raise DataError(f"{counted(len(unwritable), 'file name')} that UTF-8 cannot hold ({shown}): rename them")
    contents = grouped(present)
    named = [merged.groups.get(file, frozenset()) for file in present]
    groups = contents if table.groups is None else join_groups(contents, named)
    notes += [*table.notes, *merged.notes]
    for files_out, why in ((missing, "missing"), (locked, "they may not be read")):
        if files_out:
            examples = listed([name[file] for file in files_out])
            notes.append(f"{counted(len(files_out), 'image')} left out because {why}: {examples}")
    silent = [photo for photo, reason in left_out.items() if reason == NOT_ANNOTATED]
    if silent:
        notes.append(f"{counted(len(silent), 'image')} left out because {NOT_ANNOTATED}: {listed(silent)}")
    copies = len(present) - len(np.unique(contents))
    if copies:
        notes.append(f"{counted(copies, 'image')} with the content of another: kept together when splitting")
    if table.groups is not None:
        several = int((np.bincount(groups) > 1).sum())
        notes.append(f"{counted(several, 'group')} of several images: each kept together when splitting")
    return Dataset(
        paths=np.array(present),
        targets=np.stack([merged.targets[file] for file in present]),
        labels=table.labels,
        groups=groups,
        root=folder,
        parts=None if merged.parts is None else np.array([merged.parts[file] for file in present]),
        notes=(table.recognised, *notes),
        left_out=left_out,
        repeats={name[file]: tuple(lines) for file, lines in merged.lines.items() if len(lines) > 1},
        disputed={
            name[file]: tuple(label for label, is_disputed in zip(table.labels, clash, strict=True) if is_disputed)
            for file, clash in merged.disputed.items()
        },
    )


def _not_annotated(folder: Path, files: list[str]) -> Mapping[str, str]:
    """The photos of the folder, not of those below, that no row names."""
    known = set(files)
    return {
        name: NOT_ANNOTATED
        for name in sorted(os.listdir(folder))
        if os.path.splitext(name)[1].lower() in EXTENSIONS and os.path.join(folder, name) not in known
    }

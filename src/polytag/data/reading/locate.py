"""Where the photos are: from the names that a table lists to files in a folder, and never outside of it."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from polytag.data.reading.table import Table
from polytag.errors import DataError
from polytag.photos.kinds import EXTENSIONS


def find_photos(table: Table, images: str | os.PathLike[str] | None = None) -> tuple[Path, list[str]]:
    """The folder of the table's photos, and the file of each row, be it there or not.

    Args:
        table: what names the photos.
        images: the folder; otherwise that one of the table's homes, and of the folders below, which holds most.

    Raises:
        DataError: there is no such folder, no photo is found at all, or a name leads out of the folder.
    """
    if images is not None:
        folder = Path(images).expanduser()
        if not folder.is_dir():
            raise DataError(f"--images must name a folder, but {folder} is none")
        folder = folder.resolve()
        # Names may say from where the table stood what the folder says here: photos/a.jpg in …/photos.
        found = (n for n in range(_shared_folders(table.images) + 1) if _hits(folder, table.images, n))
        dropped = next(found, 0)
    else:
        best = search(table.images, table.homes)
        if best is None:
            home = table.homes[0]
            for name, line in zip(table.images, table.lines, strict=True):
                _file_in(home, name, 0, f"{table.place} {line}")
            raise DataError(
                f"the images of {table.source} (first: {table.images[0]}) are neither in {home} nor in the folders "
                "below it, two levels deep: name their folder with --images"
            )
        folder, dropped = best
    files = [
        _file_in(folder, name, dropped, f"{table.place} {line}")
        for name, line in zip(table.images, table.lines, strict=True)
    ]
    return folder, files


def search(names: Sequence[str], homes: Sequence[Path]) -> tuple[Path, int] | None:
    """The folder in or below the homes that holds most of the photos, the nearest of equals.

    Names may begin with folders that they all share and that lead nowhere here; those are dropped one by one
    while nothing is found.

    Returns:
        The folder, and how many leading folders of each name to drop; ``None`` if no photo is found.
    """
    sample = names[:: max(1, len(names) // 200)]
    for dropped in range(_shared_folders(names) + 1):
        for home in homes:
            # Nearest first: argmax keeps the first of equals.
            folders = [home, *_subfolders(home, depth=2)]
            hits = [_hits(folder, sample, dropped) for folder in folders]
            best = int(np.argmax(hits))
            if hits[best]:
                return folders[best], dropped
    return None


def without_folders(name: str, dropped: int) -> str:
    """The name less so many of its leading folders."""
    return "/".join(os.path.normpath(name).split("/")[dropped:]) if dropped else name


def _shared_folders(names: Sequence[str]) -> int:
    """How many leading folders all names have in common."""
    folders = [os.path.dirname(os.path.normpath(name)).split("/") for name in names]
    first, last = min(folders), max(folders)
    if any(name.startswith("/") for name in names) or ".." in first[:1] or ".." in last[:1]:
        return 0
    same = [a == b and a != "" for a, b in zip(first, last, strict=False)]
    return same.index(False) if False in same else len(same)


def _hits(folder: Path, names: Sequence[str], dropped: int) -> int:
    return sum(_with_extension(folder, without_folders(name, dropped)) is not None for name in names)


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


def _file_in(folder: Path, name: str, dropped: int, place: str) -> str:
    file = os.path.normpath(os.path.join(folder, without_folders(name, dropped)))
    if os.path.commonpath([folder, file]) != str(folder):
        raise DataError(f"{place}: the image '{name}' leaves the folder {folder}: list only files inside it")
    return _with_extension(folder, os.path.relpath(file, folder)) or file

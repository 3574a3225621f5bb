"""Which photos are meant: files, folders, patterns, lists of names, and standard input."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from polytag.errors import DataError
from polytag.photos.kinds import EXTENSIONS

STANDARD_INPUT = "-"

LIST_ENDINGS = (".txt", ".lst")
"""Of files that name one photo in each line."""


def photos_in(sources: Sequence[str]) -> Iterator[str]:
    """The photos that these sources name, one after the other, never all of them in memory.

    Args:
        sources: files as they are, whatever their names end in; folders, of which all files below that are named
            like photos are taken, in the order of their names; patterns such as ``2024/**/*.jpg``; files of names,
            which end in one of `LIST_ENDINGS`; and "-" for names on standard input. Names are seen from the
            current folder.

    Raises:
        DataError: a folder or pattern holds no photo, or a list cannot be read.
    """
    for source in sources:
        if source == STANDARD_INPUT:
            yield from _lines(sys.stdin)
        elif os.path.isdir(source):
            yield from _some(_below(source), f"{source} holds no photo (files that end in {_endings()})")
        elif source.lower().endswith(LIST_ENDINGS):
            yield from _listed(source)
        elif glob.has_magic(source) and not os.path.lexists(source):
            found = (path for path in glob.iglob(source, recursive=True) if os.path.isfile(path))
            yield from _some(found, f"no file is named like {source}")
        else:
            yield source


def count(sources: Sequence[str]) -> int | None:
    """How many photos there are; ``None`` where standard input names them, which can be read only once.

    Raises:
        DataError: as `photos_in`.
    """
    return None if STANDARD_INPUT in sources else sum(1 for _ in photos_in(sources))


def _below(folder: str) -> Iterator[str]:
    """Photos in a folder and the folders below, hidden ones and links to folders left out; and folders that cannot be
    read, which get an error as photos do that cannot."""
    closed: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=lambda error: closed.append(error.filename)):
        yield from closed
        closed.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield os.path.join(parent, name)
    yield from closed


def _listed(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            yield from _some(_lines(file), f"{path} names no photo: expected one name in each line")
    except OSError as error:
        raise DataError(f"the list {path} cannot be read ({error.strerror})") from None


def _lines(file: Iterator[str]) -> Iterator[str]:
    for line in file:
        if name := line.rstrip("\r\n"):
            yield name


def _some(paths: Iterator[str], otherwise: str) -> Iterator[str]:
    """The paths; an error if there is none."""
    none = True
    for path in paths:
        none = False
        yield path
    if none:
        raise DataError(otherwise)


def _endings() -> str:
    return ", ".join(sorted(EXTENSIONS))

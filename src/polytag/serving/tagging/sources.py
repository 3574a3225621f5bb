"""Find the photos to tag: files, folders, patterns, lists of names, and standard input."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from polytag.errors import DataError, printable
from polytag.photos.kinds import is_photo

STANDARD_INPUT = "-"

LIST_ENDINGS = (".txt", ".lst")
"""Endings of files that contain one name per line."""


def photos_in(sources: Sequence[str], skipped: Counter[str] | None = None) -> Iterator[str]:
    """Yield the paths of photos one by one; they are never all in memory.

    Args:
        sources: files, whatever their ending; folders, for all photos in and below them, in order of name; patterns
            such as ``2024/**/*.jpg``; lists, which end in one of `LIST_ENDINGS` and name one photo per line; and "-"
            for names on standard input. Names are relative to the current folder.
        skipped: counts the other files in folders, by kind.

    Raises:
        DataError: a folder or pattern contains no photo, or a list cannot be read.
    """
    for source in sources:
        if source == STANDARD_INPUT:
            yield from _lines(sys.stdin)
        elif os.path.isdir(source):
            yield from _some(_below(source, skipped), f"{printable(source)} contains no photos")
        elif source.lower().endswith(LIST_ENDINGS):
            yield from _listed(source)
        elif glob.has_magic(source) and not os.path.lexists(source):
            found = (path for path in glob.iglob(source, recursive=True) if os.path.isfile(path))
            yield from _some(found, f"no file matches {printable(source)}")
        else:
            yield source


def count(sources: Sequence[str]) -> int | None:
    """Count the photos; ``None`` if standard input names them, which can be read only once.

    Raises:
        DataError: as `photos_in`.
    """
    return None if STANDARD_INPUT in sources else sum(1 for _ in photos_in(sources))


def _below(folder: str, skipped: Counter[str] | None) -> Iterator[str]:
    """Photos in and below a folder, except in hidden and linked folders; and folders that cannot be read, so that
    they become error rows."""
    closed: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=lambda error: closed.append(error.filename)):
        yield from closed
        closed.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(parent, name)
            if not name.startswith(".") and is_photo(path, skipped):
                yield path
    yield from closed


def _listed(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            yield from _some(_lines(file), f"{printable(path)} is empty: expected one image name per line")
    except OSError as error:
        raise DataError(f"the list {printable(path)} cannot be read ({error.strerror})") from None


def _lines(file: Iterator[str]) -> Iterator[str]:
    for line in file:
        if name := line.rstrip("\r\n"):
            yield name


def _some(paths: Iterator[str], otherwise: str) -> Iterator[str]:
    """The paths; an error if there are none."""
    none = True
    for path in paths:
        none = False
        yield path
    if none:
        raise DataError(otherwise)

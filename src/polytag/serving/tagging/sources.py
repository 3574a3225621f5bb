"""Find the photos to tag in files, folders, patterns, lists of names, and standard input."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

from polytag.errors import DataError, printable
from polytag.photos.kinds import is_photo

STANDARD_INPUT = "-"

LIST_ENDINGS = (".txt", ".lst")
"""Extensions of list files, which contain one photo name per line."""


def photos_in(sources: Sequence[str], skipped: Counter[str] | None = None) -> Iterator[str]:
    """Yield the paths of photos one by one, so that they are never all in memory.

    A source is one of the following. Names are relative to the current folder.

    - a file with any extension
    - a folder, for all photos in it and its subfolders, sorted by name
    - a pattern such as ``2024/**/*.jpg``
    - a list file with an extension in `LIST_ENDINGS`, which names one photo per line
    - "-" for names on standard input

    Args:
        sources: the sources, in order.
        skipped: counter by kind of file, to which the skipped files in folders are added.

    Raises:
        DataError: a folder contains no photos, a pattern matches no file, or a list is empty or cannot be read.
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
    """Count the photos; return ``None`` if standard input is a source, because it can be read only once.

    Raises:
        DataError: see `photos_in`.
    """
    return None if STANDARD_INPUT in sources else sum(1 for _ in photos_in(sources))


def named(sources: Sequence[str]) -> list[str]:
    """Return the sources that are files, folders or patterns, which no output may replace."""
    return [source for source in sources if source != STANDARD_INPUT]


def _below(folder: str, skipped: Counter[str] | None) -> Iterator[str]:
    """Yield the photos in a folder and its subfolders, except for hidden and linked folders.

    Folders that cannot be read are also yielded, so that they appear as errors in the results.
    """
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
    """Yield the paths, and raise an error if there are none."""
    none = True
    for path in paths:
        none = False
        yield path
    if none:
        raise DataError(otherwise)

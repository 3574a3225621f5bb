"""Where the cache lies, how much of the disk it may take, and what goes when there is too little room.

What goes is a whole folder of arrays, the one that was least recently opened first, and never one that is in
use: rows are memory-mapped, so nothing can move within a folder that somebody reads.
"""

import os
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import platformdirs

from polytag.errors import SettingsError

try:
    import fcntl
except ImportError:
    # Windows has no such locks, but refuses by itself to delete a file that is open or mapped anywhere.
    fcntl = None  # type: ignore[assignment]

LIMIT = 20 * 10**9
"""Bytes that the arrays may take by default, unless the disk is small."""

ROWS, INDEX = "rows.bin", "index.sqlite"
"""The two files of a folder of arrays; the first is the one that is locked, and its time is that of the last use."""


def cache_folder() -> Path:
    """The folder of polytag's cache: ``$POLYTAG_CACHE``, else the user's cache folder."""
    folder = Path(os.environ.get("POLYTAG_CACHE") or platformdirs.user_cache_dir("polytag"))
    with usable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Say in one line what is wrong with a folder of the cache, a full disk included."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"the cache folder {folder} cannot be used ({reason}): make room, delete it or set POLYTAG_CACHE"
        ) from None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Folders of arrays are opened and removed only in here, one process at a time, so that none is removed just
    when it is opened. ``folder`` is the whole cache's."""
    with (folder / "lock").open("ab") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hold(file: int) -> None:
    """Keep a folder from `make_room` as long as this opening of its rows, or a mapping made from it, lives."""
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_SH)


def discard(folder: Path) -> None:
    """Remove a folder of arrays. On POSIX those who have mapped its rows go on reading them."""
    # The rows first: on Windows this fails where they are in use, and then the index has to stay too.
    (folder / ROWS).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def make_room(needed: int) -> None:
    """Remove what was least recently used until ``needed`` more bytes are within the limit.

    Folders that are in use, in this process or another, stay: a run that needs more than the limit goes on, and is
    told so once.

    Raises:
        SettingsError: ``$POLYTAG_CACHE_LIMIT`` is no number of gigabytes above 0.
    """
    folder = cache_folder()
    with usable(folder):
        if _excess(folder) + needed <= 0:
            return
        with alone(folder):
            for _, oldest in sorted(_sizes(folder)):
                if _excess(folder) + needed <= 0:
                    return
                if not _in_use(oldest):
                    try:
                        discard(oldest)
                    except OSError:
                        continue  # in use on Windows, or another user's
            if _excess(folder) + needed > 0:
                _warn_once()


def _excess(folder: Path) -> int:
    """Bytes by which all arrays exceed the limit; negative where there is room."""
    taken = sum(_sizes(folder).values())
    setting = os.environ.get("POLYTAG_CACHE_LIMIT")
    if not setting:
        # Half of what would be free without the cache, so that the limit does not shrink as the cache grows.
        return taken - min(LIMIT, (shutil.disk_usage(folder).free + taken) // 2)
    try:
        gigabytes = float(setting)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < float("inf"):
        raise SettingsError(f"POLYTAG_CACHE_LIMIT is '{setting}': expected gigabytes, a number above 0 such as 20")
    return taken - int(gigabytes * 10**9)


def _sizes(folder: Path) -> dict[tuple[int, Path], int]:
    """Bytes of each folder of arrays, under the time of its last use in nanoseconds and its path."""
    sizes = {}
    for rows in folder.glob(f"*/{ROWS}"):
        try:
            status, index = rows.stat(), (rows.parent / INDEX).stat()
        except FileNotFoundError:
            continue  # gone in the meantime, or no folder of ours
        sizes[status.st_mtime_ns, rows.parent] = status.st_size + index.st_size
    return sizes


def _in_use(folder: Path) -> bool:
    if not fcntl:
        return False
    with (folder / ROWS).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@cache
def _warn_once() -> None:
    warnings.warn(
        "polytag's cache exceeds its limit, since arrays in use are never removed: POLYTAG_CACHE_LIMIT (GB) raises it",
        stacklevel=2,
    )

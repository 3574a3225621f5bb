"""Where the cache is, how much of the disk it may use, and what is removed when it needs room.

Whole folders of arrays are removed, the least recently opened first, and never one that is in use: rows are
memory-mapped, so nothing can be moved within a folder that somebody reads.
"""

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import platformdirs

from polytag.errors import SettingsError

try:
    import fcntl
except ImportError:
    # Windows has no such locks, but refuses to delete a file that is open or mapped anywhere.
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

LIMIT = 20 * 10**9
"""Bytes that the arrays may use by default, unless the disk is small."""

ROWS, INDEX = "rows.bin", "index.sqlite"
"""The two files of a folder of arrays. The first is locked while in use; its time is that of the last use."""


def cache_folder() -> Path:
    """Return the folder of the cache: ``$POLYTAG_CACHE``, or a folder in the user's cache."""
    folder = Path(os.environ.get("POLYTAG_CACHE") or platformdirs.user_cache_dir("polytag"))
    with usable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Turn whatever is wrong with a folder of the cache, such as a full disk, into one line."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"the cache folder {folder} cannot be used ({reason}): make room, delete it or set POLYTAG_CACHE"
        ) from None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock the whole cache, whose folder is given, while a folder of arrays is opened or removed.

    Otherwise one process could remove a folder just when another opens it.
    """
    with (folder / "lock").open("ab") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hold(file: int) -> None:
    """Protect a folder from `make_room` while this handle of its rows, or a mapping made from it, exists."""
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_SH)


def discard(folder: Path) -> None:
    """Remove a folder of arrays. On POSIX, processes that have mapped its rows can still read them."""
    # The rows first: on Windows this fails if they are in use, and then the index has to stay too.
    (folder / ROWS).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def make_room(needed: int) -> None:
    """Remove the least recently used folders until ``needed`` more bytes fit within the limit.

    Folders in use, by this process or another, stay: a run that needs more than the limit continues with one warning.

    Raises:
        SettingsError: ``$POLYTAG_CACHE_LIMIT`` is not a number of gigabytes above 0.
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
    """Bytes by which all arrays exceed the limit; negative if there is room."""
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
    """Bytes of each folder of arrays, by the time of its last use in nanoseconds and its path."""
    sizes = {}
    for rows in folder.glob(f"*/{ROWS}"):
        try:
            status, index = rows.stat(), (rows.parent / INDEX).stat()
        except FileNotFoundError:
            continue  # removed in the meantime, or not a folder of arrays
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
    log.warning("the cache exceeds its limit, since arrays in use are never removed: raise POLYTAG_CACHE_LIMIT (GB)")

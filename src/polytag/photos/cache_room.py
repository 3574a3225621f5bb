"""Locate the cache, limit its size on disk, and remove old folders when it needs room.

Whole folders of arrays are removed, least recently opened first. Folders in use are never removed. Because rows are
memory-mapped, nothing can be moved within a folder while someone reads it.
"""

import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import platformdirs

from polytag.errors import SettingsError

try:
    import fcntl
except ImportError:
    # Windows has no such locks, but it refuses to delete a file that any process has open or mapped.
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

LIMIT = 20 * 10**9
"""Default size limit for cached arrays, in bytes. The limit is lower on a small disk."""

ROWS, INDEX = "rows.bin", "index.sqlite"
"""The two files in a folder of arrays. The row file is locked while in use; its modification time is its last use."""


def cache_folder() -> Path:
    """Return the cache folder: ``$POLYTAG_CACHE`` if set, otherwise a folder in the user's cache directory."""
    folder = Path(os.environ.get("POLYTAG_CACHE") or platformdirs.user_cache_dir("polytag"))
    with usable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def new_cache_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder of the cache, which appears only when it is complete.

    The block receives a temporary folder. If another process has filled the folder in the meantime, its files are kept.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        yield temporary
        try:
            os.replace(temporary, folder)
        except OSError:
            if not all((folder / file.name).exists() for file in temporary.iterdir()):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Report any problem with a cache folder, such as a full disk, as a one-line `SettingsError`."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"the cache folder {folder} cannot be used ({reason}): make room, delete it or set POLYTAG_CACHE"
        ) from None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock the whole cache, given its folder, while a folder of arrays is opened or removed.

    Without this lock, one process could remove a folder at the moment another process opens it.
    """
    with (folder / "lock").open("ab") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hold(file: int) -> None:
    """Protect a folder from `make_room` while this handle of its row file, or a mapping made from it, exists."""
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_SH)


def discard(folder: Path) -> None:
    """Remove a folder of arrays. On POSIX, processes that have mapped its rows can still read them."""
    # The rows go first. On Windows, deleting them fails if they are in use, and then the index must stay, too.
    (folder / ROWS).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def make_room(needed: int) -> None:
    """Remove the least recently used folders until ``needed`` more bytes fit within the limit.

    Folders that this or another process is using stay. A run that needs more than the limit logs one warning and
    continues.

    Raises:
        SettingsError: ``$POLYTAG_CACHE_LIMIT`` is not a positive number of gigabytes.
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
                        continue  # The folder is in use on Windows, or it belongs to another user.
            if _excess(folder) + needed > 0:
                _warn_once()


def _excess(folder: Path) -> int:
    """Return by how many bytes the arrays exceed the limit; negative if there is room."""
    taken = sum(_sizes(folder).values())
    setting = os.environ.get("POLYTAG_CACHE_LIMIT")
    if not setting:
        # Half of the space that would be free without the cache, so that the limit does not shrink as the cache grows.
        return taken - min(LIMIT, (shutil.disk_usage(folder).free + taken) // 2)
    try:
        gigabytes = float(setting)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < float("inf"):
        raise SettingsError(f"POLYTAG_CACHE_LIMIT is '{setting}': expected a positive number of gigabytes, such as 20")
    return taken - int(gigabytes * 10**9)


def _sizes(folder: Path) -> dict[tuple[int, Path], int]:
    """Return the size of each folder of arrays in bytes, keyed by (last use in nanoseconds, path)."""
    sizes = {}
    for rows in folder.glob(f"*/{ROWS}"):
        try:
            status, index = rows.stat(), (rows.parent / INDEX).stat()
        except FileNotFoundError:
            continue  # The folder was removed in the meantime, or it does not hold arrays.
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
    log.warning("the cache exceeds its limit because arrays in use are never removed: raise POLYTAG_CACHE_LIMIT (GB)")

"""Cache arrays on disk, one row per photo, keyed by the photo's content.

Decoded pixels and embeddings are computed once and reused by every model and every trial. The rows are stored in one
flat, memory-mapped file, so that reading them uses the page cache rather than process memory.
"""

import mmap
import os
import sqlite3
import weakref
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import numpy as np
from numpy.lib.recfunctions import repack_fields
from numpy.typing import DTypeLike, NDArray

from polytag.errors import SettingsError
from polytag.photos.cache_room import INDEX, ROWS, alone, cache_folder, discard, hold, make_room, usable

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""SQLite's error codes for a file that is damaged or is not a database."""

AT_ONCE = 1024
"""Number of rows that are copied from one mapping of the file."""

TABLE = "CREATE TABLE rows (row INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, checksum INTEGER NOT NULL)"

_checked: dict[tuple[int, int], set[int]] = {}
"""Rows whose checksum this process has verified, per row file (identified by device and inode)."""


class ArrayCache:
    """A disk cache of arrays that share one shape and dtype, each stored under a key.

    Any number of processes may read and add rows at the same time. Rows are only appended. They are written under
    SQLite's write lock and reach the disk before their keys are committed, so neither a killed process nor a power
    failure can leave a partial row that is read later. Each row has a checksum, which is verified when a process first
    requests the row. If the checksum does not match, the row counts as missing and is computed again.

    polytag does not remove the folder as long as this object, or an array that `open` returned, exists. If someone
    else deletes the folder, those arrays remain readable (Windows refuses to delete it). `rows` and `add` then raise,
    because row numbers would refer to a different file. A folder with a damaged index is cleared.

    Args:
        name: name of the folder. It must change whenever anything else that the arrays depend on changes.
        shape: shape of one array.
        dtype: data type of the arrays.

    Raises:
        SettingsError: the folder cannot be used or was deleted. Every method may raise this error.
    """

    def __init__(self, name: str, shape: tuple[int, ...], dtype: DTypeLike):
        house = cache_folder()
        self.folder = house / name
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.data = self.folder / ROWS
        self.row_bytes = int(np.prod(shape)) * self.dtype.itemsize
        with usable(self.folder), alone(house):
            self._file = self._opened()
            if not self._sound():
                os.close(self._file)
                discard(self.folder)
                self._file = self._opened()
                self._sound()
        weakref.finalize(self, os.close, self._file)
        make_room(0)

    def _opened(self) -> int:
        """Open the row file, creating it if needed, lock it, and set its modification time to now."""
        self.folder.mkdir(exist_ok=True)
        file = os.open(self.data, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        hold(file)
        os.utime(self.data)
        return file

    def _sound(self) -> bool:
        """Return whether the index and the rows belong together; create the index if there are no rows yet."""
        try:
            with closing(self._connection()) as index:
                columns = {name for _, name, *_ in index.execute("PRAGMA table_info(rows)")}
                if not columns:
                    if self._stored():
                        return False  # Only the index was removed.
                    index.execute(TABLE)
                elif "checksum" not in columns:
                    return False  # An earlier version of polytag wrote rows without checksums.
                return _next_row(index) <= self._stored()  # False if only the rows were removed.
        except sqlite3.DatabaseError as error:
            if not _damaged(error):
                raise
            return False

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / INDEX, timeout=600, isolation_level=None)

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        with usable(self.folder):
            try:
                with closing(self._connection()) as connection:
                    yield connection
            except sqlite3.DatabaseError as error:
                if not _damaged(error):
                    raise
                with alone(self.folder.parent):
                    self._still_there()
                    discard(self.folder)
                raise SettingsError(
                    f"the cache folder {self.folder} was damaged ({error}) and has been removed: run this again"
                ) from None

    def _still_there(self) -> None:
        """Raise an error if the folder was deleted, even if a new folder has taken its place."""
        try:
            if os.path.samestat(os.stat(self.data), os.fstat(self._file)):
                return
        except FileNotFoundError:
            pass
        raise SettingsError(f"the cache folder {self.folder} was deleted while it was in use: run this again")

    def _stored(self) -> int:
        """Return the number of rows in the file. The last rows may not be committed yet."""
        return os.fstat(self._file).st_size // self.row_bytes

    def rows(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Look up the row number of each key: int64 (n,), -1 if the row is missing or damaged."""
        with self._index() as index:
            found = _found(index, keys)
            # This check comes last: an index that was read before the folder was replaced is still the right one.
            self._still_there()
            bad = self._spoiled(found)
            if bad:
                index.executemany("DELETE FROM rows WHERE row = ? AND checksum = ?", bad)
        spoiled = {row for row, _ in bad}
        rows = (found[key][0] if key in found else -1 for key in keys)
        return np.array([-1 if row in spoiled else row for row in rows], dtype=np.int64)

    def _spoiled(self, found: dict[str, tuple[int, int]]) -> list[tuple[int, int]]:
        """Return those entries (row, checksum) whose stored bytes no longer match the checksum."""
        status = os.fstat(self._file)
        checked = _checked.setdefault((status.st_dev, status.st_ino), set())
        waiting = sorted(entry for entry in found.values() if entry[0] not in checked)

        def bad(entries: list[tuple[int, int]]) -> list[tuple[int, int]]:
            # A mapping of its own for each portion, because the pages of a mapping stay in memory as long as it exists.
            stored = self.open()
            data = np.frombuffer(stored, np.uint8).reshape(len(stored), self.row_bytes) if len(stored) else stored
            return [one for one in entries if one[0] >= len(data) or zlib.crc32(data[one[0]]) != one[1]]

        portions = [waiting[start : start + 64] for start in range(0, len(waiting), 64)]
        if len(portions) > 1:
            with ThreadPoolExecutor() as pool:
                spoiled = [one for some in pool.map(bad, portions) for one in some]
        else:
            spoiled = bad(waiting)
        checked.update({row for row, _ in waiting} - {row for row, _ in spoiled})
        return spoiled

    def add(self, keys: Sequence[str], arrays: Sequence[NDArray] | NDArray) -> None:
        """Store n arrays of the cache's shape. Keys that are already stored keep their rows.

        Add about a hundred arrays per call, because each call waits for the disk.
        """
        make_room(len(keys) * self.row_bytes)
        with self._index() as index:
            index.execute("BEGIN IMMEDIATE")
            known = _found(index, keys)
            new = {key: array for key, array in zip(keys, arrays, strict=True) if key not in known}
            start = _next_row(index)
            with open(self._file, "r+b", closefd=False) as file:
                file.seek(start * self.row_bytes)
                entries = []
                for row, (key, array) in enumerate(new.items(), start):
                    content = np.ascontiguousarray(array, self.dtype).reshape(self.shape).tobytes()
                    file.write(content)
                    entries.append((row, key, zlib.crc32(content)))
            # The commit writes the keys to disk, so the rows must be there before it.
            getattr(os, "fdatasync", os.fsync)(self._file)
            index.executemany("INSERT INTO rows (row, key, checksum) VALUES (?, ?, ?)", entries)
            self._still_there()
            index.execute("COMMIT")

    def open(self) -> NDArray:
        """Map all rows stored so far, read-only: (rows, *shape)."""
        count = self._stored()
        if not count:
            return np.empty((0, *self.shape), self.dtype)
        # The mapping has its own file handle, and that handle holds the lock that protects the folder.
        pages = mmap.mmap(self._file, count * self.row_bytes, access=mmap.ACCESS_READ)
        return np.frombuffer(pages, self.dtype).reshape(count, *self.shape)

    def read(self, rows: NDArray[np.int64], absent: float = 0, fields: str | list[str] | None = None) -> NDArray:
        """Copy the given rows. Unlike mapped pages, a copy leaves process memory when it is deleted.

        Args:
            rows: int64 (n,), row numbers, -1 for arrays that are not stored.
            absent: value in place of arrays that are not stored.
            fields: the field or fields to copy if the arrays are records. By default, everything.

        Returns:
            (n, *shape), or (n, *shape of the field).
        """
        copy = np.zeros((len(rows), *self.shape), self.dtype if fields is None else repack_fields(self.dtype[fields]))
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            stored = some >= 0
            # A mapping of its own for each block, because the pages of a mapping stay in memory as long as it exists.
            mapped = self.open() if fields is None else self.open()[fields]
            copy[start : start + AT_ONCE][stored] = mapped[some[stored]]
            if absent:
                copy[start : start + AT_ONCE][~stored] = absent
        return copy


def _found(index: sqlite3.Connection, keys: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return the row number and checksum of each stored key."""
    found: dict[str, tuple[int, int]] = {}
    for start in range(0, len(keys), 500):
        part = list(keys[start : start + 500])
        marks = ",".join("?" * len(part))
        entries = index.execute(f"SELECT key, row, checksum FROM rows WHERE key IN ({marks})", part)
        found.update({key: (row, checksum) for key, row, checksum in entries})
    return found


def _next_row(index: sqlite3.Connection) -> int:
    return index.execute("SELECT COALESCE(MAX(row) + 1, 0) FROM rows").fetchone()[0]


def _damaged(error: sqlite3.DatabaseError) -> bool:
    # The lowest byte is the kind of error, and the other bytes are details.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED

"""Arrays on disk, one row per photo, found by the photo's content.

Decoded pixels and embeddings are made once and read by every model and every trial. The rows lie in
one flat file that is memory-mapped, so reading them costs page cache and not process memory.
"""

import mmap
import os
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import numpy as np
from numpy.typing import DTypeLike, NDArray

from polytag.errors import SettingsError
from polytag.photos.cache_room import INDEX, ROWS, alone, cache_folder, discard, hold, make_room, usable

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""SQLite's codes for a file that is no database, or no longer one."""


class ArrayCache:
    """Arrays of one shape and dtype on disk, each under a key.

    Any number of processes may read and add at once. Rows are only ever appended. They are written under SQLite's
    write lock, are on the disk before their keys are committed, and count only from then on: neither a process
    that is killed nor a power cut leaves anything half-written that is read.

    The folder stays as it is while this object, or an array that `open` returned, lives. If somebody deletes it all
    the same, those arrays remain readable (on Windows it cannot be deleted), and `rows` and `add` refuse, since
    row numbers would be those of another file. A folder whose index is damaged starts anew.

    Args:
        name: of the folder; it has to change with whatever else the arrays depend on.
        shape, dtype: of one array.

    Raises:
        SettingsError: the folder cannot be used, or was deleted meanwhile; of every method.
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
        """The rows' file, made where there is none, and held; its time becomes that of the last use."""
        self.folder.mkdir(exist_ok=True)
        file = os.open(self.data, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        hold(file)
        os.utime(self.data)
        return file

    def _sound(self) -> bool:
        """Whether index and rows belong together; an index is made where there are no rows yet."""
        try:
            with closing(self._connection()) as index:
                if not index.execute("SELECT 1 FROM sqlite_master WHERE name = 'rows'").fetchone():
                    if self._stored():
                        return False  # somebody removed the index alone
                    index.execute("CREATE TABLE rows (row INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE)")
                # Somebody may have removed the rows alone.
                return _next_row(index) <= self._stored()
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
        """Refuse where the folder was deleted, even if another took its place."""
        try:
            if os.path.samestat(os.stat(self.data), os.fstat(self._file)):
                return
        except FileNotFoundError:
            pass
        raise SettingsError(f"the cache folder {self.folder} was deleted while it was in use: run this again")

    def _stored(self) -> int:
        """How many rows the data file has room for; the last ones may not be committed."""
        return os.fstat(self._file).st_size // self.row_bytes

    def rows(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """The row of each key, int64 (n,); -1 where the cache has none."""
        with self._index() as index:
            found = _found(index, keys)
            # Afterwards: an index that was read before the folder was replaced is still this one's.
            self._still_there()
        return np.array([found.get(key, -1) for key in keys], dtype=np.int64)

    def add(self, keys: Sequence[str], arrays: Sequence[NDArray] | NDArray) -> None:
        """Store n arrays of the cache's shape; a key that is there already keeps its row.

        A hundred or so at once cost the least, since each call waits for the disk.
        """
        make_room(len(keys) * self.row_bytes)
        with self._index() as index:
            index.execute("BEGIN IMMEDIATE")
            known = _found(index, keys)
            new = {key: array for key, array in zip(keys, arrays, strict=True) if key not in known}
            start = _next_row(index)
            with open(self._file, "r+b", closefd=False) as file:
                file.seek(start * self.row_bytes)
                for array in new.values():
                    file.write(np.ascontiguousarray(array, self.dtype).reshape(self.shape).data)
            # The keys reach the disk with the commit, and must not be there before their rows.
            getattr(os, "fdatasync", os.fsync)(self._file)
            index.executemany("INSERT INTO rows (row, key) VALUES (?, ?)", enumerate(new, start))
            self._still_there()
            index.execute("COMMIT")

    def open(self) -> NDArray:
        """All rows so far, read-only and memory-mapped: (rows, *shape)."""
        count = self._stored()
        if not count:
            return np.empty((0, *self.shape), self.dtype)
        # The mapping has its own handle of the file, and with it the lock that keeps the folder.
        pages = mmap.mmap(self._file, count * self.row_bytes, access=mmap.ACCESS_READ)
        return np.frombuffer(pages, self.dtype).reshape(count, *self.shape)

    def read(self, rows: NDArray[np.int64]) -> NDArray:
        """A copy of these rows, (n, *shape); unlike mapped pages it leaves the process's memory when it is let go."""
        return self.open()[rows]


def _found(index: sqlite3.Connection, keys: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(keys), 500):
        part = list(keys[start : start + 500])
        marks = ",".join("?" * len(part))
        found.update(index.execute(f"SELECT key, row FROM rows WHERE key IN ({marks})", part))
    return found


def _next_row(index: sqlite3.Connection) -> int:
    return index.execute("SELECT COALESCE(MAX(row) + 1, 0) FROM rows").fetchone()[0]


def _damaged(error: sqlite3.DatabaseError) -> bool:
    # The lowest byte is the kind of error, the others are its details.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED

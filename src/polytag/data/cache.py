"""Arrays on disk, one row per photo, found by the photo's content.

Decoded pixels and embeddings are made once and read by every model and every trial. The rows lie in
one flat file that is memory-mapped, so reading them costs page cache and not process memory.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import DTypeLike, NDArray

from polytag.data.images import PIXEL_PATH, Paths, content_hash, decode, each
from polytag.errors import ImageError, SettingsError


def cache_folder() -> Path:
    """The folder of polytag's cache: ``$POLYTAG_CACHE``, else the user's cache folder."""
    folder = Path(os.environ.get("POLYTAG_CACHE") or platformdirs.user_cache_dir("polytag"))
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Say in one line what is wrong with the cache's folder, a full disk included."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"the cache folder {folder} cannot be used ({reason}): make room, delete it or set POLYTAG_CACHE"
        ) from None


class ArrayCache:
    """Arrays of one shape and dtype on disk, each under a key.

    Two processes may add to the same cache: a row is written under SQLite's write lock and counts only
    once its key is committed, so a process that is killed leaves nothing half-written that is read.
    """

    def __init__(self, name: str, shape: tuple[int, ...], dtype: DTypeLike):
        self.folder = cache_folder() / name
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.data = self.folder / "rows.bin"
        self.row_bytes = int(np.prod(shape)) * self.dtype.itemsize
        with _writable(self.folder):
            self.folder.mkdir(exist_ok=True)
        with self._index() as index:
            index.execute("CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, row INTEGER NOT NULL)")
            # Someone may have tidied away the large file and left the small one.
            index.execute("BEGIN IMMEDIATE")
            index.execute("DELETE FROM rows WHERE row >= ?", (self._stored(),))
            index.execute("COMMIT")

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        with (
            _writable(self.folder),
            closing(sqlite3.connect(self.folder / "index.sqlite", timeout=600, isolation_level=None)) as connection,
        ):
            yield connection

    def _stored(self) -> int:
        """How many rows the data file has room for."""
        return self.data.stat().st_size // self.row_bytes if self.data.exists() else 0

    def rows(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """The row of each key, int64 (n,); -1 where the cache has none."""
        found: dict[str, int] = {}
        with self._index() as index:
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                found.update(index.execute(f"SELECT key, row FROM rows WHERE key IN ({marks})", part))
        return np.array([found.get(key, -1) for key in keys], dtype=np.int64)

    def add(self, keys: Sequence[str], arrays: NDArray) -> None:
        """Store arrays (n, *shape); a key that is there already keeps its row."""
        new = self.rows(keys) < 0
        keys, arrays = [key for key, is_new in zip(keys, new, strict=True) if is_new], arrays[new]
        with self._index() as index:
            index.execute("BEGIN IMMEDIATE")
            (next_row,) = index.execute("SELECT COALESCE(MAX(row) + 1, 0) FROM rows").fetchone()
            with self.data.open("r+b" if self.data.exists() else "wb") as file:
                file.seek(next_row * self.row_bytes)
                file.write(np.ascontiguousarray(arrays, dtype=self.dtype).tobytes())
            index.executemany(
                "INSERT OR IGNORE INTO rows VALUES (?, ?)",
                [(key, next_row + i) for i, key in enumerate(keys)],
            )
            index.execute("COMMIT")

    def open(self) -> NDArray:
        """All rows, read-only and memory-mapped: (rows, *shape)."""
        count = self._stored()
        if not count:
            return np.empty((0, *self.shape), self.dtype)
        return np.memmap(self.data, self.dtype, "r", shape=(count, *self.shape))

    def read(self, rows: NDArray[np.int64]) -> NDArray:
        """A copy of these rows, (n, *shape); unlike mapped pages it leaves the process's memory when it is let go."""
        out = np.empty((len(rows), self.row_bytes), np.uint8)
        if len(rows):
            with self.data.open("rb", buffering=0) as file:
                for row, target in zip(rows.tolist(), out, strict=True):
                    file.seek(row * self.row_bytes)
                    file.readinto(target.data)
        return out.view(self.dtype).reshape(len(rows), *self.shape)


def pixel_cache(size: int) -> ArrayCache:
    """Where photos decoded at this size are kept, uint8 (size, size, 3)."""
    return ArrayCache(f"pixels-{PIXEL_PATH}-{size}", (size, size, 3), "uint8")


def pixels(
    paths: Paths, size: int, on_progress: Callable[[int], object] = lambda n: None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], dict[str, str]]:
    """Every photo decoded once, at ``size``.

    Args:
        paths: the photos' files.
        size: side of the square, in pixels.
        on_progress: called with the number of photos that became ready.

    Returns:
        The cache's memory-mapped pixels uint8 (rows, size, size, 3); the row of each path int64 (n,),
        -1 where it cannot be read; and the reason for each such path.
    """
    cache = pixel_cache(size)
    rows, bad = fill([cache], paths, lambda path: (decode(path, size),), on_progress)
    return cache.open(), rows, {path: str(error) for path, error in bad.items()}


def fill(
    caches: Sequence[ArrayCache],
    paths: Paths,
    make: Callable[[str], tuple[NDArray, ...]],
    on_progress: Callable[[int], object] = lambda n: None,
) -> tuple[NDArray[np.int64], dict[str, ImageError]]:
    """Make what the last of the caches lacks, on several threads.

    Args:
        caches: each takes its own of the arrays that ``make`` returns.
        paths: the photos' files.
        make: turns one file into arrays; may raise `ImageError`.
        on_progress: called with the number of photos that became ready.

    Returns:
        The last cache's row of each path, int64 (n,), -1 where ``make`` failed; and the error for each such path.
    """
    bad: dict[str, ImageError] = {}
    keys: list[str] = []
    for path in paths:
        try:
            keys.append(content_hash(path))
        except OSError as error:
            bad[path] = ImageError(error.strerror or str(error), "missing")
            keys.append("")
    rows = caches[-1].rows(keys)
    waiting = {key: path for key, path, row in zip(keys, paths, rows, strict=True) if key and row < 0}
    on_progress(len(paths) - len(waiting))

    made: list[tuple[str, tuple[NDArray, ...]]] = []

    def flush() -> None:
        if made:
            names = [key for key, _ in made]
            for i, cache in enumerate(caches):
                cache.add(names, np.stack([arrays[i] for _, arrays in made]))
            made.clear()

    failed: dict[str, ImageError] = {}
    for key, arrays in zip(waiting, each(make, waiting.values()), strict=True):
        if isinstance(arrays, ImageError):
            failed[key] = arrays
        else:
            made.append((key, arrays))
        if len(made) == 128:
            flush()
        on_progress(1)
    flush()
    bad.update({path: failed[key] for path, key in zip(paths, keys, strict=True) if key in failed})
    return caches[-1].rows(keys), bad

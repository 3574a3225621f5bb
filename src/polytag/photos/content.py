"""Hash the content of photo files once, and cache each hash until the file changes."""

import hashlib
import os
import sqlite3
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from polytag.errors import PolytagError, raise_machine_error
from polytag.files import sha256_of
from polytag.photos.cache_room import cache_folder

INDEX = "hashes.sqlite"
"""The cache's database of hashes."""

SETTLED = 2 * 10**9
"""Minimum age of a file's last change before its hash is cached, in nanoseconds. A second change within the clock's
resolution would go unnoticed."""

AT_ONCE = 10_000
"""Number of files that are looked up, hashed and stored together."""

IDENTITY = struct.Struct("<4q")
"""File size, times of the last content and status changes in nanoseconds, and inode. A change in any of these values
means that the file has changed."""

ENTRY, CHECKSUM = IDENTITY.size + 32, struct.Struct("<I")
"""Length of an entry, a file's identity and its SHA-256 hash, and the checksum that follows each entry in the
database."""

_known: dict[str, bytes] = {}
"""The entry of each path. Packed entries take a quarter of the memory of objects, which matters for a million files."""


def content_hash(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 hash of a file's bytes as 64 hexadecimal digits. Unchanged files are not read again.

    Raises:
        OSError: the file cannot be read.
        MachineError: the computer failed, not the file.
    """
    path = str(path)
    try:
        identity = _identity(path)
        known = _known.get(path)
        if known is None or not known.startswith(identity):
            known = _known[path] = identity + bytes.fromhex(sha256_of(path))
    except OSError as error:
        raise_machine_error(error)
        raise
    return known[IDENTITY.size :].hex()


def content_hashes(
    paths: Iterable[str], on_progress: Callable[[int], object] = lambda n: None
) -> Iterator[str | OSError]:
    """Hash many files on several threads, reusing the hashes that earlier runs cached.

    Args:
        paths: paths of the files.
        on_progress: called with the number of files whose hashes became known since the last call.

    Yields:
        For each path, the result of `content_hash` or the `OSError` that it raised.

    Raises:
        MachineError: the computer failed, not a file.
    """
    paths = [str(path) for path in paths]
    with _index() as index:
        for start in range(0, len(paths), AT_ONCE):
            some = paths[start : start + AT_ONCE]
            if index is not None:
                _recall(index, some)
            before = [_known.get(path) for path in some]
            waiting = [path for path in some if path not in _known]
            on_progress(len(some) - len(waiting))
            with ThreadPoolExecutor() as pool:
                for _ in pool.map(_attempt, waiting):
                    on_progress(1)
            found = list(map(_attempt, some))
            if index is not None:
                _keep(index, [path for path, known in zip(some, before, strict=True) if _known.get(path) is not known])
            yield from found


def _attempt(path: str) -> str | OSError:
    try:
        return content_hash(path)
    except OSError as error:
        return error


def _identity(path: str) -> bytes:
    status = os.stat(path)
    return IDENTITY.pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & (2**63 - 1))


@contextmanager
def _index() -> Iterator[sqlite3.Connection | None]:
    """Open the database of cached hashes. Yield ``None`` if the cache cannot be used; hashing works without it."""
    try:
        file = cache_folder() / INDEX
        try:
            connection = _opened(file)
        except sqlite3.DatabaseError:
            file.unlink(missing_ok=True)
            connection = _opened(file)
    except (PolytagError, OSError, sqlite3.Error):
        yield None
        return
    with closing(connection):
        yield connection


def _opened(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=10, isolation_level=None)
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS hashes (path BLOB PRIMARY KEY, entry BLOB) WITHOUT ROWID")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _recall(index: sqlite3.Connection, paths: Sequence[str]) -> None:
    """Reuse the cached hashes of files that have not changed."""
    keys = {_key(path): path for path in paths if path not in _known}
    waiting = list(keys)
    try:
        for start in range(0, len(waiting), 500):
            part = waiting[start : start + 500]
            marks = ",".join("?" * len(part))
            for key, entry in index.execute(f"SELECT path, entry FROM hashes WHERE path IN ({marks})", part):
                if len(entry) == ENTRY + CHECKSUM.size and entry[ENTRY:] == _checksum(key, entry[:ENTRY]):
                    _known[keys[key]] = entry[:ENTRY]
    except (sqlite3.Error, TypeError):
        return  # The database is damaged, so the files are hashed again.


def _keep(index: sqlite3.Connection, paths: Sequence[str]) -> None:
    now = time.time_ns()
    entries = []
    for path in paths:
        if path in _known and now - max(IDENTITY.unpack_from(_known[path])[1:3]) > SETTLED:
            key, entry = _key(path), _known[path]
            entries.append((key, entry + _checksum(key, entry)))
    try:
        index.execute("BEGIN IMMEDIATE")
        index.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?)", entries)
        index.execute("COMMIT")
    except sqlite3.Error:
        if index.in_transaction:
            index.rollback()


def _checksum(key: bytes, entry: bytes) -> bytes:
    return CHECKSUM.pack(zlib.crc32(key + entry))


def _key(path: str) -> bytes:
    return hashlib.blake2b(os.fsencode(os.path.abspath(path)), digest_size=16).digest()

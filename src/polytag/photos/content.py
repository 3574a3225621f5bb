"""Content hashes of photo files."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path


def content_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits; remembered until the file changes."""
    status = os.stat(path)
    return _content_hash(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1_000_000)
def _content_hash(path: str, modified_ns: int, size: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

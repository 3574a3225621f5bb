"""Object stores and other file systems, which fsspec opens by URL."""

import glob
import io
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from polytag.data.reading.tables.parquet import PARQUET_EXTENSIONS
from polytag.errors import DataError, ImageError, MachineError, PolytagError, printable, raise_machine_error
from polytag.extras import require
from polytag.photos.kinds import EXTENSIONS, KIND_OF_ENDING, OTHER
from polytag.serving.tagging.sources import LIST_ENDINGS

AT_ONCE = 16
"""Number of photos that a worker downloads at the same time. They are in memory together."""

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


S3 = ("s3://", "s3a://")

S3_OPTIONS = {"max_concurrency": 1}
"""Otherwise, s3fs asks for the size of each photo before it downloads it, which takes twice as many requests."""


def is_url(source: str) -> bool:
    """Return whether a source is a URL such as ``s3://bucket/folder`` instead of a local path."""
    return URL.match(source) is not None


def open_storage(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path inside it.

    Raises:
        SettingsError: fsspec is not installed.
        MachineError: no installed package can open this kind of URL.
    """
    require("fsspec", "scale", "Reading from URLs")
    from fsspec.core import url_to_fs

    try:
        # Cached listings would hold a kilobyte for each of millions of photos.
        return url_to_fs(url, use_listings_cache=False, **(S3_OPTIONS if url.startswith(S3) else {}))
    except (ImportError, ValueError) as error:
        raise storage_error(url, error) from None


def storage_error(url: str, error: Exception) -> MachineError:
    """Return the error for a failed access that is not the fault of a single photo."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return MachineError(
        f"{printable(url)} cannot be read ({printable(reason[:200])}): check the address and its access"
    )


def found_at(url: str, skipped: Counter[str]) -> Iterator[str]:
    """Yield the URLs of photos: from a file, a folder, a pattern, a list of names, or a folder of Parquet files.

    Args:
        url: the URL. Lists have an extension in `LIST_ENDINGS`.
        skipped: counter by kind of file, to which the skipped files in folders are added.

    Raises:
        DataError: the folder or list is empty, or the pattern matches no file.
        MachineError: the object store cannot be reached.
    """
    storage, path = open_storage(url)
    none = True
    try:
        for name in _found(storage, path, url, skipped):
            none = False
            yield name
    except (FileNotFoundError, PermissionError) as error:
        raise DataError(f"{printable(url)} cannot be read ({error.strerror or error})") from None
    except PolytagError:
        raise
    except Exception as error:
        raise_machine_error(error)
        raise storage_error(url, error) from None
    if none:
        raise DataError(f"{printable(url)} contains no photos")


def _found(storage: Any, path: str, url: str, skipped: Counter[str]) -> Iterator[str]:
    if url.lower().endswith(LIST_ENDINGS):
        with storage.open(path, "rb") as file:
            for line in io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape"):
                if name := line.rstrip("\r\n"):
                    yield name
    elif glob.has_magic(path):
        # The URL may contain more than the path inside the store, such as an account, so only its end is replaced.
        fixed = re.split(r"[*?\[]", url, maxsplit=1)[0].rpartition("/")[0]
        base = open_storage(fixed)[1]
        for name, about in sorted(storage.glob(path, detail=True).items()):
            inside = name[len(base) :]
            if about["type"] == "file" and "/." not in inside:
                yield fixed + inside
    elif storage.isdir(path):
        wanted = PARQUET_EXTENSIONS if url.rstrip("/").lower().endswith(PARQUET_EXTENSIONS) else None
        for parent, folders, files in storage.walk(path.rstrip("/")):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(name for name in files if name and not name.startswith(".")):
                ending = posixpath.splitext(name)[1].lower()
                if ending in (wanted or EXTENSIONS):
                    yield f"{url.rstrip('/')}{parent[len(path.rstrip('/')) :]}/{name}"
                else:
                    skipped[KIND_OF_ENDING.get(ending, OTHER)] += 1
    else:
        yield url


def contents(urls: Iterable[str]) -> Iterator[bytes | ImageError]:
    """Download photos in order, with at most `AT_ONCE` in memory.

    Yields:
        For each URL, the content of the file, or an error if the file is missing or access to it is denied.

    Raises:
        MachineError: the object store cannot be reached.
    """
    remaining = iter(urls)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while some := list(islice(remaining, AT_ONCE)):
            yield from pool.map(_content, some)


def _content(url: str) -> bytes | ImageError:
    storage, path = open_storage(url)
    try:
        content: bytes = storage.cat_file(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return ImageError("there is no such file", "missing")
    except PermissionError:
        return ImageError("permission denied", "missing")
    except Exception as error:
        # Each object store has its own exceptions, for example for missing credentials or a broken connection.
        raise_machine_error(error)
        raise storage_error(url, error) from None
    return content

"""Parquet files that contain photos as bytes, or the names of photos."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from polytag.data.reading.tables.parquet import PARQUET_EXTENSIONS
from polytag.errors import DataError, ImageError, listed, printable
from polytag.serving.scale.storage import AT_ONCE, contents, is_url, open_storage

NAMES = ("path", "image", "image_path", "file", "file_name", "filename", "url", "uri", "photo", "name", "id")
"""Columns that name photos, the most specific first."""


def is_parquet(source: str) -> bool:
    """Return whether a source is named like a Parquet file."""
    return source.lower().endswith(PARQUET_EXTENSIONS)


@contextmanager
def open_parquet(source: str, folder: str = "") -> Iterator[Any]:
    """Open a Parquet file as a `pyarrow.parquet.ParquetFile`.

    Args:
        source: URL or path.
        folder: folder that relative paths start from.

    Raises:
        DataError: the file cannot be read.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        # Without a buffer size, pyarrow would hold a whole group of rows, with all its photos, in memory.
        with _opened(source, folder) as opened, ParquetFile(opened, buffer_size=1 << 20, pre_buffer=False) as file:
            yield file
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{printable(source)} cannot be read ({printable(reason)}): expected a Parquet file") from None


def _opened(source: str, folder: str) -> Any:
    if is_url(source):
        storage, path = open_storage(source)
        return storage.open(path, "rb")
    return open(os.path.join(folder, source), "rb")


def bytes_column(schema: Any) -> str | None:
    """Return the column with the content of photos: a struct with bytes and path, or the only binary column."""
    from pyarrow import types

    for field in schema:
        if types.is_struct(field.type) and {"bytes", "path"} <= {one.name for one in field.type}:
            return str(field.name)
    binary = [field.name for field in schema if types.is_binary(field.type) or types.is_large_binary(field.type)]
    return str(binary[0]) if len(binary) == 1 else None


def name_column(schema: Any) -> str | None:
    """Return the column with the names of photos: one of `NAMES`, or the only column of text."""
    from pyarrow import types

    text = [field.name for field in schema if types.is_string(field.type) or types.is_large_string(field.type)]
    known = [name for wanted in NAMES for name in text if name.lower() == wanted]
    return str(known[0]) if known else str(text[0]) if len(text) == 1 else None


def names_in(source: str) -> Iterator[str]:
    """Yield the names of photos in a Parquet file without photos.

    Raises:
        DataError: the file cannot be read or has no column with names.
    """
    with open_parquet(source) as file:
        column = name_column(file.schema_arrow)
        if column is None:
            raise DataError(
                f"{printable(source)} has no column with photos or their names, only {listed(file.schema_arrow.names)}"
            )
        for batch in file.iter_batches(columns=[column]):
            yield from (name for name in batch.column(0).to_pylist() if name)


def photos_inside(
    source: str, groups: Sequence[int], folder: str = ""
) -> Iterator[tuple[str, bytes | str | ImageError]]:
    """Yield the name, and the content or path, of the photos in some row groups of a Parquet file.

    A photo without a name is called by its file and row, such as ``photos.parquet#17``.

    Args:
        source: URL or path.
        groups: numbers of the row groups.
        folder: folder that relative paths start from.

    Raises:
        DataError: the file cannot be read.
    """
    with open_parquet(source, folder) as file:
        image = bytes_column(file.schema_arrow)
        name = name_column(file.schema_arrow)
        columns = [column for column in (image, name) if column is not None]
        for group in groups:
            row = sum(file.metadata.row_group(one).num_rows for one in range(group))
            for batch in file.iter_batches(AT_ONCE, row_groups=[group], columns=columns):
                for record in batch.to_pylist():
                    found = record[image]
                    inner = found if isinstance(found, dict) else {"bytes": found, "path": record.get(name)}
                    yield inner["path"] or f"{source}#{row}", _photo(inner, folder)
                    row += 1


def _photo(found: dict[str, Any], folder: str) -> bytes | str | ImageError:
    """Return a photo's content, or its path if the file names the photo without containing it."""
    content, path = found["bytes"], found["path"]
    if content is None and path and not is_url(path):
        return os.path.join(folder, path)
    if content is None and path:
        return next(contents([path]))
    return ImageError("the file is empty", "empty") if content is None else content

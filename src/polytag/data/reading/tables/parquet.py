"""Read Parquet files. Columns of all types are converted to the cells that a text file would contain."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polytag.data.reading.tables.column import Column
from polytag.errors import DataError, counted

PARQUET_EXTENSIONS = (".parquet", ".pq")


def read_parquet(path: Path) -> tuple[list[str], list[Column]]:
    """Read a Parquet file.

    Lists become cells in JSON. Columns that cannot contain names or labels, such as bytes, become blank.

    Returns:
        The header and the columns.

    Raises:
        DataError: the file cannot be read or does not contain a table.
    """
    import pyarrow

    try:
        columns = _columns(path)
        n = len(columns[0][2]) if columns else 0
        if n and len(columns) >= 2:
            header = [" ".join(name.split()) for name, _, _ in columns]
            return header, [_as_cells(kind, values) for _, kind, values in columns]
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{path} cannot be read ({reason}): expected a Parquet file of images and labels") from None
    raise DataError(
        f"{path} has {counted(n, 'row')} and {counted(len(columns), 'column')}: expected an image column, labels "
        "and one row for each image"
    )


def _columns(path: Path) -> list[tuple[str, Any, Any]]:
    """Return the name, type and values of each column."""
    import pyarrow
    from pyarrow import parquet

    with path.open("rb") as source, parquet.ParquetFile(source) as file:
        schema = file.schema_arrow
        # Image data and embeddings would only waste memory, and the row numbers that pandas adds are not data.
        wanted = [i for i, column in enumerate(schema) if not re.fullmatch(r"__index_level_\d+__", column.name)]
        readable = [i for i in wanted if _is_words(schema.field(i).type)]
        names = {schema.field(i).name for i in readable}
        table = file.read(columns=list(names))
    # Two columns may have the same name. They are matched by their order in the file.
    read = defaultdict(list)
    for name, column in zip(table.column_names, table.columns, strict=True):
        read[name].append(column)
    values = {i: read[column.name].pop(0) for i, column in enumerate(schema) if column.name in names}
    nothing = pyarrow.nulls(table.num_rows)
    return [
        (schema.field(i).name, schema.field(i).type, values[i])
        if i in readable
        else (schema.field(i).name, pyarrow.null(), nothing)
        for i in wanted
    ]


def _is_words(kind: Any) -> bool:
    """Return whether a Parquet column of this type contains words or numbers, or lists of words or whole numbers."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
        return _is_words(kind) and not (types.is_floating(kind) or types.is_nested(kind))
    if types.is_dictionary(kind):
        return _is_words(kind.value_type)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return text or types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind)


def _as_cells(kind: Any, values: Any) -> Column:
    import pyarrow
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        return Column.of(list_cell(value) for value in values.to_pylist())
    whole = types.is_integer(kind) or types.is_boolean(kind)
    if whole and values.null_count == len(values):
        return Column.of(["?"] * len(values))  # A label with only unknown values is still a label.
    if types.is_null(kind):
        return Column([""], np.zeros(len(values), np.uint8))
    if isinstance(values, pyarrow.ChunkedArray):
        values = values.combine_chunks()
    if not isinstance(values, pyarrow.DictionaryArray):
        values = values.dictionary_encode()
    distinct = [_text(value) for value in values.dictionary.to_pylist()]
    codes = values.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False).astype(np.int32)
    # Distinct values may have the same text, and a dictionary may contain values that no row uses.
    merged: dict[str, int] = {}
    renumbered = np.array([merged.setdefault(text, len(merged)) for text in [*distinct, ""]], dtype=np.uint32)
    return Column(list(merged), renumbered[codes]).take(np.arange(len(codes)))


def list_cell(value: Sequence[Any] | None) -> str:
    """Return a list as a JSON cell, or a blank cell for ``None``."""
    if value is None:
        return ""
    # Names may contain any characters, so they are quoted. Numbers stay numbers, so that vectors are recognized.
    items = [item if isinstance(item, int) else str(item) for item in value if item is not None]
    return json.dumps(items, ensure_ascii=False)


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    # Whole numbers are stored as floats if a column has missing values.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

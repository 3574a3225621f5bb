"""Parquet files: columns of every type become the cells that a text file would have."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polytag.data.reading.tables.column import Column
from polytag.errors import DataError, counted

PARQUET_ENDINGS = (".parquet", ".pq")


def read_parquet(path: Path) -> tuple[list[str], list[Column]]:
    """Read a Parquet file.

    Lists become cells in JSON. What cannot name or tell anything, such as bytes, becomes a column of blanks.

    Returns:
        The header and the columns.

    Raises:
        DataError: the file cannot be read or holds no table.
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
    """Name, type and values of each column."""
    import pyarrow
    from pyarrow import parquet

    with path.open("rb") as source, parquet.ParquetFile(source) as file:
        schema = file.schema_arrow
        # What holds the photos' own bytes, or vectors, is not worth its memory; pandas' row numbers name nothing.
        wanted = [i for i, column in enumerate(schema) if not re.fullmatch(r"__index_level_\d+__", column.name)]
        readable = [i for i in wanted if _is_words(schema.field(i).type)]
        names = {schema.field(i).name for i in readable}
        table = file.read(columns=list(names))
    # Two columns may share a name: they come one after the other, as in the file.
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
    """Whether a Parquet column of this type holds words or numbers, or lists of words or whole numbers."""
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
        return Column.of(["?"] * len(values))  # a label that nobody knows anything about is a label all the same
    if types.is_null(kind):
        return Column([""], np.zeros(len(values), np.int32))
    if isinstance(values, pyarrow.ChunkedArray):
        values = values.combine_chunks()
    if not isinstance(values, pyarrow.DictionaryArray):
        values = values.dictionary_encode()
    distinct = [_text(value) for value in values.dictionary.to_pylist()]
    codes = values.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False).astype(np.int32)
    # Distinct values may have the same text, and a dictionary may hold what no row has.
    merged: dict[str, int] = {}
    renumbered = np.array([merged.setdefault(text, len(merged)) for text in [*distinct, ""]], dtype=np.int32)
    return Column(list(merged), renumbered[codes]).take(np.arange(len(codes)))


def list_cell(value: Sequence[Any] | None) -> str:
    """The cell of a list, in JSON; blank for no list."""
    if value is None:
        return ""
    # A name may be anything; quoted, it is one name. Numbers stay numbers, so that a vector can be told.
    items = [item if isinstance(item, int) else str(item) for item in value if item is not None]
    return json.dumps(items, ensure_ascii=False)


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    # Whole numbers become floats as soon as a column has a gap.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

"""Read large CSV files that need no care: UTF-8 without quotes and empty lines, with as many cells in every row.

pyarrow reads such files several times as fast as Python's csv module. Every other file is left to that module, which
also says in which line something is wrong.
"""

import csv

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.tables.column import Column, ColumnBuilder

LARGE = 1 << 24
"""Minimum size of a large file, in bytes. Python reads smaller files in 2 seconds, and pyarrow takes about 80 MB."""


def read_plain(data: bytes, delimiter: str) -> tuple[list[Column], NDArray[np.int64]] | None:
    """Read the rows of a text in UTF-8.

    Returns:
        The columns, including any header, and the line of each row, from 1, int64 (n,). Rows of blank cells are left
        out. ``None`` if the file is small or needs care.
    """
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    if len(data) < LARGE or b'"' in data or data.count(b"\r") != data.count(b"\r\n"):
        return None
    first_end = data.find(b"\n")
    if first_end < 0 or data[start : start + 1] in (b"\n", b"\r") or b"\n\n" in data or b"\n\r" in data:
        return None
    width = data.count(delimiter.encode(), start, first_end) + 1
    if width < 2:
        return None
    import pyarrow
    from pyarrow import csv as arrow_csv

    names = [str(i) for i in range(width)]
    cells = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    builders = [ColumnBuilder() for _ in names]
    try:
        batches = arrow_csv.open_csv(
            pyarrow.BufferReader(pyarrow.py_buffer(data).slice(start)),
            arrow_csv.ReadOptions(column_names=names),
            arrow_csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, cells), check_utf8=False),
        )
        for batch in batches:
            for builder, column in zip(builders, batch.columns, strict=True):
                distinct = column.dictionary.to_pylist()
                if max(map(len, distinct), default=0) > csv.field_size_limit():
                    return None
                builder.add_coded(distinct, column.indices.to_numpy())
    except pyarrow.ArrowInvalid:
        return None  # The rows differ in their number of cells.
    columns = [builder.build() for builder in builders]
    blank = np.ones(len(columns[0]), dtype=bool)
    for column in columns:
        blank &= np.array([not value.strip() for value in column.values], dtype=bool)[column.codes]
        if not blank.any():
            return columns, np.arange(1, len(blank) + 1)
    rows = np.flatnonzero(~blank)
    return [column.take(rows) for column in columns], rows + 1

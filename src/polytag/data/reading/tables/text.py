"""CSV and TSV files: delimiters, quotes, encodings and lines."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.tables.column import Column, ColumnBuilder
from polytag.errors import DataError, counted
from polytag.files import csv_text

ROWS_AT_ONCE = 20_000
HEAD_BYTES = 1 << 18
"""How much of a file decides its delimiter: 256 KiB."""

OTHER_FILES = (
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook: save it as CSV (UTF-8)"),
    (b"%PDF", "a PDF: export the table as CSV"),
    (b"SQLite format 3", "a SQLite database: export the table as CSV"),
    (b"\x1f\x8b", "compressed: unpack it with gunzip"),
)
"""First bytes of files that are not text, and what to do with them."""


def read_text(path: Path) -> tuple[list[Column], NDArray[np.int64]]:
    """Read the rows of a CSV or TSV file that are not blank.

    Returns:
        The columns, a header's cells included, and int64 (n,) the line where each row begins, from 1.

    Raises:
        DataError: the file cannot be read or is not a table.
    """
    data = _read_bytes(path)
    head = data[:HEAD_BYTES].decode("utf-8-sig", errors="ignore")
    delimiter, skipped = _delimiter(head)
    builders: list[ColumnBuilder] = []
    lines: list[int] = []
    rows = _rows(path, data, delimiter)
    first: tuple[int, list[str]] | None = None
    try:
        for _ in range(skipped):
            next(rows)
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            if first is None:
                first = chunk[0]
                builders = [ColumnBuilder() for _ in first[1]]
            _check_width(path, chunk, first)
            lines += [line for line, _ in chunk]
            for builder, cells in zip(builders, zip(*(row for _, row in chunk), strict=True), strict=True):
                builder.add(cells)
    except UnicodeDecodeError:
        raise _not_utf8(path, data) from None
    if first is None:
        raise DataError(f"{path} is empty: expected a header, then one row for each image with its labels")
    # What polytag has quoted against spreadsheets that would run it as a formula comes back as it was.
    return [builder.build().map(csv_text) for builder in builders], np.array(lines, dtype=np.int64)


def _rows(path: Path, data: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the line where it begins."""
    line = 1
    try:
        reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=""), delimiter=delimiter)
        for row in reader:
            if any(cell.strip() for cell in row):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}; is a double quote left open there?") from None


def _check_width(path: Path, chunk: list[tuple[int, list[str]]], first: tuple[int, list[str]]) -> None:
    width = len(first[1])
    if width < 2:
        raise DataError(
            f"{path} has a single column: expected an image column and labels, separated by commas, tabs or semicolons"
        )
    for line, row in chunk:
        if len(row) != width:
            raise DataError(
                f"{path}, line {line}: {counted(len(row), 'cell')} where line {first[0]} has {width}; put cells that "
                "contain the delimiter into double quotes, or separate labels by '|'"
            )


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): name a CSV, TSV or Parquet file of images and labels"
        ) from None
    for magic, advice in OTHER_FILES:
        if data.startswith(magic):
            raise DataError(f"{path} is {advice}")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        found = "is UTF-16" if _looks_utf16(data) else f"is not a text file (NUL byte in line {line})"
        if not _looks_utf16(data) or data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path} {found}: expected CSV or TSV; export the table again as UTF-8 text")
        raise _not_utf8(path, data)
    if not re.search(rb'[^\s,;"]', data.removeprefix(b"\xef\xbb\xbf")):
        raise DataError(f"{path} is empty: expected a header, then one row for each image with its labels")
    return data


def _looks_utf16(data: bytes) -> bool:
    """UTF-16 announces itself by its first two bytes, or by a zero in every second one."""
    head = data[:400]
    return data[:2] in (b"\xff\xfe", b"\xfe\xff") or head.count(0) >= 0.4 * len(head) > 0


def _not_utf8(path: Path, data: bytes) -> DataError:
    try:
        data.decode("utf-8-sig")
        line = 1
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
    utf16 = _looks_utf16(data)
    found, encoding = ("UTF-16", "utf-16") if utf16 else (f"not UTF-8 (line {line})", "latin1")
    return DataError(f"{path} is {found}: save it as UTF-8, for instance with 'iconv -f {encoding} -t utf-8'")


def _delimiter(head: str) -> tuple[str, int]:
    """The delimiter that gives every row the same number of cells, and how many lines to skip before the table.

    Excel writes the delimiter into a first line of its own, ``sep=;``.
    """
    lines = [line for line in head.splitlines() if line.strip()][:200]
    if lines and (named := re.fullmatch(r'"?sep=(.)"?', lines[0].strip("\r\n "))):
        return named[1], 1
    best = ","
    most = 0.0
    for candidate in sorted((",", "\t", ";"), key=lines[0].find) if lines else ():
        # A cell too long to be read is reported, with its line, when the whole table is read.
        with suppress(csv.Error):
            widths = Counter(len(row) for row in csv.reader(lines, delimiter=candidate))
            width, rows = widths.most_common(1)[0]
            agreement = rows / sum(widths.values()) if width > 1 and candidate in lines[0] else 0.0
            if agreement > most:
                best, most = candidate, agreement
    return best, 0

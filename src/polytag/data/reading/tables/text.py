"""Read CSV and TSV files, and detect their delimiter and encoding."""

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
from polytag.data.reading.tables.plain_text import read_plain
from polytag.errors import DataError, counted
from polytag.files import csv_text

ROWS_AT_ONCE = 20_000
HEAD_BYTES = 1 << 18
"""Number of bytes at the start of a file that are used to detect the delimiter: 256 KiB."""

OTHER_FILES = (
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook: save it as CSV (UTF-8)"),
    (b"%PDF", "a PDF: export the table as CSV"),
    (b"SQLite format 3", "a SQLite database: export the table as CSV"),
    (b"\x1f\x8b", "compressed: unpack it with gunzip"),
)
"""First bytes of files that are not text, each with advice to the user."""


MIN_LETTERS = 0.8
"""Minimum fraction of letters among the non-ASCII characters if text is decoded with the right encoding."""

MAX_ACCENTED = 0.6
"""Maximum fraction of non-ASCII letters in words that contain any. Western words rarely have more, but Cyrillic or
Greek text that is decoded as Western consists only of such letters."""


def read_text(path: Path) -> tuple[list[Column], NDArray[np.int64], str | None]:
    """Read the non-blank rows of a CSV or TSV file.

    Returns:
        The columns, including any header; the line in which each row begins, from 1, int64 (n,); and a note about the
        encoding, or ``None`` for UTF-8.

    Raises:
        DataError: the file cannot be read or is not a table.
    """
    data = _read_bytes(path)
    encoding, note = _encoding(path, data)
    head = data[:HEAD_BYTES].decode(encoding, errors="ignore")
    delimiter, skipped = _delimiter(head)
    plain = read_plain(data, delimiter) if encoding == "utf-8-sig" and not skipped else None
    columns, lines = plain or _read_rows(path, data, delimiter, encoding, skipped)
    # This undoes the quoting that keeps spreadsheets from running cells written by polytag as formulas.
    return [column.map(csv_text) for column in columns], lines, note


def _read_rows(
    path: Path, data: bytes, delimiter: str, encoding: str, skipped: int
) -> tuple[list[Column], NDArray[np.int64]]:
    """Return the columns and the line of each row, after skipping some rows at the top."""
    builders: list[ColumnBuilder] = []
    lines = [np.zeros(0, np.int64)]
    rows = _rows(path, data, delimiter, encoding)
    first: tuple[int, list[str]] | None = None
    try:
        for _ in range(skipped):
            next(rows)
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            if first is None:
                first = chunk[0]
                builders = [ColumnBuilder() for _ in first[1]]
            _check_width(path, chunk, first)
            lines.append(np.array([line for line, _ in chunk]))
            for builder, cells in zip(builders, zip(*(row for _, row in chunk), strict=True), strict=True):
                builder.add(cells)
    except UnicodeDecodeError:
        raise _not_utf8(path, data) from None
    if first is None:
        raise DataError(f"{path} is empty: expected a header, then one row for each image with its labels")
    return [builder.build() for builder in builders], np.concatenate(lines)


def _rows(path: Path, data: bytes, delimiter: str, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each non-blank row with the line in which it begins."""
    line = 1
    try:
        reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding, newline=""), delimiter=delimiter)
        for row in reader:
            if any(map(str.strip, row)):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}; is a double quote missing there?") from None


def _check_width(path: Path, chunk: list[tuple[int, list[str]]], first: tuple[int, list[str]]) -> None:
    width = len(first[1])
    if width < 2:
        cell = chunk[-1][1][0]
        if cell[:1] == "{":
            raise DataError(f"{path} looks like JSON Lines: rename it to {path.stem}.jsonl")
        if len(cell.split()) > 2 and all(len(row[0].split()) > 2 for _, row in chunk[2:]):
            raise DataError(f"{path} separates its columns by blanks: separate them by commas, and check the header")
        raise DataError(
            f"{path} has a single column: expected an image column and labels, separated by commas, tabs or semicolons"
        )
    for line, row in chunk:
        if len(row) != width:
            raise DataError(
                f"{path}, line {line}: {counted(len(row), 'cell')}, but line {first[0]} has {width}. Put cells that "
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
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        found = (
            "is UTF-16 without a byte order mark"
            if _looks_utf16(data)
            else f"is not a text file (NUL byte in line {line})"
        )
        raise DataError(f"{path} {found}: expected CSV or TSV; export the table again as UTF-8 text")
    if not re.search(rb'[^\s,;"]', data.removeprefix(b"\xef\xbb\xbf")):
        raise DataError(f"{path} is empty: expected a header, then one row for each image with its labels")
    return data


def _encoding(path: Path, data: bytes) -> tuple[str, str | None]:
    """Return the encoding of a text, and a note unless it is UTF-8.

    Raises:
        DataError: the text is damaged, or its encoding cannot be detected.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            raise DataError(f"{path} is damaged UTF-16: save it as UTF-8 text") from None
        if "\0" in text:
            raise DataError(f"{path} is not a text file (NUL character): expected CSV or TSV")
        return "utf-16", f"{path.name} is UTF-16 text"
    if data.isascii():
        return "utf-8-sig", None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        example = _western_word(data)
        if example is None:
            raise _not_utf8(path, data) from None
        return "cp1252", f"{path.name} is not UTF-8: read as Windows-1252 (Western European), such as '{example}'"
    return "utf-8-sig", None


def _western_word(data: bytes) -> str | None:
    """Return an accented word from a text in Windows-1252, or ``None`` if this encoding is unlikely."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    if re.search(r"[\x00-\x08\x0e-\x1f\x7f]", text):
        return None
    odd = [character for character in text if character > "\x7f"]
    words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
    letters = sum(map(len, words))
    accented = sum(character > "\x7f" for word in words for character in word)
    if not words or accented < MIN_LETTERS * len(odd) or accented > MAX_ACCENTED * letters:
        return None
    return max(words, key=len)[:40]


def _looks_utf16(data: bytes) -> bool:
    """Return whether data look like UTF-16, which has a byte order mark or a zero in about every second byte."""
    head = data[:400]
    return data[:2] in (b"\xff\xfe", b"\xfe\xff") or head.count(0) >= 0.4 * len(head) > 0


def _not_utf8(path: Path, data: bytes) -> DataError:
    try:
        data.decode("utf-8-sig")
        line = 1
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
    return DataError(
        f"{path} is not UTF-8 (line {line}), nor Western European text: save it as UTF-8, for instance with "
        "'iconv -f cp1251 -t utf-8'"
    )


def _delimiter(head: str) -> tuple[str, int]:
    """Return the delimiter that gives most rows the same number of cells, and how many lines to skip before the table.

    Excel may write the delimiter into a separate first line, such as ``sep=;``.
    """
    lines = [line for line in head.splitlines() if line.strip()][:200]
    if lines and (named := re.fullmatch(r'"?sep=(.)"?', lines[0].strip("\r\n "))):
        return named[1], 1
    best = ","
    most = 0.0
    for candidate in sorted((",", "\t", ";"), key=lines[0].find) if lines else ():
        # Oversized cells are reported with their line when the whole table is read.
        with suppress(csv.Error):
            widths = Counter(len(row) for row in csv.reader(lines, delimiter=candidate))
            width, rows = widths.most_common(1)[0]
            agreement = rows / sum(widths.values()) if width > 1 and candidate in lines[0] else 0.0
            if agreement > most:
                best, most = candidate, agreement
    return best, 0

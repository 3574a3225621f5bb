"""CSV, TSV and Parquet files → header and rows of text, before anyone knows what a column means.

Text files come in several encodings, with several delimiters, two header lines, headers repeated where
tables were pasted together; Parquet comes with types. `table.py` need not know of any of that.
"""

import csv
import io
import os
import re
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polytag.errors import DataError, counted, listed
from polytag.photos.kinds import EXTENSIONS

IMAGE_HEADERS = {"image", "images", "imagename", "imageid", "imagepath", "filename", "filenames", "filepath", "file"}
IMAGE_HEADERS |= {"path", "photo", "photos", "id"}
NOTE_HEADERS = {"reason", "reasons", "note", "notes", "comment", "comments"}
PARQUET_ENDINGS = (".parquet", ".pq")
MAX_HEADER_LINES = 3


@dataclass(frozen=True)
class Cells:
    """A table as text.

    Attributes:
        header: the columns' names, stripped of blanks.
        rows: the cells below, as they are in the file.
        lines: each row's place in the file, from 1.
        image_index: the column that names the images.
        repeats: how many repeated header lines were skipped.
        place: what `lines` counts, "line" or "row".
        lists: for columns of lists of names (Parquet), the lists; their cells in `rows` only say what is there.
    """

    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    image_index: int
    repeats: int = 0
    place: str = "line"
    lists: dict[int, list[list[str]]] = field(default_factory=dict)


def read_cells(path: Path, image_column: str | None = None) -> Cells:
    """Read a file's cells and find its image column.

    Raises:
        DataError: it cannot be read, or has no image column, or no rows.
    """
    if path.suffix.lower() in PARQUET_ENDINGS:
        return _parquet_cells(path, image_column)
    rows, lines = _text_rows(path)
    top = [[" ".join(cell.split()) for cell in row] for row in rows[:MAX_HEADER_LINES]]
    # The first line, which may be a header, tells nothing about what a column holds.
    shares = _shares(rows[1:] or rows, top[0])
    image_index, header_lines = _image_column(path, top, shares, image_column)
    if shares[image_index] >= 0.5:
        # A header's cell has no ending as a file has it, be it one that is no image's.
        cells = [row[image_index].strip() for row in rows]
        data = (i for i, cell in enumerate(cells) if _looks_like_image(cell) or (i and Path(cell).suffix))
        header_lines = 1 if plain(cells[0]) in IMAGE_HEADERS else next(data, len(rows))
        if header_lines > MAX_HEADER_LINES:
            raise DataError(
                f"{path}, line {lines[MAX_HEADER_LINES]}: '{cells[MAX_HEADER_LINES]}' does not look like an image's "
                f"name: expected at most {MAX_HEADER_LINES} header lines, then one row for each image"
            )
    header = top[header_lines - 1] if header_lines else [f"column {i + 1}" for i in range(len(rows[0]))]

    def repeats_header(row: list[str]) -> bool:
        # Tables that were pasted together repeat their header further down.
        if shares[image_index] < 0.5:
            return [" ".join(cell.split()) for cell in row] == header
        return reads_as_header(row[image_index])

    data_rows = [i for i in range(header_lines, len(rows)) if not repeats_header(rows[i])]
    if not data_rows:
        raise DataError(f"{path} has a header and no rows: expected one row for each image")
    repeats = len(rows) - header_lines - len(data_rows)
    return Cells(header, [rows[i] for i in data_rows], [lines[i] for i in data_rows], image_index, repeats)


def plain(header: str) -> str:
    """A header's leading word in lower case without blanks and underscores: " Classes(a, b)" → "classes"."""
    return re.sub(r"[\s_\-]", "", re.split(r"[(\[{:]", header)[0]).lower()


def reads_as_header(image: str) -> bool:
    """Whether an image's cell below the header would be taken for a header repeated there."""
    return not _looks_like_image(image) and plain(image) in IMAGE_HEADERS


def column_called(header: list[str], name: str, path: Path, flag: str) -> int:
    """The column of this name, which the user gave with the flag."""
    for i, cell in enumerate(header):
        if cell.strip().lower() == name.strip().lower():
            return i
    raise DataError(f"{path} has no column '{name}' ({flag}); its columns are {listed(header, 20)}")


def _looks_like_image(cell: str) -> bool:
    return os.path.splitext(cell.strip())[1].lower() in EXTENSIONS


def _shares(rows: list[list[str]], header: list[str]) -> list[float]:
    """For each column the share of cells that look like images; a remark that ends with a photo's name is none."""
    return [
        0.0 if plain(header[i]) in NOTE_HEADERS else float(np.mean([_looks_like_image(row[i]) for row in rows]))
        for i in range(len(header))
    ]


def _image_column(path: Path, top: list[list[str]], shares: list[float], image_column: str | None) -> tuple[int, int]:
    """The column that names the images, and the number of the line that its header stands in."""
    if image_column is not None:
        wanted = " ".join(image_column.split()).lower()
        found = [(i, n) for n, row in enumerate(top, start=1) for i, cell in enumerate(row) if cell.lower() == wanted]
        return found[0] if found else (column_called(top[0], image_column, path, "--image-column"), 1)
    if max(shares) >= 0.5:
        return int(np.argmax(shares)), 1
    image_index = next((i for i, cell in enumerate(top[0]) if plain(cell) in IMAGE_HEADERS), -1)
    if image_index < 0:
        raise DataError(f"{path} has no column of image names (found: {listed(top[0])}): name it with --image-column")
    return image_index, 1


def _text_rows(path: Path) -> tuple[list[list[str]], list[int]]:
    """The rows of a CSV or TSV file that are not blank, and their lines."""
    text = _read_text(path)
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}; is a double quote left open there?") from None
    width = len(rows[0])
    if width < 2:
        raise DataError(
            f"{path} has a single column: expected an image column and labels, separated by commas, tabs or semicolons"
        )
    for row, number in zip(rows, lines, strict=True):
        if len(row) != width:
            raise DataError(
                f"{path}, line {number}: {counted(len(row), 'cell')} where line {lines[0]} has {width}; put cells that "
                "contain the delimiter into double quotes, or separate names by '|'"
            )
    return rows, lines


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): name a CSV, TSV or Parquet file of images and labels"
        ) from None
    # UTF-16 announces itself by its first two bytes, or by a zero in every second one.
    utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[:400].count(0) >= 0.4 * len(data[:400]) > 0
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        found, encoding = ("UTF-16", "utf-16") if utf16 else (f"not UTF-8 (line {line})", "latin1")
        raise DataError(
            f"{path} is {found}: save it as UTF-8, for instance with 'iconv -f {encoding} -t utf-8'"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        found = "is UTF-16" if utf16 else f"is not a text file (NUL byte in line {line})"
        raise DataError(f"{path} {found}: expected CSV or TSV; export the table again as UTF-8 text")
    if not re.search(r'[^\s,;"]', text):
        raise DataError(f"{path} is empty: expected a header, then one row for each image with its labels")
    return text


def _delimiter(text: str) -> str:
    """The candidate that gives every row the same number of cells; of equals the header's first."""
    head = [line for line in text.splitlines() if line.strip()][:200]
    best = ","
    most = 0.0
    for candidate in sorted((",", "\t", ";"), key=head[0].find):
        # A cell too long to be read is reported, with its line, when the whole table is.
        with suppress(csv.Error):
            widths = Counter(len(row) for row in csv.reader(head, delimiter=candidate))
            width, rows = widths.most_common(1)[0]
            agreement = rows / sum(widths.values()) if width > 1 and candidate in head[0] else 0.0
            if agreement > most:
                best, most = candidate, agreement
    return best


def _parquet_cells(path: Path, image_column: str | None) -> Cells:
    import pyarrow
    from pyarrow import types

    try:
        columns = _parquet_columns(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{path} cannot be read ({reason}): expected a Parquet file of images and labels") from None
    n = len(columns[0][2]) if columns else 0
    if not n or len(columns) < 2:
        raise DataError(
            f"{path} has {counted(n, 'row')} and {counted(len(columns), 'column')}: expected an image column, labels "
            "and one row for each image"
        )
    lists: dict[int, list[list[str]]] = {}
    texts: list[list[str]] = []
    for i, (_, kind, values) in enumerate(columns):
        if types.is_list(kind) or types.is_large_list(kind):
            names = [[" ".join(str(name).split()) for name in value or () if name is not None] for value in values]
            lists[i] = [list(dict.fromkeys(name for name in row if name)) for row in names]
            values = ["|".join(row) for row in lists[i]]
        elif (types.is_integer(kind) or types.is_boolean(kind)) and all(value is None for value in values):
            values = ["?"] * n  # a label that nobody knows anything about is a label all the same
        texts.append([_text(value) for value in values])
    header = [" ".join(name.split()) for name, _, _ in columns]
    rows = [list(row) for row in zip(*texts, strict=True)]
    image_index, _ = _image_column(path, [header], _shares(rows, header), image_column)
    return Cells(header, rows, list(range(1, n + 1)), image_index, place="row", lists=lists)


def _parquet_columns(path: Path) -> list[tuple[str, Any, list[Any]]]:
    """Name, type and values of each column; what cannot name or tell anything comes as a column of nothing."""
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
    return [
        (schema.field(i).name, schema.field(i).type, values[i].to_pylist())
        if i in readable
        else (schema.field(i).name, pyarrow.null(), [None] * table.num_rows)
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


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    # Whole numbers become floats as soon as a column has a gap.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

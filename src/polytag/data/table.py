"""What the columns of a table of labels mean: image, names, 0/1 columns, split.

Real tables come with odd headers, two header lines, several separators and stray blanks. The columns are
told apart by their cells first and by their headers second, and the outcome is said in one sentence.
"""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.data.images import EXTENSIONS
from polytag.errors import DataError, counted, listed

IMAGE_HEADERS = {"image", "images", "imagename", "imageid", "imagepath", "filename", "filenames", "filepath", "file"}
IMAGE_HEADERS |= {"path", "photo", "photos", "id"}
LABEL_HEADERS = {"label", "labels", "class", "classes", "tag", "tags", "category", "categories", "names", "targets"}
SPLIT_HEADERS = {"split", "part", "subset", "set", "partition"}
PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
INDICATORS = {
    "1": 1,
    "1.0": 1,
    "true": 1,
    "0": 0,
    "0.0": 0,
    "false": 0,
    "-1": -1,
    "-1.0": -1,
    "?": -1,
    "": -1,
    "nan": -1,
}
MAX_HEADER_LINES = 3


@dataclass(frozen=True)
class Table:
    """A table of labels, row by row as in the file.

    Attributes:
        images: the image cell of each row.
        lines: each row's line number in the file, from 1.
        targets: int8 (rows, k): 1, 0 or -1 (unknown); 1 where names and 0/1 columns disagree.
        disagreements: bool (rows, k): where names and 0/1 columns disagree.
        labels: the k names, in the file's order.
        parts: the part of each row where the table has a split column, else ``None``.
        recognised: what was recognised, in one sentence.
    """

    images: list[str]
    lines: list[int]
    targets: NDArray[np.int8]
    disagreements: NDArray[np.bool_]
    labels: tuple[str, ...]
    parts: list[str] | None
    recognised: str


def read_table(path: Path, image_column: str | None = None, label_column: str | None = None) -> Table:
    """Read a CSV or TSV file and tell its columns apart.

    Raises:
        DataError: it cannot be read or understood; the message says what was expected and what to do.
    """
    header, rows, lines, image_index = _header_and_rows(path, image_column)
    columns = [[row[i].strip() for row in rows] for i in range(len(header))]
    images = columns[image_index]
    for line, image in zip(lines, images, strict=True):
        if not image:
            raise DataError(f"{path.name}, line {line}: the image cell (column '{header[image_index]}') is empty")

    others = [i for i in range(len(header)) if i != image_index and any(columns[i])]
    split_index = next((i for i in others if _is_split(header[i], columns[i])), None)
    others = [i for i in others if i != split_index]
    named = None if label_column is None else _column_called(header, label_column, path, "--label-column")
    indicators = [i for i in others if i != named and header[i] and _is_indicator(header[i], columns[i], lines, path)]
    texts = [i for i in others if i not in indicators]

    text_index = named if named is not None else _names_column(header, columns, texts, indicators, path)
    targets, disagreements, labels, form = _targets(path, header, columns, indicators, text_index, lines)
    used = {image_index, split_index, text_index, *(indicators if "0/1" in form else [])}
    ignored = [header[i] or f"column {i + 1}" for i in others if i not in used]
    recognised = f"{path.name}: images in column '{header[image_index]}', {form}"
    if split_index is not None:
        recognised += f", split in column '{header[split_index]}'"
    if ignored:
        recognised += f"; not used: {listed(ignored)}"
    parts = None if split_index is None else [PART_NAMES[cell.lower()] for cell in columns[split_index]]
    return Table(images, lines, targets, disagreements, labels, parts, recognised)


def _header_and_rows(path: Path, image_column: str | None) -> tuple[list[str], list[list[str]], list[int], int]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not UTF-8 (line {line}): save it as UTF-8, for instance with 'iconv -f latin1 -t utf-8'"
        ) from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): name a CSV or TSV file of images and labels"
        ) from None
    if not text.strip():
        raise DataError(f"{path} is empty: expected an image column and labels")
    if "\0" in text:
        raise DataError(f"{path} is not a text file: expected CSV or TSV")

    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}") from None
    width = len(rows[0])
    if width < 2:
        raise DataError(
            f"{path} has a single column: expected an image column and labels, separated by commas, tabs or semicolons"
        )
    for row, number in zip(rows, lines, strict=True):
        if len(row) != width:
            raise DataError(
                f"{path}, line {number}: {len(row)} cells where line {lines[0]} has {width}; put cells that contain "
                "the delimiter into double quotes, or separate names by '|'"
            )

    def looks_like_image(cell: str) -> bool:
        return Path(cell.strip()).suffix.lower() in EXTENSIONS

    shares = [np.mean([looks_like_image(row[i]) for row in rows]) for i in range(width)]
    if image_column is not None:
        first = [cell.strip() for cell in rows[0]]
        image_index = _column_called(first, image_column, path, "--image-column")
    elif max(shares) >= 0.5:
        image_index = int(np.argmax(shares))
    else:
        image_index = next((i for i, cell in enumerate(rows[0]) if _plain(cell) in IMAGE_HEADERS), -1)
        if image_index < 0:
            raise DataError(
                f"{path} has no column of image names (found: {listed([cell.strip() for cell in rows[0]])}): "
                "name it with --image-column"
            )
    header_lines = 1
    if shares[image_index] >= 0.5:
        # Tables that were pasted together repeat their header further down.
        data = [
            i < MAX_HEADER_LINES or looks_like_image(row[image_index]) or _plain(row[image_index]) not in IMAGE_HEADERS
            for i, row in enumerate(rows)
        ]
        rows, lines = list(compress(rows, data)), list(compress(lines, data))
        header_lines = next((i for i, row in enumerate(rows) if looks_like_image(row[image_index])), len(rows))
        if header_lines > MAX_HEADER_LINES:
            raise DataError(f"{path}, line {lines[0]}: '{rows[0][image_index]}' does not look like an image's name")
    if header_lines == 0:
        header = [f"column {i + 1}" for i in range(width)]
    else:
        header = [" ".join(cell.split()) for cell in rows[header_lines - 1]]
    if len(rows) == header_lines:
        raise DataError(f"{path} has a header and no rows: expected one row for each image")
    return header, rows[header_lines:], lines[header_lines:], image_index


def _delimiter(text: str) -> str:
    """The candidate that gives every row the same number of cells; the header must contain it."""
    head = text.splitlines()[:200]
    best = ","
    most = 0.0
    for candidate in (",", "\t", ";"):
        widths = Counter(len(row) for row in csv.reader(head, delimiter=candidate) if row)
        width, rows = widths.most_common(1)[0]
        agreement = rows / sum(widths.values()) if width > 1 and candidate in head[0] else 0.0
        if agreement > most:
            best, most = candidate, agreement
    return best


def _plain(header: str) -> str:
    """A header's leading word in lower case without blanks and underscores: " Classes(a, b)" → "classes"."""
    return re.sub(r"[\s_\-]", "", re.split(r"[(\[{:]", header)[0]).lower()


def _column_called(header: list[str], name: str, path: Path, flag: str) -> int:
    for i, cell in enumerate(header):
        if cell.strip().lower() == name.strip().lower():
            return i
    raise DataError(f"{path} has no column '{name}' ({flag}); its columns are {listed(header, 20)}")


def _is_split(header: str, cells: list[str]) -> bool:
    return _plain(header) in SPLIT_HEADERS and all(cell.lower() in PART_NAMES for cell in cells)


def _is_indicator(header: str, cells: list[str], lines: list[int], path: Path) -> bool:
    values = [cell.lower() in INDICATORS for cell in cells]
    if all(values):
        return True
    filled = [i for i, cell in enumerate(cells) if cell]
    wrong = [i for i in filled if not values[i]]
    if len(wrong) <= 0.1 * len(filled):
        raise DataError(
            f"{path.name}, line {lines[wrong[0]]}: '{cells[wrong[0]]}' in the 0/1 column '{header}': "
            "expected 0, 1, or for unknown -1, ? or nothing"
        )
    return False


def _names_column(
    header: list[str], columns: list[list[str]], texts: list[int], indicators: list[int], path: Path
) -> int | None:
    called = [i for i in texts if _plain(header[i]) in LABEL_HEADERS]
    if called:
        return called[0]
    if indicators:
        labels = {header[i] for i in indicators}
        words = {i: {w for cell in columns[i] for w in re.split(r"[|,;\s]+", cell) if w} for i in texts}
        return next((i for i in texts if words[i] and len(words[i] & labels) >= 0.5 * len(words[i])), None)
    if len(texts) == 1:
        return texts[0]
    if not texts:
        raise DataError(f"{path} has an image column but no labels: expected a column of names or 0/1 columns")
    raise DataError(
        f"{path} has several columns that could hold the labels ({listed([header[i] for i in texts])}): "
        "name one with --label-column"
    )


def _targets(
    path: Path,
    header: list[str],
    columns: list[list[str]],
    indicators: list[int],
    text_index: int | None,
    lines: list[int],
) -> tuple[NDArray[np.int8], NDArray[np.bool_], tuple[str, ...], str]:
    """Targets, disagreements, labels and the form in words."""
    n = len(lines)
    from_columns: NDArray[np.int8] | None = None
    if indicators:
        labels = tuple(header[i] for i in indicators)
        twice = [label for label, count in Counter(labels).items() if count > 1]
        if twice:
            raise DataError(f"{path} has more than one column called {listed(twice)}: label names must differ")
        from_columns = np.array([[INDICATORS[c.lower()] for c in columns[i]] for i in indicators], dtype=np.int8).T
        if text_index is None:
            form = f"a 0/1 column for each of {counted(len(labels), 'label')}"
            return from_columns, np.zeros((n, len(labels)), dtype=bool), labels, form

    assert text_index is not None
    sets, separator = split_names(columns[text_index], set(labels) if indicators else set())
    vocabulary = list(dict.fromkeys(name for names in sets for name in names))
    if not vocabulary:
        raise DataError(f"{path}: the column '{header[text_index]}' names no label at all")
    both = from_columns is not None and 2 * len(set(vocabulary) & set(labels)) >= len(vocabulary)
    if not both:
        labels = tuple(vocabulary)
    place = {label: i for i, label in enumerate(labels)}
    from_names = np.zeros((n, len(labels)), dtype=np.int8)
    for row, names in enumerate(sets):
        from_names[row, [place[name] for name in names if name in place]] = 1
    form = f"names in column '{header[text_index]}' separated by {separator}"
    if not both:
        return from_names, np.zeros(from_names.shape, dtype=bool), labels, f"{form} ({counted(len(labels), 'label')})"

    assert from_columns is not None
    disagreements = (from_columns >= 0) & (from_columns != from_names)
    count = int(disagreements.any(axis=1).sum())
    form += f" and a 0/1 column for each of {counted(len(labels), 'label')} ({counted(count, 'row')} disagree)"
    extra = [name for name in vocabulary if name not in place]
    if extra:
        form += f", names without a column ignored: {listed(extra)}"
    return np.maximum(from_columns, from_names), disagreements, labels, form


def split_names(cells: list[str], vocabulary: set[str]) -> tuple[list[list[str]], str]:
    """Split cells such as "dog|cat" or "sitar tabla, harmonium" into names.

    ``|``, ``;`` and ``,`` always separate. Blanks separate only where that is plainly meant, since
    "traffic light" is one name: when the words of most pieces also stand alone elsewhere, or are in the
    vocabulary.

    Args:
        cells: the column.
        vocabulary: names known beforehand, may be empty.

    Returns:
        The names of each cell, each once, in the cell's order; and the separators in words.
    """
    marks = next((mark for mark in ("|", ";", ",") if any(mark in cell for cell in cells)), None)
    pieces = [[" ".join(p.split()) for p in (cell.split(marks) if marks else [cell])] for cell in cells]
    distinct = {piece for row in pieces for piece in row if piece}
    alone = vocabulary or {piece for piece in distinct if " " not in piece}
    several = [piece for piece in distinct if " " in piece and piece not in vocabulary]
    blanks = bool(several) and 2 * sum(any(w in alone for w in piece.split()) for piece in several) >= len(several)

    def names(row: list[str]) -> list[str]:
        parts = [w for p in row for w in (p.split() if blanks and p not in vocabulary else [p]) if w]
        return list(dict.fromkeys(parts))

    said = [f"'{marks}'"] if marks else []
    if blanks:
        said.append("blanks")
    return [names(row) for row in pieces], " and ".join(said) or "nothing (one name a cell)"

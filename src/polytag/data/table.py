"""What the columns of a table of labels mean: image, names, 0/1 columns, split.

Real tables come with odd headers, two header lines, several separators and stray blanks. The columns are
told apart by their cells first and by their headers second, and the outcome is said in one sentence.
"""

import csv
import io
import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
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
    header, rows, lines, image_index, repeats = _header_and_rows(path, image_column)
    images = [row[image_index].strip() for row in rows]
    for line, image in zip(lines, images, strict=True):
        if not image or len(image.splitlines()) > 1:
            state = "holds a line break (is a double quote left open?)" if image else "is empty"
            raise DataError(
                f"{path.name}, line {line}: the image cell (column '{header[image_index]}') {state}: "
                "expected the name of one image; write it or take the row out"
            )

    columns = [[" ".join(row[i].split()) for row in rows] for i in range(len(header))]
    named = None if label_column is None else _column_called(header, label_column, path, "--label-column")
    if named == image_index:
        raise DataError(f"{path}: the column '{header[named]}' names the images, so it cannot be --label-column too")
    others = [i for i in range(len(header)) if i != image_index and any(columns[i])]
    split_index = next((i for i in others if i != named and _is_split(header[i], columns[i], lines, path)), None)
    others = [i for i in others if i != split_index]
    indicators = [i for i in others if i != named and header[i] and _is_indicator(header[i], columns[i], lines, path)]
    texts = [i for i in others if i not in indicators]

    text_index = named if named is not None else _names_column(header, columns, texts, indicators, path)
    targets, disagreements, labels, form = _targets(path, header, columns, indicators, text_index, lines)
    used = {image_index, split_index, text_index, *(indicators if "0/1" in form else [])}
    ignored = [
        header[i] or f"column {i + 1}" for i in range(len(header)) if i not in used and (header[i] or i in others)
    ]
    recognised = f"{path.name}: images in column '{header[image_index]}', {form}"
    if split_index is not None:
        recognised += f", split in column '{header[split_index]}'"
    if repeats:
        recognised += f"; {counted(repeats, 'repeated header line')} skipped"
    if ignored:
        recognised += f"; not used: {listed(ignored)}"
    parts = None if split_index is None else [PART_NAMES[cell.lower()] for cell in columns[split_index]]
    return Table(images, lines, targets, disagreements, labels, parts, recognised)


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): name a CSV or TSV file of images and labels"
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


def _header_and_rows(path: Path, image_column: str | None) -> tuple[list[str], list[list[str]], list[int], int, int]:
    """The header, the rows, their lines, the image column, and how many repeated header lines were skipped."""
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

    shares = [np.mean([_looks_like_image(row[i]) for row in rows]) for i in range(width)]
    top = [[" ".join(cell.split()) for cell in row] for row in rows[:MAX_HEADER_LINES]]
    header_lines = 1
    if image_column is not None:
        wanted = " ".join(image_column.split()).lower()
        found = [(i, n) for n, row in enumerate(top, start=1) for i, cell in enumerate(row) if cell.lower() == wanted]
        if not found:
            _column_called(top[0], image_column, path, "--image-column")
        image_index, header_lines = found[0]
    elif max(shares) >= 0.5:
        image_index = int(np.argmax(shares))
    else:
        image_index = next((i for i, cell in enumerate(top[0]) if _plain(cell) in IMAGE_HEADERS), -1)
        if image_index < 0:
            raise DataError(
                f"{path} has no column of image names (found: {listed(top[0])}): name it with --image-column"
            )
    if shares[image_index] >= 0.5:
        # A header's cell has no ending as a file has it, be it one that is no image's.
        cells = [row[image_index].strip() for row in rows]
        data = (i for i, cell in enumerate(cells) if _looks_like_image(cell) or (i and Path(cell).suffix))
        header_lines = next(data, len(rows))
        if header_lines > MAX_HEADER_LINES:
            raise DataError(
                f"{path}, line {lines[MAX_HEADER_LINES]}: '{cells[MAX_HEADER_LINES]}' does not look like an image's "
                f"name: expected at most {MAX_HEADER_LINES} header lines, then one row for each image"
            )
    header = top[header_lines - 1] if header_lines else [f"column {i + 1}" for i in range(width)]

    def repeats_header(row: list[str]) -> bool:
        # Tables that were pasted together repeat their header further down.
        if shares[image_index] < 0.5:
            return [" ".join(cell.split()) for cell in row] == header
        return not _looks_like_image(row[image_index]) and _plain(row[image_index]) in IMAGE_HEADERS

    data_rows = [i for i in range(header_lines, len(rows)) if not repeats_header(rows[i])]
    if not data_rows:
        raise DataError(f"{path} has a header and no rows: expected one row for each image")
    repeats = len(rows) - header_lines - len(data_rows)
    return header, [rows[i] for i in data_rows], [lines[i] for i in data_rows], image_index, repeats


def _looks_like_image(cell: str) -> bool:
    return os.path.splitext(cell.strip())[1].lower() in EXTENSIONS


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


def _plain(header: str) -> str:
    """A header's leading word in lower case without blanks and underscores: " Classes(a, b)" → "classes"."""
    return re.sub(r"[\s_\-]", "", re.split(r"[(\[{:]", header)[0]).lower()


def _column_called(header: list[str], name: str, path: Path, flag: str) -> int:
    for i, cell in enumerate(header):
        if cell.strip().lower() == name.strip().lower():
            return i
    raise DataError(f"{path} has no column '{name}' ({flag}); its columns are {listed(header, 20)}")


def _is_split(header: str, cells: list[str], lines: list[int], path: Path) -> bool:
    if _plain(header) not in SPLIT_HEADERS:
        return False
    wrong = [i for i, cell in enumerate(cells) if cell.lower() not in PART_NAMES]
    if wrong and 2 * len(wrong) < len(cells):
        raise DataError(
            f"{path.name}, line {lines[wrong[0]]}: '{cells[wrong[0]]}' in the split column '{header}': "
            "expected train, validation or test"
        )
    return not wrong


def _is_indicator(header: str, cells: list[str], lines: list[int], path: Path) -> bool:
    values = [cell.lower() in INDICATORS for cell in cells]
    if all(values):
        return True
    filled = [i for i, cell in enumerate(cells) if cell]
    wrong = [i for i in filled if not values[i]]
    if 2 * len(wrong) < len(filled) and _plain(header) not in LABEL_HEADERS:
        raise DataError(
            f"{path.name}, line {lines[wrong[0]]}: '{cells[wrong[0]]}' in the 0/1 column '{header}': expected 0, 1, or "
            "for unknown -1, ? or nothing; mend it, or take the column out if it is no label"
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
    return np.where(from_names == 1, np.int8(1), from_columns), disagreements, labels, form


def split_names(cells: list[str], vocabulary: set[str]) -> tuple[list[list[str]], str]:
    """Split cells such as "dog|cat" or "sitar tabla, harmonium" into names.

    The first of ``|``, ``;`` and ``,`` that occurs separates. Blanks separate only where that is plainly
    meant, since "traffic light" is one name: when the words of most pieces also stand alone elsewhere, or
    are in the vocabulary; and never beside ``|`` or ``;``.

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
    # Known names vouch for a piece by one word, since names may lack a column; guessed ones only by every word.
    enough = any if vocabulary else all
    plain = [piece for piece in several if enough(word in alone for word in piece.split())]
    blanks = marks not in ("|", ";") and bool(several) and 2 * len(plain) >= len(several)

    def names(row: list[str]) -> list[str]:
        parts = [w for p in row for w in (p.split() if blanks and p not in vocabulary else [p]) if w]
        return list(dict.fromkeys(parts))

    said = [f"'{marks}'"] if marks else []
    if blanks:
        said.append("blanks")
    return [names(row) for row in pieces], " and ".join(said) or "nothing (one name a cell)"

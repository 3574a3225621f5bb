"""What the columns of a table of labels mean: image, names, 0/1 columns, split, groups.

Real tables come with odd headers, two header lines, several separators and stray blanks. The columns are
told apart by their cells first and by their headers second, and the outcome is said in one sentence.
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.cells import NOTE_HEADERS, Cells, column_called, plain, read_cells
from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import PART_NAMES, Table
from polytag.errors import DataError, counted, listed

LABEL_HEADERS = {"label", "labels", "class", "classes", "tag", "tags", "category", "categories", "names", "targets"}
SPLIT_HEADERS = {"split", "part", "subset", "set", "partition"}
GROUP_HEADERS = {"group", "groups", "groupid"}
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


def read_table(path: Path, options: ReadOptions | None = None) -> Table:
    """Read a CSV, TSV or Parquet file and tell its columns apart.

    Raises:
        DataError: it cannot be read or understood; the message says what was expected and what to do.
    """
    options = options or ReadOptions()
    return table_of_cells(path, read_cells(path, options.image_column), options)


def table_of_cells(path: Path, cells: Cells, options: ReadOptions) -> Table:
    """Tell the columns of a table apart, whatever file or files its cells come from.

    Raises:
        DataError: it cannot be understood; the message says what was expected and what to do.
    """
    label_column = options.label_column[0] if options.label_column else None
    header, rows, lines, image_index = cells.header, cells.rows, cells.lines, cells.image_index
    images = [row[image_index].strip() for row in rows]
    for line, image in zip(lines, images, strict=True):
        if not image or len(image.splitlines()) > 1:
            state = "holds a line break (is a double quote left open?)" if image else "is empty"
            raise DataError(
                f"{path.name}, {cells.place} {line}: the image cell (column '{header[image_index]}') {state}: "
                "expected the name of one image; write it or take the row out"
            )

    columns = [[" ".join(row[i].split()) for row in rows] for i in range(len(header))]
    named = None if label_column is None else column_called(header, label_column, path, "--label-column")
    if named == image_index:
        raise DataError(f"{path}: the column '{header[named]}' names the images, so it cannot be --label-column too")
    others = [i for i in range(len(header)) if i != image_index and any(columns[i])]
    free = [i for i in others if i != named]
    split_index = next((i for i in free if _is_split(header[i], columns[i], cells, path)), None)
    group_index = next((i for i in free if _speaks_of(GROUP_HEADERS, header[i], columns[i])), None)
    remarks = [i for i in free if _speaks_of(NOTE_HEADERS, header[i], columns[i])]
    free = [i for i in free if i not in (split_index, group_index, *remarks)]
    indicators = [
        i for i in free if header[i] and i not in cells.lists and _is_indicator(header[i], columns[i], cells, path)
    ]
    texts = [i for i in others if i == named or (i in free and i not in indicators)]

    text_index = named if named is not None else _names_column(header, columns, texts, indicators, cells, path)
    targets, disagreements, labels, form = _targets(path, cells, columns, indicators, text_index)
    used = {image_index, split_index, group_index, text_index, *(indicators if "0/1" in form else [])}
    ignored = [
        header[i] or f"column {i + 1}" for i in range(len(header)) if i not in used and (header[i] or i in others)
    ]
    recognised = f"{path.name}: {counted(len(rows), 'row')}, images in column '{header[image_index]}', {form}"
    if split_index is not None:
        recognised += f", split in column '{header[split_index]}'"
    if group_index is not None:
        recognised += f", groups in column '{header[group_index]}'"
    if cells.repeats:
        recognised += f"; {counted(cells.repeats, 'repeated header line')} skipped"
    if ignored:
        recognised += f"; not used: {listed(ignored)}"
    return Table(
        images,
        lines,
        targets,
        disagreements,
        labels,
        path.name,
        recognised,
        parts=None if split_index is None else [PART_NAMES[cell.lower()] for cell in columns[split_index]],
        groups=None if group_index is None else columns[group_index],
        place=cells.place,
        # A table that is a link is at home where the link is.
        homes=(path.parent.resolve(),),
    )


def _speaks_of(headers: set[str], header: str, cells: list[str]) -> bool:
    """Whether a column is called so; one of zeros and ones is a label whatever it is called."""
    return plain(header) in headers and not all(cell.lower() in INDICATORS for cell in cells)


def _is_split(header: str, column: list[str], cells: Cells, path: Path) -> bool:
    if plain(header) not in SPLIT_HEADERS:
        return False
    wrong = [i for i, cell in enumerate(column) if cell.lower() not in PART_NAMES]
    if wrong and 2 * len(wrong) < len(column):
        raise DataError(
            f"{path.name}, {cells.place} {cells.lines[wrong[0]]}: '{column[wrong[0]]}' in the split column '{header}': "
            "expected train, validation or test"
        )
    return not wrong


def _is_indicator(header: str, column: list[str], cells: Cells, path: Path) -> bool:
    values = [cell.lower() in INDICATORS for cell in column]
    if all(values):
        return True
    filled = [i for i, cell in enumerate(column) if cell]
    wrong = [i for i in filled if not values[i]]
    if 2 * len(wrong) < len(filled) and plain(header) not in LABEL_HEADERS:
        raise DataError(
            f"{path.name}, {cells.place} {cells.lines[wrong[0]]}: '{column[wrong[0]]}' in the 0/1 column '{header}': "
            "expected 0, 1, or for unknown -1, ? or nothing; mend it, or take the column out if it is no label"
        )
    return False


def _names_column(
    header: list[str],
    columns: list[list[str]],
    texts: list[int],
    indicators: list[int],
    cells: Cells,
    path: Path,
) -> int | None:
    called = [i for i in texts if plain(header[i]) in LABEL_HEADERS] or [i for i in texts if i in cells.lists]
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
    path: Path, cells: Cells, columns: list[list[str]], indicators: list[int], text_index: int | None
) -> tuple[NDArray[np.int8], NDArray[np.bool_], tuple[str, ...], str]:
    """Targets, disagreements, labels and the form in words."""
    header, n = cells.header, len(cells.rows)
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
    if text_index in cells.lists:
        sets, form = cells.lists[text_index], f"lists of names in column '{header[text_index]}'"
    else:
        sets, separator = split_names(columns[text_index], set(labels) if indicators else set())
        form = f"names in column '{header[text_index]}' separated by {separator}"
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

"""Interpret the columns of a label table: image, label names, 0/1 columns, split and groups.

Real tables have odd headers, various separators, many spellings of yes and no, and columns that are not labels. Every
decision is reported. If a table could be read in two ways, reading stops with an error that names the option to set.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import Table
from polytag.data.reading.tables.cells import Cells, read_cells
from polytag.data.reading.tables.column import Column
from polytag.data.reading.tables.from_names import from_names
from polytag.data.reading.tables.from_values import Labelled, from_columns, from_vector
from polytag.data.reading.tables.roles import Roles, find_roles, part_of
from polytag.errors import DataError, SettingsError, counted, listed


def read_table(path: Path, options: ReadOptions | None = None) -> Table:
    """Read a CSV, TSV, Parquet or Excel file and interpret its columns.

    Raises:
        DataError: the file cannot be read or understood. The message says what was expected and what to do.
    """
    options = options or ReadOptions()
    return table_of_cells(path, read_cells(path, options), options)


def table_of_cells(path: Path, cells: Cells, options: ReadOptions, row_parts: Sequence[str] | None = None) -> Table:
    """Interpret the columns of a table, whose cells may come from one or more files.

    Args:
        path: the file or folder that the cells come from. Messages name it, and photos are searched for next to it.
        cells: the table.
        options: how to read it.
        row_parts: the part of the split for each row, if each part has its own file.

    Raises:
        DataError: the table cannot be understood. The message says what was expected and what to do.
    """
    _check_images(path, cells)
    roles = find_roles(path, cells, options)
    labelled = _labelled(path, cells, roles, options)
    header = cells.header
    used = {cells.image_index, roles.split, roles.group, *roles.slices, *labelled.used}
    ignored = [
        name or f"column {i + 1}"
        for i, (name, column) in enumerate(zip(header, cells.columns, strict=True))
        if i not in used and (name or not column.is_blank)
    ]
    recognised = f"{path.name}: {counted(len(cells), 'row')}, images in column '{header[cells.image_index]}', "
    recognised += labelled.form
    if roles.split is not None:
        recognised += f", split in column '{header[roles.split]}'"
    if roles.group is not None:
        recognised += f", groups in column '{header[roles.group]}'"
    if roles.slices:
        recognised += f", slices in {listed([header[i] for i in roles.slices])}"
    if cells.repeats:
        recognised += f"; {counted(cells.repeats, 'repeated header line')} skipped"
    if ignored:
        recognised += f"; not used: {listed(ignored, 20)}"
    offers = [
        f"photos of one '{header[i]}' should stay together: add --group-column '{header[i]}'" for i in roles.offered[:1]
    ]
    rows = np.arange(len(cells)) if labelled.long is None else labelled.long.first
    images = _images(cells) if labelled.long is None else labelled.long.images
    return Table(
        images,
        cells.lines[rows].tolist(),
        labelled.targets,
        labelled.disagreements,
        labelled.labels,
        path.name,
        recognised,
        parts=_parts(cells, roles.split, row_parts, rows, labelled.long is not None),
        groups=None if roles.group is None else _groups(cells, roles.group, rows, labelled.long is not None),
        columns={header[i]: _cells_of_rows(cells.columns[i], rows) for i in roles.slices},
        place=cells.place,
        # If the table is a symbolic link, photos are searched for next to the link.
        homes=(path.parent.resolve(),),
        notes=(*cells.notes, *labelled.notes, *offers),
        long_form=labelled.long is not None,
    )


def _cells_of_rows(column: Column, rows: NDArray[np.int64]) -> list[str]:
    """Return the cells of these rows without surrounding blanks."""
    values = [value.strip() for value in column.values]
    return [values[code] for code in column.codes[rows]]


def _check_images(path: Path, cells: Cells) -> None:
    column = cells.columns[cells.image_index]
    wrong = [
        not word or len(value.strip().splitlines()) > 1 for word, value in zip(column.words, column.values, strict=True)
    ]
    rows = column.rows_where(wrong)
    if len(rows):
        filled = column.words[column.codes[rows[0]]]
        state = "contains a line break (is a double quote missing?)" if filled else "is empty"
        raise DataError(
            f"{path.name}, {cells.line(rows[0])}: the image cell (column '{cells.header[cells.image_index]}') {state}: "
            "expected one image name. Add it or delete the row"
        )


def _images(cells: Cells) -> list[str]:
    column = cells.columns[cells.image_index]
    return column.spread([value.strip() for value in column.values])


def _parts(
    cells: Cells, split: int | None, row_parts: Sequence[str] | None, rows: NDArray[np.int64], long: bool
) -> list[str] | None:
    """Return the part of each image, from the split column or from the file that each row comes from."""
    if row_parts is not None:
        column = Column.of(row_parts)
    elif split is not None:
        column = cells.columns[split]
    else:
        return None
    image = cells.columns[cells.image_index]
    parts = [part_of(word) or "" for word in column.words]
    if long:
        numbers = {part: number for number, part in enumerate(dict.fromkeys(parts))}
        of_row = np.array([numbers[part] for part in parts])[column.codes]
        low = np.full(len(image.values), len(numbers))
        high = np.full(len(image.values), -1)
        np.minimum.at(low, image.codes, of_row)
        np.maximum.at(high, image.codes, of_row)
        torn = np.flatnonzero(low < high)
        if len(torn):
            where = ", ".join(str(cells.lines[row]) for row in np.flatnonzero(image.codes == torn[0]))
            raise DataError(
                f"{image.words[torn[0]]} is listed in two parts of the split ({cells.place}s {where}): put it into one"
            )
    return [parts[code] for code in column.codes[rows].tolist()]


def _groups(cells: Cells, i: int, rows: NDArray[np.int64], long: bool) -> list[str]:
    column, image = cells.columns[i], cells.columns[cells.image_index]
    if not long:
        return column.spread(column.words)
    # The first row that names a group for an image decides for all rows of that image.
    filled = np.array([bool(word) for word in column.words])[column.codes]
    group = np.full(len(image.values), -1, dtype=np.int64)
    order = np.flatnonzero(filled)[::-1]
    group[image.codes[order]] = column.codes[order]
    return [column.words[code] if code >= 0 else "" for code in group[image.codes[rows]].tolist()]


def _labelled(path: Path, cells: Cells, roles: Roles, options: ReadOptions) -> Labelled:
    """Read the labels from whichever columns hold them."""
    if options.at_least is not None and not _has_fractions(cells, roles):
        raise SettingsError(f"--at-least applies to values between 0 and 1, and no label column of {path.name} has any")
    if options.label_separator is not None and not roles.names:
        raise SettingsError(f"--label-separator applies to a column of label names, and {path.name} has no such column")
    if roles.vector is not None:
        return from_vector(path, cells, roles.vector, options)
    if options.labels and (cells.has_header or roles.names):
        raise SettingsError(
            f"--labels names the entries of a multi-hot vector, and {path.name} has no vectors: omit it"
        )
    if roles.names:
        return from_names(path, cells, roles, options)
    _refuse_decimal_commas(path, cells, roles)
    if roles.fractions and options.at_least is None:
        raise DataError(
            f"{path}: {_columns(cells, roles.fractions)} values between 0 and 1, neither 0/1 nor names: set the "
            "minimum value of a present label with --at-least, or name the label columns with --label-column"
        )
    return from_columns(path, cells, roles, options)


def _refuse_decimal_commas(path: Path, cells: Cells, roles: Roles) -> None:
    """Refuse a single column of 0,0 and 1,0, which may be vectors of two labels or numbers with a decimal comma."""
    if roles.named or len(roles.indicators) != 1:
        return
    words = set(cells.columns[roles.indicators[0]].words) - {""}
    if words and words <= {"0,0", "1,0"}:
        name = cells.header[roles.indicators[0]]
        raise DataError(
            f"{path}: the column '{name}' holds only 0,0 and 1,0: if these are vectors of two labels, name the labels "
            f"with --labels; if they are numbers with a decimal comma, add --label-column '{name}'"
        )


def _has_fractions(cells: Cells, roles: Roles) -> bool:
    if roles.vector is not None:
        return True
    return bool(roles.fractions) or roles.confidence is not None


def _columns(cells: Cells, columns: Sequence[int]) -> str:
    names = listed([f"'{cells.header[i]}'" for i in columns])
    return f"the column {names} holds" if len(columns) == 1 else f"the columns {names} hold"

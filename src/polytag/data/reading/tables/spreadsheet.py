"""Excel workbooks, read with openpyxl (extra ``xlsx``)."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.photo_index import PHOTO_EXTENSIONS
from polytag.data.reading.tables.column import Column
from polytag.errors import DataError, listed

SPREADSHEET_EXTENSIONS = (".xlsx", ".xlsm")
OTHER_SPREADSHEETS = (".xls", ".ods", ".numbers", ".xlsb")


def read_spreadsheet(path: Path) -> tuple[list[Column], NDArray[np.int64], str | None]:
    """Read the only sheet of a workbook that has cells, or else the first sheet that lists image names.

    Returns:
        The columns, including any header; the number of each row, int64 (n,); and a note about the sheet or ``None``.

    Raises:
        DataError: openpyxl is missing, the file is damaged or empty, or none of several sheets lists images.
    """
    if path.suffix.lower() in OTHER_SPREADSHEETS:
        raise DataError(f"{path} is a spreadsheet that polytag does not read: save it as CSV (UTF-8) or .xlsx")
    try:
        import openpyxl  # type: ignore[import-untyped]
    except ImportError:
        raise DataError(
            f"{path} is a spreadsheet: save it as CSV (UTF-8), or install openpyxl with pip install 'polytag[xlsx]'"
        ) from None
    try:
        with path.open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheets = {sheet.title: _rows(sheet) for sheet in book.worksheets}
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): name a workbook, a CSV or a Parquet file") from None
    except Exception as error:
        # openpyxl passes on any error from its zip and XML libraries.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is not an Excel workbook ({reason}): save the table as CSV (UTF-8)") from None
    filled = {title: rows for title, rows in sheets.items() if rows}
    if not filled:
        raise DataError(f"{path} is empty: expected a header, then one row for each image with its labels")
    listing = [title for title, rows in filled.items() if _names_images(rows)]
    if len(filled) > 1 and not listing:
        raise DataError(
            f"{path} has {len(filled)} sheets, none with names of image files ({listed(list(filled), 20)}): save the "
            "one with the labels as CSV (UTF-8)"
        )
    title = (listing or list(filled))[0]
    rows = filled[title]
    width = max(len(row) for _, row in rows)
    cells = [[*row, *[""] * (width - len(row))] for _, row in rows]
    numbers = np.array([number for number, _ in rows], dtype=np.int64)
    note = f"read from the sheet '{title}'" if len(sheets) > 1 else None
    if len(filled) > 1:
        note = f"{note}; not used: {listed([f'sheet {other!r}' for other in filled if other != title], 20)}"
    return [Column.of(column) for column in zip(*cells, strict=True)], numbers, note


def _names_images(rows: list[tuple[int, list[str]]]) -> bool:
    """Return whether at least half of the rows after the first row name an image file."""
    below = [any(os.path.splitext(cell.strip())[1].lower() in PHOTO_EXTENSIONS for cell in row) for _, row in rows[1:]]
    return bool(below) and 2 * sum(below) >= len(below)


def _rows(sheet: Any) -> list[tuple[int, list[str]]]:
    """Return the non-blank rows of a sheet with their numbers, without trailing blank cells."""
    rows = []
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        cells = [_text(value) for value in row]
        while cells and not cells[-1].strip():
            cells.pop()
        if cells:
            rows.append((number, cells))
    return rows


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

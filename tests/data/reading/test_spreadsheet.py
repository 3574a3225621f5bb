"""Excel workbooks: the sheet with images is found, whatever else the workbook holds."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from polytag.data.reading.columns import read_table
from polytag.errors import DataError

openpyxl = pytest.importorskip("openpyxl")


def workbook(folder: Path, sheets: dict[str, Sequence[Sequence[object]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    book.save(folder / "labels.xlsx")
    return folder / "labels.xlsx"


def test_the_first_sheet_with_images_is_read(tmp_path: Path) -> None:
    path = workbook(
        tmp_path,
        {
            "About": [["Project", "Birds"], ["Author", "Ann"]],
            "Labels": [["Photo", "dog", "cat"], ["a.jpg", 1, 0.0], ["b.png", 0, True]],
            "Old": [["Photo", "dog", "cat"], ["a.jpg", 0, 0], ["b.png", 0, 0]],
            "Empty": [],
        },
    )
    table = read_table(path)
    assert (table.labels, table.targets.tolist()) == (("dog", "cat"), [[1, 0], [0, 1]])
    assert "read from the sheet 'Labels'; not used: sheet 'About', sheet 'Old'" in table.notes


def test_header_lines_and_empty_rows(tmp_path: Path) -> None:
    rows = [["Survey 2024", None], [], ["Image", "Tags"], ["a.jpg", "dog; cat"], [], ["b.jpg", None], ["c.jpg", "dog"]]
    table = read_table(workbook(tmp_path, {"Sheet1": [*rows, [None, None]]}))
    assert (table.images, table.labels) == (["a.jpg", "b.jpg", "c.jpg"], ("dog", "cat"))
    assert table.lines == [4, 6, 7]
    assert table.targets.tolist() == [[1, 1], [0, 0], [1, 0]]


def test_workbooks_without_a_table_of_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 sheets, none with names of image files"):
        read_table(workbook(tmp_path, {"A": [["x", "y"], [1, 2]], "B": [["z", "w"], [3, 4]]}))
    with pytest.raises(DataError, match="is empty"):
        read_table(workbook(tmp_path, {"A": []}))
    (tmp_path / "labels.xlsx").write_bytes(b"no workbook")
    with pytest.raises(DataError, match="is not an Excel workbook"):
        read_table(tmp_path / "labels.xlsx")

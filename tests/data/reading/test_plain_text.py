"""Large files are read by a faster reader, which returns what Python's csv module returns or leaves the file to it."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polytag.data.reading.tables import plain_text
from polytag.data.reading.tables.plain_text import LARGE, read_plain
from polytag.data.reading.tables.text import read_text

CELLS = st.sampled_from(
    ["", " ", "0", "1", "a.jpg", "b/c.png", "NA", "null", "nan", "é", "\u3000", "x y", "'", "\\", "#", "1e5", "001"]
) | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=4)


@pytest.fixture(autouse=True)
def no_file_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "LARGE", 0)


def rows_of(data: bytes, delimiter: str) -> list[tuple[int, tuple[str, ...]]]:
    """The rows that Python's csv module reads and their lines."""
    line, found = 1, []
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=""), delimiter=delimiter)
    for row in reader:
        if any(cell.strip() for cell in row):
            found.append((line, tuple(row)))
        line = reader.line_num + 1
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=6)),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
)
@example([["image", "label"], ["a.jpg", "NA"], ["", " "], ["b.jpg", ""]], ",", "\n", True, True)
def test_the_fast_reader_agrees_with_python_or_declines(
    rows: list[list[str]], delimiter: str, end: str, mark: bool, ended: bool
) -> None:
    text = end.join(delimiter.join(row) for row in rows) + end * ended
    data = b"\xef\xbb\xbf" * mark + text.encode()
    found = read_plain(data, delimiter)
    if found is None:
        care = any(mark in cell for row in rows for cell in row for mark in '"\n\r,;\t')
        assert care or len(rows[0]) == 1 or "\n" not in text
    else:
        columns, lines = found
        cells = zip(*(column.spread(column.values) for column in columns), strict=True)
        assert list(zip(lines.tolist(), cells, strict=True)) == rows_of(data, delimiter)


@pytest.mark.parametrize(
    "text",
    [
        'image,labels\na.jpg,"x, y"\n',
        "image,x\na.jpg,1\n\nb.jpg,0\n",
        "image,x\r\na.jpg,1\r\n\r\nb.jpg,0\r\n",
        "\nimage,x\na.jpg,1\n",
        "image,x\ra.jpg,1\r",
        "image,x\na.jpg,1,0\n",
        "image,x\na.jpg\n",
        "image\na.jpg\n",
        f"image,x\na.jpg,{'1' * (csv.field_size_limit() + 1)}\n",
    ],
)
def test_files_that_need_care_are_left_to_python(text: str) -> None:
    assert read_plain(text.encode(), ",") is None


def test_small_files_are_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "LARGE", LARGE)
    assert read_plain(b"image,x\na.jpg,1\n", ",") is None


def test_a_large_file_is_read_in_blocks_like_a_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.csv"
    rng = np.random.default_rng(0)
    rows = [f"{i}.jpg,{'xyz'[i % 3]},{value}" for i, value in enumerate(rng.integers(0, 300, 70_000).tolist())]
    rows[60_000] = ",,"
    path.write_text("\n".join(["image,label,number", *rows]) + "\n")
    columns, lines, _ = read_text(path)
    monkeypatch.setattr(plain_text, "LARGE", 10**9)
    expected, expected_lines, _ = read_text(path)
    assert np.array_equal(lines, expected_lines) and lines[-1] == 70_001 and 60_002 not in lines
    for column, same in zip(columns, expected, strict=True):
        assert column.values == same.values
        assert np.array_equal(column.codes, same.codes) and column.codes.dtype == same.codes.dtype
    assert [column.codes.itemsize for column in columns] == [4, 1, 2]

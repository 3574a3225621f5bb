"""Parquet tables: columns of every type become the cells that a text file would have."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from polytag.data.reading.columns import read_table
from polytag.data.reading.table import Table
from polytag.errors import DataError


def sets(table: Table) -> list[set[str]]:
    return [{table.labels[j] for j in np.flatnonzero(row == 1)} for row in table.targets]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def parquet(path: Path, **columns: Any) -> Path:
    frame = pa.table(columns)
    pq.write_table(frame, path / "table.parquet")
    return path / "table.parquet"


def test_parquet_columns_of_every_kind(tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        image=["a.jpg", " b.jpg", "c.jpg"],
        ints=pa.array([1, 0, None], pa.uint8()),
        bools=[True, False, None],
        floats=[1.0, 0.0, float("nan")],
        strings=["1", "?", "0"],
        kinds=pa.array(["true", "0", ""]).dictionary_encode(),
        never=pa.array([None, None, None], pa.int64()),
        empty=pa.nulls(3),
        bytes=[b"x", b"y", b"z"],
        vector=[[0.5, 1.0], [0.1], []],
        boxes=[[[1, 2], [3, 4]], [], None],
        box=[{"x": 1}, {"x": 2}, None],
        split=["train", "val", "test"],
        group=pa.array([1.0, 7.0, None]),
        when=pa.array([0, 1, 2], pa.timestamp("s")),
    )
    table = read_table(path)
    assert table.images == ["a.jpg", "b.jpg", "c.jpg"]
    assert table.lines == [1, 2, 3]
    assert table.labels == ("ints", "bools", "floats", "strings", "kinds", "never")
    assert table.targets.tolist() == [[1, 1, 1, 1, 1, -1], [0, 0, 0, -1, 0, -1], [-1, -1, -1, 0, -1, -1]]
    assert table.parts == ["train", "validation", "test"]
    assert table.groups == ["1", "7", ""]
    assert "not used: empty, bytes, vector, boxes, box" in table.recognised


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string())])
def test_parquet_lists_of_names_are_taken_as_they_are(kind: pa.DataType, tmp_path: Path) -> None:
    names = [["traffic light", "a|b, c"], [], None, ["a|b, c", "1", " 1 ", None]]
    images = [f"{i}.jpg" for i in range(4)]
    path = parquet(tmp_path, image=images, source=["x"] * 4, what=pa.array(names, kind))
    table = read_table(path)
    assert table.labels == ("traffic light", "a|b, c", "1")
    assert sets(table) == [{"traffic light", "a|b, c"}, set(), set(), {"a|b, c", "1"}]
    assert "lists of names in column 'what' (3 labels); not used: source" in table.recognised
    path = parquet(tmp_path, id=images, what=[[3], [5, 3], [], [7]])
    assert sets(read_table(path)) == [{"3"}, {"5", "3"}, set(), {"7"}]


def test_parquet_ids_that_became_floats_and_pandas_row_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image_id": [391895.0, 5.0], "dog": [1, 0]}, index=[1, 0])
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert (table.images, table.labels) == (["391895", "5"], ("dog",))


def test_parquet_columns_may_share_a_name(tmp_path: Path) -> None:
    arrays = [pa.array(["train", "test"]), pa.array(["a.jpg", "b.jpg"]), pa.array([1, 0]), pa.array([b"x", b"y"])]
    frame = pa.Table.from_arrays(arrays, ["split", "image", "split", "image"])
    pq.write_table(frame, tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert (table.images, table.labels, table.parts) == (["a.jpg", "b.jpg"], ("split",), ["train", "test"])
    assert table.targets.tolist() == [[1], [0]]


def test_parquet_that_cannot_be_understood(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(b"image,labels\na.jpg,dog\n")
    assert "cannot be read (Parquet magic bytes not found" in refusal(path)
    path.write_bytes(b"")
    assert "expected a Parquet file of images and labels" in refusal(path)
    assert "cannot be read (No such file" in refusal(tmp_path / "none.parquet")
    assert "has 0 rows and 2 columns: expected an image column" in refusal(parquet(tmp_path, image=[], dog=[]))
    assert "row 2: '5' in the 0/1 column 'dog'" in refusal(
        parquet(tmp_path, image=["a.jpg", "b.jpg", "c.jpg"], dog=[1, 5, 0])
    )
    assert "row 2: the image cell (column 'image') is empty" in refusal(
        parquet(tmp_path, image=["a.jpg", None, "c.jpg"], dog=[1, 0, 0])
    )
    assert "has no column of image names (found: who, dog)" in refusal(parquet(tmp_path, who=["ann"], dog=[1]))


def test_damaged_parquet_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = parquet(tmp_path, image=[f"{i}.jpg" for i in range(50)], tags=[["a", "b"]] * 50, dog=[1, 0] * 25)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        refusal(path)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_table(path)
        except DataError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert refused > 100

"""Shards: which photos they hold, and what is inside Parquet files."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from polytag.errors import DataError, ImageError
from polytag.serving.scale.shards import Shard, shards


def all_names(sources: list[str], size: int) -> list[str]:
    return [name for shard in shards(sources, Counter(), size) for name in shard.names]


def test_every_photo_is_in_one_shard(photos, tmp_path: Path) -> None:
    names = photos(tmp_path / "photos", 7)
    (tmp_path / "photos" / "labels.csv").write_text("a")
    (tmp_path / "list.txt").write_text("x.jpg\ny.jpg\n")
    skipped: Counter[str] = Counter()
    found = list(shards([str(tmp_path / "photos"), str(tmp_path / "list.txt")], skipped, 4))
    assert [shard.names for shard in found] == [tuple(names[:4]), (*names[4:], "x.jpg"), ("y.jpg",)]
    assert [shard.number for shard in found] == [0, 1, 2] and sum(shard.photos for shard in found) == 9
    assert skipped == {"text file": 1}


def test_a_shard_survives_json_and_its_file_depends_on_its_photos() -> None:
    shard = Shard(3, 2, ("a.jpg", "caf\udce9.jpg"))
    assert Shard.from_json(shard.to_json()) == shard
    assert shard.to_json().isascii()
    assert shard.file.startswith("part-000003-")
    assert len({shard.file, Shard(3, 2, ("a.jpg", "b.jpg")).file, Shard(3, 2, parquet="a.jpg").file}) == 3


def test_relative_names_start_from_the_folder_of_the_command() -> None:
    assert list(Shard(0, 2, ("a.jpg", "/b.jpg")).read("/top")) == [("a.jpg", "/top/a.jpg"), ("/b.jpg", "/b.jpg")]


def test_parquet_with_names(tmp_path: Path) -> None:
    table = pa.table({"title": ["p", "q", "r"], "image": ["a.jpg", None, "b.jpg"]})
    parquet.write_table(table, tmp_path / "names.parquet")
    assert all_names([str(tmp_path / "names.parquet")], 10) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("form", ["binary", "struct"])
def test_parquet_with_photos(form: str, photos, tmp_path: Path) -> None:
    content = [Path(name).read_bytes() for name in photos(tmp_path / "photos", 5)]
    column = content if form == "binary" else [{"bytes": one, "path": f"{i}.jpg"} for i, one in enumerate(content)]
    folder = tmp_path / "photos.parquet"
    folder.mkdir()
    for part in range(2):
        parquet.write_table(pa.table({"image": [*column, None]}), folder / f"{part}.parquet", row_group_size=2)
    found = list(shards([str(folder)], Counter(), 3))
    # Row groups of 2, 2 and 2 rows: they are never divided, and no shard reaches into another file.
    assert [(shard.groups, shard.photos) for shard in found] == 2 * [((0, 1), 4), ((2,), 2)]
    read = [one for shard in found for one in shard.read("")]
    assert [photo for _, photo in read if isinstance(photo, bytes)] == content * 2
    assert isinstance(read[5][1], ImageError)
    names = [name for name, _ in read]
    if form == "binary":
        assert names == [f"{folder / f'{part}.parquet'}#{row}" for part in range(2) for row in range(6)]
    else:
        assert names[:5] == [f"{i}.jpg" for i in range(5)]


def test_parquet_that_names_photos_which_it_does_not_contain(tmp_path: Path) -> None:
    column = [{"bytes": b"1", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}, {"bytes": None, "path": None}]
    parquet.write_table(pa.table({"image": column}), tmp_path / "photos.parquet")
    (shard,) = shards([str(tmp_path / "photos.parquet")], Counter())
    (_, first), (_, second), (_, third) = shard.read("/top")
    assert (first, second) == (b"1", "/top/b.jpg") and isinstance(third, ImageError)


def test_parquet_without_photos_is_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "numbers.parquet")
    with pytest.raises(DataError, match="has no column with photos or their names, only a, b"):
        all_names([str(tmp_path / "numbers.parquet")], 10)
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(DataError, match="expected a Parquet file"):
        all_names([str(tmp_path / "text.parquet")], 10)

"""Columns that are kept to score parts of the test set separately."""

from pathlib import Path

import pytest
from PIL import Image

from polytag import read
from polytag.errors import DataError, SettingsError


def test_slice_columns_are_kept_and_are_no_labels(tmp_path: Path) -> None:
    rows = ["image,tags,flash,camera"]
    for i in range(6):
        Image.new("RGB", (16, 16), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'dog' if i % 2 else 'cat'},{i % 2},{' A ' if i < 4 else ''}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    data = read(tmp_path, slice=["camera", "flash"])
    assert data.labels == ("cat", "dog") and "slices in camera, flash" in data.notes[0]
    some = data.take([5, 0, 1])
    assert [data.columns["camera"].tolist(), some.columns["camera"].tolist()] == [["A"] * 4 + ["", ""], ["", "A", "A"]]
    assert some.columns["flash"].tolist() == ["1", "0", "1"]
    # A 0/1 column that is sliced is not a label, even if nothing else could be.
    assert "flash" not in read(tmp_path, label_column=["tags"], slice="flash").labels
    with pytest.raises(DataError, match=r"no column 'iso' \(--slice\); its columns are image, tags"):
        read(tmp_path, slice=["iso"])
    with pytest.raises(SettingsError, match="--slice must not be empty"):
        read(tmp_path, slice=[" "])

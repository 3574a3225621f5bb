"""Split files: names of every kind keep their part."""

from pathlib import Path

import numpy as np

from polytag.data.dataset import PARTS, Dataset
from polytag.data.splitting.split_file import with_split, write_split


def test_names_that_are_formulas_keep_their_part(tmp_path: Path) -> None:
    names = ["=1+2.jpg", "-b.jpg", "c.jpg"]
    data = Dataset(
        paths=np.array([f"/photos/{name}" for name in names]),
        targets=np.array([[1, 0], [0, 1], [1, 1]], dtype=np.int8),
        labels=("x", "y"),
        groups=np.arange(3),
        root=Path("/photos"),
    )
    write_split(tmp_path / "s.csv", *(data.take([i]) for i in range(3)))
    assert "'=1+2.jpg,train" in (tmp_path / "s.csv").read_text()
    parts = with_split(data, tmp_path / "s.csv").parts
    assert parts is not None and parts.tolist() == list(PARTS)

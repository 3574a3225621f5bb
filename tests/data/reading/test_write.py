"""Tables that are written come back as they were, whatever the labels and the photos are called."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag import read
from polytag.data.dataset import Dataset
from polytag.data.reading.tables.cells import plain
from polytag.data.reading.tables.roles import FLAG_HEADERS
from polytag.data.reading.write import write_table
from polytag.errors import DataError, PolytagError, SettingsError

Photos = Callable[..., list[str]]

ODD_PHOTOS = ["a.jpg", "sub/b.png", "x,1.jpg", "c;d.jpg", 'q"uote.jpg', "ünï 字.jpg", "noext", "e|f.JPG", "a  b.jpg"]
ODD_PHOTOS += ["t\tab.jpg", "deep/er/1.img", "0", "split", "#.jpg", "=1+1.jpg", "'.jpg", "true.webp"]
ODD_LABELS = ["image", "images", "split", "group", "reasons", "labels", "note", "0", "1", "-1", "?", "nan", "true", ""]
ODD_LABELS += [" a ", "x.jpg", "cat|dog", "a,b", "a;b", "a; b, c", '"', '"big" dog', "'", "été", "犬", "traffic light"]
ODD_LABELS += [
    "train",
    "column 1",
    "id",
    "Fold",
    "is_valid",
    "#",
    "=1+1",
    "'=1+1",
    "+a",
    "-b",
    "@c",
    "＝d",
    "(a, b)",
    "g17",
    "\ufeff",
    "a\nb",
    "a\0b",
    "a\tb",
    "a  b",
    "\ud800",
]
ANY_EXTENSION = [".csv", ".tsv", ".parquet"]


def cannot_be_written(label: str) -> bool:
    odd = " ".join(label.split()) != label or label == "" or "\0" in label or "\ud800" in label
    return odd or plain(label) in FLAG_HEADERS


def partition(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in groups}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, photos: Photos) -> Path:
    """A folder with photos of odd names in ``photos``, and copies of the same names in ``another``."""
    home = tmp_path_factory.mktemp("home")
    photos(home / "photos", ODD_PHOTOS)
    photos(home / "another", ODD_PHOTOS)
    photos(home / "below/far/down/photos", ODD_PHOTOS)
    return home.resolve()


@st.composite
def datasets(draw: st.DrawFn, root: Path) -> Dataset:
    names = draw(st.lists(st.sampled_from(ODD_PHOTOS), unique=True, min_size=1))
    label = st.sampled_from(ODD_LABELS) | st.text(max_size=6)
    labels = draw(st.lists(label.filter(lambda name: not cannot_be_written(name)), unique=True, min_size=1, max_size=6))
    n, k = len(names), len(labels)
    targets = draw(st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=k, max_size=k), min_size=n, max_size=n))
    parts = st.lists(st.sampled_from(["train", "validation", "test"]), min_size=n, max_size=n).map(np.array)
    return Dataset(
        paths=np.array([str(root / name) for name in names]),
        targets=np.array(targets, dtype=np.int8),
        labels=tuple(labels),
        groups=np.array(draw(st.lists(st.integers(0, 20), min_size=n, max_size=n))),
        root=root,
        parts=draw(st.none() | parts),
    )


@settings(deadline=None, max_examples=80)
@given(
    data=st.data(),
    ending=st.sampled_from(ANY_EXTENSION),
    photos_in=st.sampled_from(["photos", "another", "below/far/down/photos"]),
    written_to=st.sampled_from([".", "photos", "tables", "below/far"]),
    with_reasons=st.booleans(),
)
def test_what_is_written_is_read_again(
    home: Path, data: st.DataObject, ending: str, photos_in: str, written_to: str, with_reasons: bool
) -> None:
    whole = data.draw(datasets(home / photos_in))
    path = home / written_to / f"table{ending}"
    path.parent.mkdir(exist_ok=True)
    reasons = (
        {name: data.draw(st.text(max_size=8)) + " of b.jpg" for name in whole.names[::2]} if with_reasons else None
    )
    images = write_table(path, whole, reasons)
    try:
        assert images in (None, whole.root)
        again = read(path, images=images)
        assert images is None or not (home / photos_in).is_relative_to(path.parent)
        asked = read(path, images=whole.root)
    finally:
        path.unlink()
    assert again.paths.tolist() == whole.paths.tolist()
    assert (asked.names, asked.root) == (whole.names, whole.root)
    for other in (again, asked):
        assert other.labels == whole.labels
        assert other.targets.tolist() == whole.targets.tolist()
        assert (None if other.parts is None else other.parts.tolist()) == (
            None if whole.parts is None else whole.parts.tolist()
        )
        assert partition(other.groups) == partition(whole.groups)
        assert not other.left_out and not other.repeats and not other.disputed


@pytest.fixture
def small(tmp_path: Path, photos: Photos) -> Dataset:
    paths = photos(tmp_path / "photos", ["a.jpg", "b.jpg", "c.jpg"])
    return Dataset(
        paths=np.array(paths),
        targets=np.array([[1, 0], [0, -1], [1, 1]], dtype=np.int8),
        labels=("dog", "traffic light"),
        groups=np.array([4, 17, 17]),
        root=tmp_path / "photos",
        parts=np.array(["train", "test", "test"]),
    )


def test_a_table_is_plain_to_read(small: Dataset, tmp_path: Path) -> None:
    write_table(tmp_path / "out.csv", small, {"b.jpg": "the light\nis hidden", "stranger.jpg": "?"})
    assert (tmp_path / "out.csv").read_text() == (
        "image,dog,traffic light,split,group,reasons\n"
        "a.jpg,1,0,train,,\n"
        "b.jpg,0,,test,g17,the light is hidden\n"
        "c.jpg,1,1,test,g17,\n"
    )
    write_table(tmp_path / "out.tsv", replace(small, parts=None, groups=np.arange(3)))
    assert (tmp_path / "out.tsv").read_text() == "image\tdog\ttraffic light\na.jpg\t1\t0\nb.jpg\t0\t\nc.jpg\t1\t1\n"


def test_parquet_has_types(small: Dataset, tmp_path: Path) -> None:
    import pandas as pd

    write_table(tmp_path / "out.parquet", small, {})
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert frame.columns.tolist() == ["image", "dog", "traffic light", "split", "group", "reasons"]
    assert frame["dog"].tolist() == [1, 0, 1]
    assert frame["traffic light"].isna().tolist() == [False, True, False]
    assert frame["reasons"].isna().all()


def test_no_cell_is_a_formula(home: Path, tmp_path: Path) -> None:
    whole = Dataset(
        paths=np.array([str(home / "photos" / "=1+1.jpg"), str(home / "photos" / "'.jpg")]),
        targets=np.array([[1, 0, 1], [0, 1, -1]], dtype=np.int8),
        labels=("=cmd|' /C calc'!A0", "@x", "'-y"),
        groups=np.array([0, 0]),
        root=home / "photos",
    )
    for ending in (".csv", ".tsv"):
        write_table(home / "photos" / f"formulas{ending}", whole)
        text = (home / "photos" / f"formulas{ending}").read_text()
        (home / "photos" / f"formulas{ending}").unlink()
        cells = [
            cell.strip('"') for line in text.splitlines() for cell in line.split("," if ending == ".csv" else "\t")
        ]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
        (tmp_path / f"formulas{ending}").write_text(text)
        again = read(tmp_path / f"formulas{ending}", images=home / "photos")
        assert (again.names, again.labels) == (whole.names, whole.labels)


@pytest.mark.parametrize("ending", ANY_EXTENSION)
def test_where_the_photos_are_not_found_the_folder_is_handed_back(small: Dataset, tmp_path: Path, ending: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert write_table(tmp_path / f"beside{ending}", small) is None
    images = write_table(elsewhere / f"out{ending}", small)
    assert images == small.root
    with pytest.raises(DataError, match="--images"):
        read(elsewhere / f"out{ending}")
    assert read(elsewhere / f"out{ending}", images=images).names == small.names


@pytest.mark.parametrize("label", [label for label in ODD_LABELS if cannot_be_written(label)])
@pytest.mark.parametrize("ending", ANY_EXTENSION)
def test_labels_that_would_come_back_changed_are_refused(
    small: Dataset, tmp_path: Path, label: str, ending: str
) -> None:
    path = tmp_path / f"out{ending}"
    path.write_text("as it was")
    with pytest.raises(
        DataError, match=r"the label .* cannot be written: (expected a name without line|a column with this name)"
    ):
        write_table(path, replace(small, labels=("dog", label)))
    assert path.read_text() == "as it was"
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == [path.name]


@pytest.mark.parametrize("name", [" a.jpg", "a.jpg ", "a\nb.jpg", "photo", "Image", "a\udcff.jpg", "../a.jpg"])
def test_photos_that_a_table_cannot_name_are_refused(small: Dataset, tmp_path: Path, name: str) -> None:
    odd = replace(small.take([0]), paths=np.array([os.path.join(small.root, name)]))
    with pytest.raises(DataError, match="1 image cannot be named in a table"):
        write_table(small.root / "out.csv", odd)
    assert not (small.root / "out.csv").exists()


def test_what_cannot_be_written(small: Dataset, tmp_path: Path) -> None:
    def refusal(path: Path, dataset: Dataset = small) -> str:
        with pytest.raises(PolytagError) as caught:
            write_table(path, dataset)
        assert len(str(caught.value).splitlines()) == 1
        assert isinstance(caught.value, SettingsError if dataset is small else DataError)
        return str(caught.value)

    assert "expected .csv, .tsv or .parquet" in refusal(tmp_path / "out.xlsx")
    assert "cannot be written (No such file or directory)" in refusal(tmp_path / "none" / "out.parquet")
    assert "nothing to write" in refusal(tmp_path / "out.csv", small.take([]))
    assert "more than one label is called dog" in refusal(tmp_path / "out.csv", replace(small, labels=("dog", "dog")))


@pytest.mark.parametrize("ending", ANY_EXTENSION)
def test_a_table_that_cannot_be_finished_leaves_the_old_one(
    small: Dataset, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"out{ending}"
    write_table(path, small)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SettingsError, match="No space left"):
        write_table(path, small.take([0, 1]))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == [path.name]

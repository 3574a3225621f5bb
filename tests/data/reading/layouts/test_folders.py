"""A folder for each label: the same photo in several folders carries all of those labels."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag import read
from polytag.data.dataset import Dataset
from polytag.errors import DataError, PolytagError

Photos = Callable[..., list[str]]

LABELS = ["dog", "traffic light", "train", "ünï", "0"]


def sets(data: Dataset) -> list[set[str]]:
    return [{data.labels[j] for j in np.flatnonzero(row == 1)} for row in data.targets]


def refusal(path: Path) -> str:
    with pytest.raises(PolytagError) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, photos: Photos) -> list[Path]:
    return [Path(path) for path in photos(tmp_path_factory.mktemp("drawn"), 8)]


def put(photo: Path, folder: Path, name: str | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(photo, folder / (name or photo.name))


@settings(deadline=None, max_examples=60)
@given(
    chosen=st.lists(st.sets(st.sampled_from(LABELS)), min_size=1, max_size=8),
    levels=st.none() | st.lists(st.sampled_from(["train", "valid", "test"]), min_size=8, max_size=8),
    other_names=st.booleans(),
)
def test_what_was_put_into_folders_is_read(
    drawn: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
    chosen: list[set[str]],
    levels: list[str] | None,
    other_names: bool,
) -> None:
    root = tmp_path_factory.mktemp("root")
    if levels:
        # A part without a single label says nothing of its photos.
        chosen = [own or {"dog"} for own in chosen]
    for i, own in enumerate(chosen):
        level = root / levels[i] if levels else root
        for label in own:
            put(drawn[i], level / label, f"{label}{i}.jpg" if other_names else None)
        if not own:
            put(drawn[i], level)
    used = sorted(set().union(*chosen))
    # By the folders alone these are not labels but a split, or nothing at all.
    if len(used) < 2 or (not levels and set(used) <= {"train"}):
        assert "no labels.csv" in refusal(root)
        return
    data = read(root)
    assert data.labels == tuple(used)
    place = {path.read_bytes(): i for i, path in enumerate(drawn)}
    order = [place[Path(path).read_bytes()] for path in data.paths]
    assert sorted(order) == list(range(len(chosen)))
    assert sets(data) == [chosen[i] for i in order]
    assert data.root == root.resolve()
    assert len(set(data.groups.tolist())) == len(chosen)
    if levels:
        assert data.parts is not None
        assert data.parts.tolist() == ["validation" if levels[i] == "valid" else levels[i] for i in order]
    else:
        assert data.parts is None
    copies = sum(map(len, chosen)) - sum(map(bool, chosen))
    words = f"{copies} {'copy' if copies == 1 else 'copies'} in several folders: labels combined"
    assert (words in data.notes) == (copies > 0)


@pytest.fixture
def root(tmp_path: Path, drawn: list[Path]) -> Path:
    put(drawn[0], tmp_path / "dog")
    put(drawn[1], tmp_path / "cat")
    return tmp_path


def test_what_is_recognised_is_said(root: Path, drawn: list[Path]) -> None:
    put(drawn[2], root)
    put(drawn[0], root / "dog", "copy of it.jpg")
    (root / "dog" / "about.txt").write_text("a dog")
    (root / "dog" / "iphone.MOV").write_text("no photo that is read")
    (root / ".hidden").mkdir()
    (root / "dog" / ".hidden.jpg").write_text("x")
    (root / "empty").mkdir()
    data = read(root)
    assert data.names == ["cat/image1.jpg", "dog/copy of it.jpg", "image2.jpg"]
    assert data.targets.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert data.notes == (
        f"{root.name}: a folder of photos for each of 2 labels",
        "1 copy within one folder: read once",
        "2 files left out: 1 text file, 1 video",
    )


def test_the_same_photo_in_two_parts_stays_in_both_and_in_one_group(tmp_path: Path, drawn: list[Path]) -> None:
    put(drawn[0], tmp_path / "train/dog")
    put(drawn[1], tmp_path / "train/cat")
    put(drawn[0], tmp_path / "test/cat", "other.jpg")
    data = read(tmp_path)
    assert data.names == ["test/cat/other.jpg", "train/cat/image1.jpg", "train/dog/image0.jpg"]
    assert sets(data) == [{"cat", "dog"}, {"cat"}, {"cat", "dog"}]
    assert data.groups.tolist() == [0, 1, 0]
    assert data.parts is not None and data.parts.tolist() == ["test", "train", "train"]


def test_a_part_without_labels_is_left_out(tmp_path: Path, drawn: list[Path]) -> None:
    put(drawn[0], tmp_path / "train/dog")
    put(drawn[1], tmp_path / "train/cat")
    put(drawn[2], tmp_path / "test")
    put(drawn[3], tmp_path)
    data = read(tmp_path)
    assert data.names == ["train/cat/image1.jpg", "train/dog/image0.jpg"]
    assert dict(data.left_out) == {"test/image2.jpg": "not annotated", "image3.jpg": "not annotated"}
    assert "2 images left out because not annotated: image3.jpg, test/image2.jpg" in data.notes


def test_a_label_may_be_called_train(root: Path, drawn: list[Path]) -> None:
    put(drawn[2], root / "train")
    assert read(root).labels == ("cat", "dog", "train")
    assert read(root).parts is None


@pytest.mark.parametrize("where", ["dog/puppies", "cat/a/.."])
def test_photos_a_folder_too_deep_are_refused(where: str, root: Path, drawn: list[Path]) -> None:
    put(drawn[2], root / where)
    if ".." in where:
        assert len(read(root)) == 3
    else:
        assert "dog/puppies in" in refusal(root) and "one folder too deep" in refusal(root)


def test_a_photo_that_may_not_be_read_is_left_out(
    root: Path, drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(drawn[2], root / "dog")
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("image2.jpg") and allowed(path, mode))
    data = read(root)
    assert dict(data.left_out) == {"dog/image2.jpg": "no permission to read it"}
    assert len(data) == 2


@pytest.mark.parametrize(
    "folders", [["images"], ["images", "masks"], ["JPEGImages", "dog"], ["train", "test"], ["dog"]]
)
def test_folders_that_name_no_labels(folders: list[str], tmp_path: Path, drawn: list[Path]) -> None:
    for i, folder in enumerate(folders):
        put(drawn[i], tmp_path / folder)
    (tmp_path / "notes.txt").write_text("image,labels\n")
    message = refusal(tmp_path)
    assert "no folders of photos named after labels" in message
    assert (
        f"found: {', '.join(sorted([*(f'{folder}/' for folder in folders), 'notes.txt']))}. Name the table" in message
    )


def test_an_empty_folder_and_one_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "found: nothing" in refusal(tmp_path)

    def locked(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", locked)
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)


def test_a_table_in_the_folder_comes_first(root: Path) -> None:
    (root / "labels.csv").write_text("image,labels\ndog/image0.jpg,wolf\ncat/image1.jpg,lynx\n")
    assert read(root).labels == ("wolf", "lynx")

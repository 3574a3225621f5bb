"""From a table to a Dataset: photos are found, rows brought together, and what is left out is said."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag import read
from polytag.data.dataset import Dataset
from polytag.errors import ConflictError, DataError, PolytagError, SettingsError

Folder = Callable[..., Path]
Photos = Callable[..., list[str]]


@pytest.fixture
def folder(tmp_path: Path, photos: Photos) -> Folder:
    """``folder(table, photos to draw)`` writes ``labels.csv`` with photos in ``images``."""

    def make(text: str, names: list[str]) -> Path:
        (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
        photos(tmp_path / "images", names)
        return tmp_path

    return make


def refusal(path: Path, error: type[PolytagError] = DataError, **options: object) -> str:
    with pytest.raises(error) as caught:
        read(path, **options)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def said(data: Dataset, words: str) -> bool:
    return any(words in note for note in data.notes)


THREE = "image,labels\nc.jpg,dog|cat\na.jpg,cat\nb.jpg,\n"


def test_a_folder_a_file_and_a_tsv_read_alike(folder: Folder) -> None:
    root = folder(THREE, ["a.jpg", "b.jpg", "c.jpg"])
    (root / "copy.tsv").write_text(THREE.replace(",", "\t"), encoding="utf-8")
    pd.read_csv(root / "labels.csv").to_parquet(root / "copy.parquet")
    for path in (root, root / "labels.csv", str(root / "copy.tsv"), root / "copy.parquet"):
        data = read(path)
        assert data.labels == ("dog", "cat")
        assert data.names == ["c.jpg", "a.jpg", "b.jpg"]
        assert data.targets.tolist() == [[1, 1], [0, 1], [0, 0]]
        assert data.root == (root / "images").resolve()
        assert data.groups.tolist() == [0, 1, 2]
        assert data.parts is None
        assert data.left_out == {}
        assert data.notes[1:] == ("read as: 'dog|cat' is dog + cat; 'cat' is cat",)
        assert "images in column 'image', names in column 'labels' separated by '|'" in data.notes[0]


@pytest.mark.parametrize("name", ["labels.tsv", "labels.parquet"])
def test_a_folder_may_hold_its_labels_in_other_forms(name: str, folder: Folder) -> None:
    root = folder(THREE, ["a.jpg", "b.jpg", "c.jpg"])
    frame = pd.read_csv(root / "labels.csv")
    (root / "labels.csv").unlink()
    if name == "labels.tsv":
        frame.to_csv(root / name, sep="\t", index=False)
    else:
        frame.to_parquet(root / name)
    assert read(root).names == ["c.jpg", "a.jpg", "b.jpg"]
    assert read(root).targets.tolist() == [[1, 1], [0, 1], [0, 0]]


def test_home_and_relative_paths(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(THREE, ["a.jpg", "b.jpg", "c.jpg"])
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.chdir(root)
    expected = read(root).paths.tolist()
    assert read("~/labels.csv", images="~/images").paths.tolist() == expected
    assert read("labels.csv", images="images").paths.tolist() == expected
    assert all(Path(path).is_absolute() for path in expected)


def test_input_is_left_as_it_was(folder: Folder) -> None:
    root = folder(THREE + "gone.jpg,dog\n", ["a.jpg", "b.jpg", "c.jpg"])
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    read(root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("where", [".", "images", "data/photos", "../elsewhere"])
def test_photos_are_found_anywhere_below(where: str, tmp_path: Path, photos: Photos) -> None:
    home = tmp_path / "home"
    photos(home / where, ["a.jpg", "b.jpg", "c.jpg"])
    photos(home / "thumbs", ["d.jpg"])
    (home / "labels.csv").write_text(THREE, encoding="utf-8")
    options = {"images": home / where} if where.startswith("..") else {}
    assert read(home, **options).root == (home / where).resolve()


def test_a_linked_table_finds_the_photos_beside_the_link(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = folder(THREE, ["a.jpg", "b.jpg", "c.jpg"])
    store = tmp_path_factory.mktemp("store") / "kept.csv"
    (root / "labels.csv").rename(store)
    (root / "labels.csv").symlink_to(store)
    assert len(read(root)) == 3


def test_names_without_endings_find_their_files(folder: Folder) -> None:
    root = folder("id,labels\nc,dog|cat\nsub/a,cat\nb.v2,\n", ["c.png", "sub/a.jpg", "b.v2.jpeg"])
    assert read(root).names == ["c.png", "sub/a.jpg", "b.v2.jpeg"]


def test_missing_photos_are_named_and_the_rest_goes_on(folder: Folder) -> None:
    data = read(folder(THREE + "gone.jpg,dog\nlost.jpg,bird\n", ["a.jpg", "c.jpg", "other.jpg"]))
    assert data.names == ["c.jpg", "a.jpg"]
    assert data.targets.tolist() == [[1, 1, 0], [0, 1, 0]]
    assert dict(data.left_out) == dict.fromkeys(["b.jpg", "gone.jpg", "lost.jpg"], "no such file")
    assert said(data, "3 images left out because missing: b.jpg, gone.jpg, lost.jpg")


def test_all_photos_missing_is_an_error(folder: Folder) -> None:
    root = folder(THREE, ["other.jpg"])
    assert "is in or below" in refusal(root)
    message = refusal(root, images=root / "images")
    assert "none of the 3 images of labels.csv is in or below" in message and "(first: c.jpg)" in message
    assert message.endswith("name their folder with --images")
    assert "--images must name a folder" in refusal(root, images=root / "labels.csv")
    assert "--images must name a folder" in refusal(root, images=root / "nowhere")


def test_a_folder_without_a_table_or_no_path_at_all(tmp_path: Path) -> None:
    assert "no labels.csv" in refusal(tmp_path)
    (tmp_path / "train.csv").write_text("image,labels\na.jpg,dog\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "other.csv").write_text("image,labels\na.jpg,dog\n")
    assert "found: other.csv, train.csv, images/. Name the table or file itself" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["../outside.jpg", "x/../../outside.jpg", "ABSOLUTE"])
def test_a_path_that_leaves_the_folder_is_refused(name: str, folder: Folder, photos: Photos) -> None:
    root = folder(THREE, ["a.jpg", "b.jpg", "c.jpg"])
    photos(root, ["outside.jpg"])
    name = str(root / "outside.jpg") if name == "ABSOLUTE" else name
    (root / "labels.csv").write_text(f"{THREE}{name},dog\n", encoding="utf-8")
    message = refusal(root, images=root / "images")
    assert f"line 5: the image '{name}' is outside the folder {root.resolve() / 'images'}" in message


def test_folders_that_lead_nowhere_are_dropped_where_all_names_share_them(folder: Folder) -> None:
    table = "image,labels\nold/place/sub/a.jpg,dog\nold/place/b.jpg,cat\n"
    root = folder(table, ["sub/a.jpg", "b.jpg"])
    for images in (None, root / "images"):
        data = read(root, images=images)
        assert data.names == ["sub/a.jpg", "b.jpg"]
        assert data.root == (root / "images").resolve()
    (root / "labels.csv").write_text(table + "new/b.jpg,dog\n", encoding="utf-8")
    assert "'old/place/b.jpg' and 'new/b.jpg' in the table match the same file" in refusal(root)


def test_a_path_that_stays_inside_is_taken(folder: Folder) -> None:
    root = folder("", ["a.jpg", "b.jpg", "sub/c.jpg"])
    inside = (root / "images" / "b.jpg").resolve()
    (root / "labels.csv").write_text(
        f"image,labels\n./x/../a.jpg,dog\n{inside},cat\nsub//c.jpg,dog\n", encoding="utf-8"
    )
    assert read(root, images=root / "images").names == ["a.jpg", "b.jpg", "sub/c.jpg"]


def test_a_sibling_with_the_same_beginning_is_outside(folder: Folder, photos: Photos) -> None:
    root = folder(THREE + "../images2/d.jpg,dog\n", ["a.jpg", "b.jpg", "c.jpg"])
    photos(root / "images2", ["d.jpg"])
    assert "is outside the folder" in refusal(root, images=root / "images")


def test_a_folder_in_the_place_of_a_photo_is_missing(folder: Folder) -> None:
    root = folder(THREE, ["a.jpg", "c.jpg"])
    (root / "images" / "b.jpg").mkdir()
    assert list(read(root).left_out) == ["b.jpg"]


def test_identical_content_shares_a_group(folder: Folder) -> None:
    root = folder("image,labels\na.jpg,dog\nb.jpg,cat\nc.jpg,dog\nd.jpg,cat\n", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    (root / "images" / "c.jpg").write_bytes((root / "images" / "a.jpg").read_bytes())
    data = read(root)
    assert data.groups.tolist() == [0, 1, 0, 2]
    assert said(data, "1 image with the same content as another: they stay together in a split")


def test_rows_that_agree_are_merged(folder: Folder) -> None:
    table = "image,dog,cat\nb.jpg,1,\na.jpg,0,1\n./b.jpg,1,0\nb.jpg,?,0\n"
    data = read(folder(table, ["a.jpg", "b.jpg"]))
    assert data.names == ["b.jpg", "a.jpg"]
    assert data.targets.tolist() == [[1, 0], [0, 1]]
    assert said(data, "1 image listed more than once with the same labels: merged")
    assert data.repeats == {"b.jpg": (2, 4, 5)}
    assert data.disputed == {}


CONFLICT = "image,labels\na.jpg,dog|cat\nb.jpg,dog\nc.jpg,cat\na.jpg,dog|bird\nc.jpg,cat\nb.jpg,cat\nd.jpg,bird\n"


def test_rows_that_conflict_are_refused_naming_photos_lines_and_the_flag(folder: Folder) -> None:
    message = refusal(folder(CONFLICT, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]), ConflictError)
    assert message.startswith(
        "2 images with labels that contradict each other: a.jpg (lines 2, 5), b.jpg (lines 3, 7);"
    )
    assert "--conflicts unknown (only the disputed labels become unknown), union or drop" in message


def test_a_hundred_conflicts_are_all_named(folder: Folder) -> None:
    names = [f"i{i}.jpg" for i in range(100)]
    rows = [f"{name},{labels}" for labels in ("dog|bird", "cat|bird") for name in names]
    message = refusal(folder("\n".join(["image,labels", *rows]), names), ConflictError)
    assert all(f"i{i}.jpg (lines {i + 2}, {i + 102})" in message for i in range(100))


@pytest.mark.parametrize(
    "conflicts, first, names",
    [
        ("unknown", [[1, -1, -1], [-1, -1, 0]], ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]),
        ("union", [[1, 1, 1], [1, 1, 0]], ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]),
        ("drop", [], ["c.jpg", "d.jpg"]),
    ],
)
def test_conflicts_are_settled_as_asked(
    conflicts: str, first: list[list[int]], names: list[str], folder: Folder
) -> None:
    data = read(folder(CONFLICT, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]), conflicts=conflicts)
    assert data.labels == ("dog", "cat", "bird")
    assert data.names == names
    assert data.targets.tolist() == [*first, [0, 1, 0], [0, 0, 1]]
    assert said(data, "1 image listed more than once with the same labels: merged")
    assert said(data, "2 images with contradicting labels: ")
    dropped = dict.fromkeys(["a.jpg", "b.jpg"], "its rows conflict") if conflicts == "drop" else {}
    assert dict(data.left_out) == dropped
    assert data.repeats == {"a.jpg": (2, 5), "b.jpg": (3, 7), "c.jpg": (4, 6)}
    assert data.disputed == {"a.jpg": ("cat", "bird"), "b.jpg": ("dog", "cat")}


@pytest.mark.parametrize(
    "conflicts, targets", [("unknown", [[1, -1], [0, 1]]), ("union", [[1, 1], [0, 1]]), ("drop", [[0, 1]])]
)
def test_names_against_columns_is_a_conflict_too(conflicts: str, targets: list[list[int]], folder: Folder) -> None:
    root = folder("image,labels,dog,cat\na.jpg,dog,1,1\nb.jpg,cat,0,1\n", ["a.jpg", "b.jpg"])
    assert "1 image with labels that contradict each other: a.jpg (line 2);" in refusal(root, ConflictError)
    data = read(root, conflicts=conflicts)
    assert data.targets.tolist() == targets
    assert data.disputed == {"a.jpg": ("cat",)} and data.repeats == {}


def test_settings_that_cannot_be(folder: Folder) -> None:
    root = folder(CONFLICT, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    assert "unknown, union, drop, not 'merge'" in refusal(root, SettingsError, conflicts="merge")
    assert "has no column 'photo' (--image-column)" in refusal(root, image_column="photo")
    (root / "labels.csv").write_text("image,dog,cat\na.jpg,1,0\na.jpg,0,1\n", encoding="utf-8")
    assert "all images were left out because their rows conflict" in refusal(root, conflicts="drop")


def test_columns_can_be_named(folder: Folder) -> None:
    root = folder("pic,old,new\na,dog,cat\nb,dog,bird\n", ["a.jpg", "b.jpg"])
    data = read(root, image_column="pic", label_column="new")
    assert data.labels == ("cat", "bird") and data.targets.tolist() == [[1, 0], [0, 1]]


def test_a_given_split_is_kept(folder: Folder) -> None:
    table = (
        "image,labels,split\na.jpg,dog,train\nb.jpg,cat,val\nc.jpg,cat,test\na.jpg,dog,training\ngone.jpg,dog,test\n"
    )
    root = folder(table, ["a.jpg", "b.jpg", "c.jpg"])
    data = read(root)
    assert data.parts is not None
    assert data.parts.tolist() == ["train", "validation", "test"]
    (root / "labels.csv").write_text(table + "b.jpg,cat,test\n", encoding="utf-8")
    assert "b.jpg is listed in two parts of the split (lines 3, 7): put it into one" in refusal(root)


def test_groups_and_contents_are_joined(folder: Folder) -> None:
    """a and c share a name, c and d their content, d's first row and e a name; b, f, g stand alone."""
    rows = ["a.jpg,dog,scene 1", "b.jpg,cat,", "c.jpg,dog,scene  1", "d.jpg,dog,x", "e.jpg,cat,x", "f.jpg,cat,"]
    root = folder(
        "\n".join(["image,labels,group", *rows, "g.jpg,dog,z", "d.jpg,dog,y"]), [f"{x}.jpg" for x in "abcdefg"]
    )
    (root / "images" / "d.jpg").write_bytes((root / "images" / "c.jpg").read_bytes())
    data = read(root)
    assert data.groups.tolist() == [0, 1, 0, 0, 0, 2, 3]
    assert said(data, ", groups in column 'group'")
    assert said(data, "1 group of several images: each stays together in a split")
    assert said(data, "1 image with the same content as another")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["", "a", "b", "1", "two words"]), min_size=6, max_size=6))
def test_photos_of_one_group_cell_are_one_group(stand_ins: Path, cells: list[str]) -> None:
    rows = [f"image{i}.jpg,l{i % 2},{cell}" for i, cell in enumerate(cells)]
    (stand_ins / "labels.csv").write_text("image,labels,Group ID\n" + "\n".join(rows), encoding="utf-8")
    if set(cells) <= {"", "1"}:
        cells = [""] * 6  # all zeros and ones: by its cells a label
    groups = read(stand_ins).groups.tolist()
    for i in range(6):
        for j in range(i):
            assert (groups[i] == groups[j]) == (cells[i] != "" and cells[i] == cells[j])


def test_the_kaggle_files_conflicts(folder: Folder) -> None:
    head = 'Image_Name," Classes(motorcycle, truck, boat, , , tabla)",motorcycle,truck,boat,tabla\n'
    rows = "i1.jpg,  tabla ,0,0,0,1\ni2.jpg,  motorcycle truck,1,1,0,0\ni2.jpg,  motorcycle boat,1,0,1,0\n"
    data = read(folder(head + rows, ["i1.jpg", "i2.jpg"]), conflicts="unknown")
    assert data.labels == ("motorcycle", "truck", "boat", "tabla")
    assert data.targets.tolist() == [[0, 0, 0, 1], [1, -1, -1, 0]]
    assert str(data) == "2 images, 4 labels, 2 unknown entries"


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory, photos: Photos) -> Path:
    root = tmp_path_factory.mktemp("stand-ins")
    photos(root, 6)
    return root


@settings(deadline=None, max_examples=80)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 7), st.lists(st.sampled_from([0, 1, -1]), min_size=3, max_size=3)), min_size=1
    ),
    conflicts=st.sampled_from([None, "unknown", "union", "drop"]),
)
def test_any_rows_come_together_as_promised(
    stand_ins: Path, rows: list[tuple[int, list[int]]], conflicts: str | None
) -> None:
    """Photos 6 and 7 do not exist; the model below knows each cell of a photo as the set of values its rows give."""
    rows = [(0, [1, 1, 1]), *rows]
    cells = {1: "1", 0: "0", -1: "?"}
    lines = [f"image{number}.jpg,{','.join(cells[value] for value in values)}" for number, values in rows]
    (stand_ins / "labels.csv").write_text("image,a,b,c\n" + "\n".join(lines), encoding="utf-8")

    given: dict[int, list[set[int]]] = {}
    for number, values in rows:
        for known, value in zip(given.setdefault(number, [set(), set(), set()]), values, strict=True):
            known.update({value} - {-1})
    disputed = {number for number, cells in given.items() if {0, 1} in cells}
    if disputed and conflicts is None:
        message = refusal(stand_ins, ConflictError)
        assert all((f"image{number}.jpg (lines " in message) == (number in disputed) for number in given)
        return
    kept = [number for number in given if number < 6 and not (conflicts == "drop" and number in disputed)]
    if not kept:
        refusal(stand_ins, conflicts=conflicts)
        return
    data = read(stand_ins, conflicts=conflicts)
    clash = -1 if conflicts == "unknown" else 1
    expected = [[clash if len(known) == 2 else max(known, default=-1) for known in given[number]] for number in kept]
    assert data.names == [f"image{number}.jpg" for number in kept]
    assert data.targets.tolist() == expected
    gone = {number for number in given if number not in kept}
    assert set(data.left_out) == {f"image{number}.jpg" for number in gone}


def test_the_order_of_many_rows_is_the_files(folder: Folder) -> None:
    order = np.random.default_rng(0).permutation(50)
    names = [f"i{i}.jpg" for i in order]
    data = read(folder("image,labels\n" + "\n".join(f"{name},l{i % 7}" for i, name in enumerate(names)), names))
    assert data.names == names
    assert data.labels == tuple(f"l{i}" for i in range(7))
    assert all(before < after for before, after in pairwise(data.groups.tolist()))

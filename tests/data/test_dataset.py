"""Dataset: selections keep rows together, what is left out is said, and the fingerprint follows the content."""

import os
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.data.dataset import Dataset
from polytag.errors import DataError
from polytag.photos.groups import connected, grouped
from polytag.photos.pixels import pixels

Photos = Callable[..., list[str]]


def dataset(n: int, k: int = 3, seed: int = 0, root: Path = Path("/photos")) -> Dataset:
    random = np.random.default_rng(seed)
    return Dataset(
        paths=np.array([str(root / f"image{i}.jpg") for i in range(n)], dtype=np.str_),
        targets=random.integers(-1, 2, (n, k), dtype=np.int8),
        labels=tuple(f"label{j}" for j in range(k)),
        groups=random.integers(0, max(n, 1), n),
        root=root,
        parts=random.choice(["train", "validation", "test"], n),
        notes=("read",),
        left_out={"gone.jpg": "no such file"},
        repeats={"image0.jpg": (2, 5)},
        disputed={"image0.jpg": ("label1",)},
    )


def rows_of(data: Dataset) -> list[tuple[object, ...]]:
    assert data.parts is not None
    columns = (data.paths, data.targets.tolist(), data.groups, data.parts)
    return [
        (str(path), tuple(target), int(group), str(part)) for path, target, group, part in zip(*columns, strict=True)
    ]


@settings(deadline=None, max_examples=80)
@given(st.data(), st.integers(0, 12))
def test_take_takes_whole_rows(data: st.DataObject, n: int) -> None:
    whole = dataset(n, seed=n)
    before = rows_of(whole)
    rows = data.draw(st.lists(st.integers(-n, n - 1), max_size=15) if n else st.just([]))
    mask = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    assert rows_of(whole.take(rows)) == [before[row] for row in rows]
    assert rows_of(whole.take(mask)) == [row for row, chosen in zip(before, mask, strict=True) if chosen]
    taken = whole.take(rows)
    for kept in (taken, whole.take(mask)):
        assert (kept.labels, kept.root, kept.notes, kept.left_out) == (
            whole.labels,
            whole.root,
            ("read",),
            whole.left_out,
        )
        assert (kept.repeats, kept.disputed) == ({"image0.jpg": (2, 5)}, {"image0.jpg": ("label1",)})
    assert len(taken) == len(rows)
    assert taken.targets.dtype == np.int8
    assert rows_of(whole) == before


@settings(deadline=None, max_examples=80)
@given(st.data(), st.integers(1, 12))
def test_without_leaves_out_exactly_the_named(data: st.DataObject, n: int) -> None:
    whole = dataset(n, seed=n)
    bad = data.draw(
        st.dictionaries(st.sampled_from([*whole.paths.tolist(), "/photos/stranger.jpg"]), st.just("damaged"))
    )
    gone = [row for row in rows_of(whole) if row[0] in bad]
    if len(gone) == n:
        with pytest.raises(DataError, match=f"none of the {n} images can be read: image0.jpg \\(damaged\\)"):
            whole.without(bad)
        return
    rest = whole.without(bad)
    assert rows_of(rest) == [row for row in rows_of(whole) if row[0] not in bad]
    assert dict(rest.left_out) == {"gone.jpg": "no such file"} | {Path(str(row[0])).name: "damaged" for row in gone}
    if not gone:
        assert rest is whole
        return
    assert rest.notes[:-1] == whole.notes
    assert (rest.repeats, rest.disputed) == (whole.repeats, whole.disputed)
    plural = "image" if len(gone) == 1 else "images"
    assert rest.notes[-1].startswith(f"{len(gone)} {plural} left out because unreadable: ")
    assert rest.notes[-1].count("(damaged)") == min(len(gone), 5)


def test_unreadable_photos_are_left_out_with_their_reasons(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, 5)
    (tmp_path / "image1.jpg").write_bytes(b"text")
    (tmp_path / "image2.jpg").write_bytes(b"")
    (tmp_path / "image3.jpg").write_bytes((tmp_path / "image3.jpg").read_bytes()[:300])
    whole = dataset(5, root=tmp_path)
    rest = whole.without(pixels(whole.paths, 16)[2])
    assert rest.names == ["image0.jpg", "image4.jpg"]
    assert rest.left_out["image1.jpg"].startswith("not an image")
    assert rest.left_out["image2.jpg"] == "the file is empty"
    assert rest.left_out["image3.jpg"].startswith("damaged: ")
    assert "3 images left out because unreadable: image1.jpg (not an image" in rest.notes[-1]


def test_names_are_relative_to_the_root() -> None:
    data = replace(dataset(2), paths=np.array(["/photos/sub/a b.jpg", "/photos/ä.jpg"]))
    assert data.names == ["sub/a b.jpg", "ä.jpg"]


def test_it_says_what_it_holds() -> None:
    data = replace(dataset(3), targets=np.array([[1, 0, 1], [0, -1, 0], [-1, 1, 0]], dtype=np.int8))
    assert str(data) == "3 images, 3 labels, 2 unknown entries"
    assert str(data.take([0])) == "1 image, 3 labels"
    assert str(data.take([1])) == "1 image, 3 labels, 1 unknown entry"


def test_nothing_can_be_changed() -> None:
    data = dataset(3)
    with pytest.raises(FrozenInstanceError):
        data.labels = ()  # type: ignore[misc]
    for array in (data.paths, data.targets, data.groups, data.parts, data.take([0, 1]).targets):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]


@pytest.mark.parametrize(
    "wrong", [{"targets": np.zeros((3, 2), np.int8)}, {"groups": np.arange(4)}, {"parts": np.array(["test"])}]
)
def test_columns_of_other_lengths_are_refused(wrong: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataError, match=r"a dataset of 3 paths needs targets \(3, 3\) and 3 groups"):
        replace(dataset(3), **wrong)  # type: ignore[arg-type]


def test_the_fingerprint_follows_content_labels_and_their_order(tmp_path: Path, photos: Photos) -> None:
    paths = photos(tmp_path / "first", 3)
    data = replace(dataset(3), paths=np.array(paths), root=tmp_path / "first")
    fingerprint = data.fingerprint
    assert len(fingerprint) == 16
    assert int(fingerprint, 16) >= 0
    os.rename(tmp_path / "first", tmp_path / "second")
    moved = replace(data, paths=np.array([path.replace("/first/", "/second/") for path in paths]))
    assert moved.fingerprint == fingerprint

    targets = data.targets.copy()
    targets[1, 1] = (targets[1, 1] + 2) % 3 - 1
    others = [
        replace(moved, targets=targets),
        replace(moved, labels=moved.labels[::-1]),
        replace(moved, labels=("label0", "label1", "other")),
        moved.take([1, 0, 2]),
        moved.take([0, 1]),
    ]
    (tmp_path / "second" / "image2.jpg").write_bytes(b"changed")
    others.append(replace(moved))
    assert len({fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


def test_groups_are_numbered_by_content(tmp_path: Path) -> None:
    contents = [b"x", b"y", b"x", b"", b"y", b"z"]
    paths = []
    for i, content in enumerate(contents):
        paths.append(str(tmp_path / str(i)))
        Path(paths[-1]).write_bytes(content)
    groups = grouped(paths)
    assert groups.tolist() == [0, 1, 0, 2, 1, 3]
    assert groups.dtype == np.int64
    assert grouped([]).shape == (0,)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 12), st.data())
def test_what_is_linked_shares_a_number(n: int, data: st.DataObject) -> None:
    thing = st.integers(0, n - 1)
    links = data.draw(st.lists(st.tuples(thing, thing), max_size=15))
    numbers = connected(n, links)
    assert numbers.shape == (n,) and numbers.dtype == np.int64
    reached = np.eye(n, dtype=int)
    for a, b in links:
        reached[a, b] = reached[b, a] = 1
    together = np.linalg.matrix_power(reached, n) > 0
    assert ((numbers[:, None] == numbers) == together).all()
    # Numbered from 0 in order of first appearance.
    assert list(dict.fromkeys(numbers.tolist())) == list(range(numbers.max() + 1))


def test_nothing_can_be_linked_too() -> None:
    assert connected(0, []).shape == (0,)


@pytest.mark.parametrize("name", ["a.jpg", "b/c.jpg", "b//c.jpg", "./a.jpg", ".hidden/a.jpg", "b/../a.jpg", "../a.jpg"])
def test_names_are_normalised(name: str) -> None:
    for root in ("/photos", "/photos/", "/photos/../photos"):
        path = f"/photos/{name}"
        data = Dataset(np.array([path]), np.zeros((1, 1), np.int8), ("cat",), np.arange(1), Path(root))
        assert data.names == [Path(os.path.relpath(path, root)).as_posix()]

"""Splits: groups stay together, labels keep their shares, given splits are honoured, hopeless data is refused."""

import csv
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from polytag import read
from polytag.data.dataset import PARTS, Dataset
from polytag.data.splitting.groups import leaks
from polytag.data.splitting.learnable import unlearnable
from polytag.data.splitting.refine import refine
from polytag.data.splitting.split import shares, split
from polytag.data.splitting.split_file import with_split, write_split
from polytag.data.splitting.stratify import RATIOS
from polytag.errors import DataError, PolytagError, SettingsError

Photos = Callable[..., list[str]]
Parts = tuple[Dataset, Dataset, Dataset]


def dataset(targets: ArrayLike, groups: ArrayLike | None = None, parts: ArrayLike | None = None) -> Dataset:
    targets = np.asarray(targets, dtype=np.int8)
    n, k = targets.shape
    return Dataset(
        paths=np.array([f"/photos/image{i}.jpg" for i in range(n)]),
        targets=targets,
        labels=tuple(f"label{j}" for j in range(k)),
        groups=np.arange(n) if groups is None else np.asarray(groups, dtype=np.int64),
        root=Path("/photos"),
        parts=None if parts is None else np.asarray(parts),
    )


def names(parts: Parts) -> list[set[str]]:
    return [set(part.names) for part in parts]


def present(parts: Parts) -> NDArray[np.int64]:
    """int (3, k): how often each label is in each part."""
    return np.stack([(part.targets == 1).sum(axis=0) for part in parts])


def assert_partition(data: Dataset, parts: Parts) -> None:
    assert sum(map(len, parts)) == len(data)
    assert set().union(*names(parts)) == set(data.names)
    assert not leaks(parts)
    assert not set(parts[0].groups) & set(parts[1].groups)
    rows = {path: target.tolist() for path, target in zip(data.paths, data.targets, strict=True)}
    assert all(rows[path] == row.tolist() for part in parts for path, row in zip(part.paths, part.targets, strict=True))


def assert_balanced(data: Dataset, parts: Parts, least: float = 3) -> None:
    """Each label's count within max(least, 2 % of the label's images) of its due, and the sizes likewise."""
    everything = np.column_stack([data.targets == 1, np.ones(len(data), bool)]).sum(axis=0)
    have = np.column_stack([present(parts), [len(part) for part in parts]])
    off = np.abs(have - np.outer(RATIOS, everything))
    assert (off <= np.maximum(least, 0.02 * everything)).all(), off.max(axis=0)


def refusal(make: Callable[[], object], error: type[PolytagError] = DataError) -> str:
    with pytest.raises(error) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def draw_targets(n: int, frequencies: ArrayLike, seed: int = 0) -> NDArray[np.int8]:
    return (np.random.default_rng(seed).random((n, len(np.asarray(frequencies)))) < frequencies).astype(np.int8)


@pytest.mark.parametrize("n", [60, 400, 3000])
@pytest.mark.parametrize("duplicates", [False, True])
def test_labels_keep_their_shares(n: int, duplicates: bool) -> None:
    targets = draw_targets(n, [0.5, 0.3, 0.2, 0.1, 0.05, 0.9], seed=n)
    data = dataset(targets, np.random.default_rng(n).integers(0, 2 * n // 3, n) if duplicates else None)
    parts = split(data, seed=1)
    assert_partition(data, parts)
    assert_balanced(data, parts)


def test_labels_of_the_kaggle_kind_keep_their_shares() -> None:
    """Combinations as frequent as in the data set that polytag was made for, a fifth of its size."""
    combinations = {"0": 313, "1": 290, "2": 224, "3": 180, "4": 132, "5": 117, "6": 34, "65": 31, "57": 29, "8": 29}
    combinations |= {"857": 26, "85": 25, "657": 24, "9": 24, "23": 23, "7": 22, "95": 22, "20": 21, "9657": 21}
    rows = [[str(j) in labels for j in range(10)] for labels, count in combinations.items() for _ in range(count)]
    data = dataset(rows)
    for seed in range(3):
        parts = split(data, seed=seed)
        assert_partition(data, parts)
        assert_balanced(data, parts)


def test_groups_of_5_to_20_photos_stay_together() -> None:
    random = np.random.default_rng(5)
    groups = np.repeat(np.arange(250), random.integers(5, 21, 250))
    # A burst shows one scene: its photos share their labels, but for a few.
    targets = draw_targets(250, [0.5, 0.3, 0.2, 0.1], seed=5)[groups]
    targets ^= (random.random(targets.shape) < 0.05).astype(np.int8)
    order = random.permutation(len(groups))
    data = dataset(targets[order], groups[order])
    for seed in range(3):
        parts = split(data, seed=seed)
        assert_partition(data, parts)
        assert_balanced(data, parts, least=10)  # half a large group


def test_rare_labels_are_in_all_parts() -> None:
    targets = np.zeros((500, 8), np.int8)
    targets[:, 0] = np.arange(500) % 2
    random = np.random.default_rng(2)
    for label, count in zip(range(1, 8), (3, 3, 4, 5, 6, 10, 20), strict=True):
        targets[random.choice(500, count, replace=False), label] = 1
    for seed in range(5):
        assert (present(split(dataset(targets), seed=seed)) > 0).all()


def test_labels_of_two_groups_are_in_training() -> None:
    targets = np.zeros((300, 9), np.int8)
    targets[:, 0] = np.arange(300) % 2
    random = np.random.default_rng(4)
    for label, count in zip(range(1, 9), (1, 2, 2, 2, 2, 2, 3, 5), strict=True):
        targets[random.choice(300, count, replace=False), label] = 1
    for seed in range(5):
        parts = split(dataset(targets), seed=seed)
        counts = present(parts)
        assert (counts[0, 2:7] == 2).all(), "one group says too little to learn from"
        assert (counts[:, 7:] > 0).all()
        assert [len(part) for part in parts] == pytest.approx([210, 45, 45], abs=3)


def test_labels_that_are_never_present_do_not_stop_a_split() -> None:
    targets = np.column_stack([draw_targets(60, [0.5, 0.3]), np.zeros(60, np.int8)])
    assert_partition(data := dataset(targets), split(data))


def test_combinations_are_shared_out_too() -> None:
    """Each label's count alone would leave it to luck where a combination of two frequent labels goes."""
    combinations = np.repeat([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], [200, 200, 100, 20, 14], axis=0)
    for seed in range(5):
        data = dataset(np.random.default_rng(seed).permutation(combinations).astype(np.int8))
        for both, due in (([1, 1, 0], (14, 3, 3)), ([0, 1, 1], (10, 2, 2))):
            have = [int((part.targets == both).all(axis=1).sum()) for part in split(data, seed=seed)]
            assert np.abs(np.subtract(have, due)).max() <= 1, (seed, both, have)


def test_a_missing_label_is_mended_by_two_moves_where_no_single_one_helps() -> None:
    carried = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 0]])
    counts = np.column_stack([carried, np.ones(5, int)]).astype(np.uint8)
    start, rng = np.array([1, 2, 2, 1, 2]), np.random.default_rng(0)
    assigned = refine(counts, 3, start, np.asarray(RATIOS), rng)
    assert all(carried[assigned == part].any(axis=0).all() for part in range(3))


def can_be_everywhere(targets: NDArray[np.int8], groups: NDArray[np.int64], wanted: list[int]) -> bool:
    """Whether any of the 3^groups splits has each wanted label in all parts."""
    numbers = np.unique(groups)
    splits = np.array(list(product(range(3), repeat=len(numbers))))
    good = np.ones(len(splits), bool)
    for label in wanted:
        carriers = splits[:, np.isin(numbers, groups[targets[:, label] == 1])]
        for part in range(3):
            good &= (carriers == part).any(axis=1)
    return bool(good.any())


@settings(deadline=None, max_examples=120)
@given(st.integers(4, 9), st.integers(1, 4), st.floats(0.2, 0.7), st.integers(0, 10**6), st.integers(0, 3))
def test_any_small_matrix_is_split_as_well_as_it_can_be(
    n_groups: int, k: int, frequency: float, draw: int, seed: int
) -> None:
    random = np.random.default_rng(draw)
    groups = random.permutation(np.concatenate([np.arange(n_groups), random.integers(0, n_groups, n_groups)]))
    targets = random.choice([1, 0, -1], (len(groups), k), p=[frequency, 0.95 - frequency, 0.05]).astype(np.int8)
    targets[:2] = [[0], [1]]
    data = dataset(targets, groups)
    assume(len(unlearnable(data)) < k)
    parts = split(data, seed=seed)
    assert_partition(data, parts)
    assert all(map(len, parts))
    wanted = [label for label in range(k) if len(np.unique(groups[targets[:, label] == 1])) >= 3]
    if not (present(parts)[:, wanted] > 0).all():
        assert not can_be_everywhere(targets, groups, wanted)


@settings(deadline=None, max_examples=30)
@given(st.integers(30, 250), st.integers(1, 12), st.integers(0, 10**6), st.integers(1, 12))
def test_any_matrix_with_any_groups_is_partitioned(n: int, k: int, draw: int, group_size: int) -> None:
    random = np.random.default_rng(draw)
    targets = draw_targets(n, random.uniform(0.02, 0.9, k), seed=draw)
    targets[:2] = [[0], [1]]
    data = dataset(targets, random.integers(0, max(3 * k, n // group_size), n))
    assume(len(unlearnable(data)) < k)
    parts = split(data, seed=draw)
    assert_partition(data, parts)
    again = split(data, seed=draw)
    assert names(parts) == names(again)


def test_the_seed_decides() -> None:
    data = dataset(draw_targets(300, [0.5, 0.2, 0.1]), np.arange(300) // 2)
    global_state = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    splits = [names(split(data, seed=seed)) for seed in (0, 0, 1, 2)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2] != splits[3] != splits[0]
    assert (np.random.get_state()[1] == global_state).all()  # type: ignore[index]


def test_other_ratios() -> None:
    data = dataset(draw_targets(200, [0.5, 0.2]))
    assert [len(part) for part in split(data, (0.5, 0.25, 0.25))] == pytest.approx([100, 50, 50], abs=3)
    for ratios in ((0.5, 0.5), (0.8, 0.2, 0), (0.5, 0.2, 0.2), (1.2, -0.1, -0.1)):
        assert "three positive fractions that sum to 1" in refusal(lambda r=ratios: split(data, r), SettingsError)


def test_photos_without_labels_are_shared_out_too() -> None:
    targets = np.zeros((200, 2), np.int8)
    targets[:60, 0] = targets[50:80, 1] = 1
    bare = [int((part.targets == 0).all(axis=1).sum()) for part in split(dataset(targets))]
    assert bare == pytest.approx([84, 18, 18], abs=3)


def test_fewer_different_images_than_parts_are_refused() -> None:
    data = dataset([[1, 0], [0, 1], [1, 0], [0, 1]], [0, 1, 0, 1])
    assert "2 different images: expected at least 3, one for each part" in refusal(lambda: split(data))
    three = dataset([[1, 0], [0, 1], [1, 1]])
    assert [len(part) for part in split(three)] == [1, 1, 1]


def test_a_split_column_is_honoured() -> None:
    given = np.random.default_rng(0).choice(PARTS, 50)
    data = dataset(draw_targets(50, [0.5, 0.3]), parts=given)
    parts = split(data, seed=3)
    for name, part in zip(PARTS, parts, strict=True):
        assert part.names == [f"image{i}.jpg" for i in np.flatnonzero(given == name)]


def test_a_given_split_without_validation_gets_one_from_train() -> None:
    given = np.array(["train"] * 170 + ["test"] * 30)
    data = dataset(draw_targets(200, [0.5, 0.2]), np.arange(200) // 2, given)
    train, validation, test = split(data, seed=0)
    assert test.names == [f"image{i}.jpg" for i in range(170, 200)]
    assert len(validation) == pytest.approx(0.15 * 170, abs=3)
    assert_partition(data, (train, validation, test))
    expected = 0.15 * (data.targets[:170] == 1).sum(axis=0)
    assert np.abs((validation.targets == 1).sum(axis=0) - expected).max() <= 3
    assert data.parts is not None
    assert set(data.parts) == {"train", "test"}
    assert names(split(data, seed=0)) != names(split(data, seed=1))


def test_a_given_split_without_training_part_is_refused() -> None:
    data = dataset(draw_targets(40, [0.5, 0.3]), parts=np.array(["test", "validation"] * 20))
    assert "the split leaves train empty" in refusal(lambda: split(data))


@pytest.mark.parametrize("there", [["train", "validation"], ["train"]])
def test_parts_that_a_given_split_lacks_are_drawn_from_its_training_part(there: list[str]) -> None:
    given = np.array((there * 200)[:200])
    parts = split(dataset(draw_targets(200, [0.5, 0.3]), parts=given), seed=1)
    n_train = int((given == "train").sum())
    assert len(parts[2]) == pytest.approx(0.15 * n_train, abs=3)
    kept = set(np.flatnonzero(given == "validation").tolist())
    if "validation" in there:
        assert parts[1].names == [f"image{i}.jpg" for i in sorted(kept)]
    assert parts[0].notes[-1].startswith("the given split lacks a ")
    assert f"a test part ({len(parts[2])} images)" in parts[0].notes[-1]


def test_a_written_split_reads_back(tmp_path: Path, photos: Photos) -> None:
    files = [f"ordner {i % 3}/bild, „{i}“.jpg" for i in range(40)]
    photos(tmp_path / "images", files)
    (tmp_path / "images" / files[7]).write_bytes((tmp_path / "images" / files[8]).read_bytes())
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["image", "labels"], *([name, "abc"[i % 3]] for i, name in enumerate(files))])
    data = read(tmp_path)
    parts = split(data, seed=5)
    path = tmp_path / "split.csv"
    write_split(path, *parts)
    head, *rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
    assert head == ["image", "part", "group"]
    assert sorted(row[0] for row in rows) == sorted(files)
    assert {(row[0], row[1]) for row in rows} == {
        (name, part) for part, photos_of in zip(PARTS, names(parts), strict=True) for name in photos_of
    }
    again = split(data, seed=6, given=path)
    assert names(again) == names(parts)
    assert [part.paths.tolist() for part in again] == [part.paths.tolist() for part in parts]
    # The same file still fits when a photo has gone.
    fewer = split(data.take(np.arange(1, 40)), given=str(path))
    assert names(fewer) == [part - {files[0]} for part in names(parts)]


def test_a_split_file_without_validation_gets_one(tmp_path: Path) -> None:
    data = dataset(draw_targets(100, [0.5, 0.2]))
    path = tmp_path / "split.csv"
    lines = [f"image{i}.jpg,{'Training' if i < 80 else ' TEST '}" for i in range(100)]
    path.write_text("\ufeffimage,part\r\n" + "\r\n".join(lines), encoding="utf-8")
    train, validation, test = split(data, given=path)
    assert test.names == [f"image{i}.jpg" for i in range(80, 100)]
    assert (len(train), len(validation)) == pytest.approx((68, 12), abs=2)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "has no columns 'image' and 'part'"),
        ("image,part\n", "lists none of the 4 images"),
        (
            "image,part\nother.jpg,train\n",
            "lists none of the 4 images (first: other.jpg, expected names such as image0",
        ),
        ("name,set\nimage0.jpg,train\n", "has no columns 'image' and 'part'"),
        (
            "image,part\nimage0.jpg,train\nimage1.jpg,trian\n",
            "line 3: 'trian' is not a part: expected train, validation",
        ),
        ("image,part\nimage0.jpg\n", "line 2: '' is not a part"),
        ("image,part\nimage0.jpg,train\nimage0.jpg,test\n", "line 3: image0.jpg is in two parts: put it into one"),
        (b"image,part\nim\xe4ge.jpg,train\n", "cannot be read"),
        ("image,part\nimage0.jpg,tr\0ain\n", "line 2: 'tr\0ain' is not a part"),
        ('image,part\nimage0.jpg,train\n\nimage1.jpg,"a\nb"\n', "line 5: 'a b' is not a part"),
        (None, "cannot be read (No such file or directory): expected a CSV with the columns image and part"),
    ],
)
def test_split_files_that_do_not_fit_are_refused(text: str | bytes | None, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    data = dataset([[1, 0], [0, 1], [1, 1], [0, 0]])
    message = refusal(lambda: with_split(data, path))
    assert expected in message
    assert "split.csv" in message
    assert refusal(lambda: split(data, given=path)) == message


@pytest.mark.parametrize("text", ["image,part", "filename;split", "Image Name\tsubset"])
def test_names_that_differ_between_split_and_data_are_counted(text: str, tmp_path: Path) -> None:
    mark = next(mark for mark in ",;\t" if mark in text)
    rows = [("old/image0.jpg", "train"), ("IMAGE1", "dev"), ("image2.png", "Test set"), ("gone.jpg", "train")]
    (tmp_path / "split.csv").write_text("\n".join([text, *(mark.join(row) for row in rows)]))
    data = with_split(dataset([[1, 0], [0, 1], [1, 1], [0, 0]]), tmp_path / "split.csv")
    assert data.parts is not None and data.parts.tolist() == ["train", "validation", "test"]
    assert data.names == ["image0.jpg", "image1.jpg", "image2.jpg"]
    assert dict(data.left_out) == {"image3.jpg": "not in the split file"}
    assert data.notes == (
        "1 image left out because the split does not list them: image3.jpg",
        "1 image listed only in the split: gone.jpg",
    )


def test_unknown_labels_do_not_count_as_present() -> None:
    targets = draw_targets(100, [0.5, 0.4]).astype(np.int8)
    targets[::7, 1] = -1
    data = dataset(targets)
    parts = split(data)
    assert_balanced(data, parts)
    assert sum((part.targets < 0).sum() for part in parts) == (targets < 0).sum()
    everywhere = replace(data, targets=np.where(targets == 0, np.int8(-1), targets))
    assert "no training photo lacks it" in refusal(lambda: split(everywhere))


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    parts = split(dataset(draw_targets(30, [0.5, 0.3])))
    (tmp_path / "folder").mkdir()
    for path, reason in ((tmp_path / "no" / "split.csv", "No such file"), (tmp_path / "folder", "Is a directory")):
        message = refusal(lambda path=path: write_split(path, *parts), SettingsError)
        assert f"{path} cannot be written ({reason}" in message
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_shares_count_photos_labels_and_combinations() -> None:
    rows = np.array([[1, 0, 0]] * 10 + [[1, 1, 0]] * 20 + [[0, 1, 1]] * 10 + [[0, 0, 1]] * 10)
    parts = split(dataset(rows))
    table = shares(parts)
    assert [what for what, *_ in table] == [
        "images", "label0", "label1", "label2", "label0 + label1", "label1 + label2"
    ]  # fmt: skip
    assert [total for _, total, _ in table] == [50, 30, 30, 20, 20, 10]
    assert all(sum(counts) == total and len(counts) == 3 for _, total, counts in table)
    assert table[0][2] == [len(part) for part in parts]
    assert [what for what, *_ in shares(parts, combinations=1)][-1] == "label0 + label1"


def test_training_photos_of_a_group_in_validation_are_left_out() -> None:
    given = np.array(["train", "train", "train", "validation", "test"] * 20)
    groups = np.arange(100)
    groups[3] = groups[0]
    groups[8] = groups[6] = groups[5]
    train, validation, test = split(dataset(draw_targets(100, [0.5, 0.3]), groups, given))
    assert (len(train), len(validation), len(test)) == (57, 20, 20)
    assert not np.isin(train.groups, validation.groups).any()
    assert train.notes[-1] == "3 training images left out: validation has images of the same groups"
    with pytest.raises(DataError, match="every training image"):
        split(dataset(draw_targets(100, [0.5, 0.3]), np.where(given == "test", groups, 0), given))

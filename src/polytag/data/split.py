"""Train, validation and test without leaks: iterative stratification over groups.

No library stratifies several labels and keeps groups together at once. Here every group of photos counts
as one example that carries all labels of its photos; iterative stratification (Sechidis, Tsoumakas &
Vlahavas 2011, as scikit-multilearn implements it) deals the groups out, and a short local search then
moves single groups until each label's count in each part is as near to its due as it gets.
"""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skmultilearn.model_selection import IterativeStratification

from polytag.data.dataset import Dataset
from polytag.data.duplicates import groups_of, recall_duplicates
from polytag.data.files import write_atomically
from polytag.data.measure import measure
from polytag.data.table import PART_NAMES
from polytag.errors import DataError, SettingsError, counted, listed

PARTS = ("train", "validation", "test")
RATIOS = (0.70, 0.15, 0.15)
COMBINATIONS = 100
"""How many of the commonest combinations of labels the split heeds, besides each label."""

GIANT = 0.2
"""Share of all photos from which on a group of look-alikes is not kept together."""


def split(
    dataset: Dataset,
    ratios: Sequence[float] = RATIOS,
    seed: int = 0,
    given: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int], object] = lambda n: None,
) -> tuple[Dataset, Dataset, Dataset]:
    """Split into train, validation and test.

    Photos of one group stay together, and so do photos that show the same picture (`keep_together`). Every
    label with three groups or more is in all three parts, unless other labels of the same few groups make that
    impossible. A split that comes with the data, as ``dataset.parts`` or a file, is taken as it is; where it
    names no validation part, one is taken from its training part.

    Args:
        dataset: the photos.
        ratios: the shares of the three parts, summing to 1.
        seed: the same seed gives the same split.
        given: a CSV file with the columns image and part, such as `write_split` writes.
        on_progress: called with the number of photos that were looked at.

    Raises:
        SettingsError: the ratios or the seed are out of range.
        DataError: there are too few images, a label is never or always present, or the given split does
            not fit the data.
    """
    if len(ratios) != 3 or min(ratios) <= 0 or abs(sum(ratios) - 1) > 1e-6:
        raise SettingsError(f"ratios must be three positive shares that sum to 1, not {tuple(ratios)}")
    if not 0 <= seed < 2**32:
        raise SettingsError(f"the seed must be from 0 to {2**32 - 1}, not {seed}")
    check_learnable(dataset)
    dataset = keep_together(dataset, on_progress=on_progress)
    parts = dataset.parts if given is None else read_split(given, dataset)
    if parts is None:
        numbers = _deal(dataset, np.arange(len(dataset)), ratios, seed)
        parts = np.array(PARTS)[numbers]
    elif not (parts == "validation").any():
        rows = np.flatnonzero(parts == "train")
        numbers = _deal(dataset, rows, (ratios[0] + ratios[2], ratios[1]), seed)
        parts = parts.astype(np.array(PARTS).dtype)  # wide enough for "validation", which "train" is not
        parts[rows[numbers == 1]] = "validation"
    empty = [part for part in PARTS if not (parts == part).any()]
    if empty:
        raise DataError(
            f"the split leaves {listed(empty)} empty: expected images in each of the three parts; add some there"
        )
    train, validation, test = (dataset.take(parts == part) for part in PARTS)
    return train, validation, test


def split_facts(
    dataset: Dataset, parts: Sequence[Dataset], seed: int, given: str | os.PathLike[str] | None
) -> dict[str, Any]:
    """How `split` came to these parts, and what there is to say of them: for a bundle to record."""
    own = f"a validation part that it lacks is taken from its training part (seed {seed})"
    if given is not None:
        how = f"as {Path(given).name} says; {own}"
    elif dataset.parts is not None:
        how = f"as the table of labels says; {own}"
    else:
        how = f"each part has its share of every label, and photos of one picture share a part (seed {seed})"
    return {"how": how, **{name: len(part) for name, part in zip(PARTS, parts, strict=True)}}


def keep_together(
    dataset: Dataset,
    embeddings: NDArray[np.float32] | None = None,
    on_progress: Callable[[int], object] = lambda n: None,
) -> Dataset:
    """The dataset with the groups of photos that show the same picture joined; its notes say how many there are.

    Where photos resemble each other so much that a fifth of them would hang together, as those of a fixed
    camera do, only its own groups and identical files are kept: such a set cannot be split by pictures.

    Args:
        dataset: the n photos.
        embeddings: float32 (n, d), rows of NaN where there is none; finds more copies.
        on_progress: called with the number of photos that became ready.
    """
    pairs = recall_duplicates(measure(dataset.paths, on_progress), embeddings)
    joined = groups_of(pairs, dataset.groups)
    largest = int(np.bincount(joined).max())
    if largest > np.bincount(groups_of([], dataset.groups)).max() and largest > max(GIANT * len(dataset), 20):
        note = (
            f"{counted(largest, 'image')} resemble each other too closely to be kept together: only identical files "
            "are; give the table a column 'group' to say what belongs together"
        )
        return replace(dataset, notes=(*dataset.notes, note))
    near = len(np.unique(dataset.groups)) - len(np.unique(joined))
    if not near:
        return dataset
    note = f"{counted(near, 'image')} with the picture of another (re-encoded, cropped, mirrored): kept together"
    return replace(dataset, groups=joined, notes=(*dataset.notes, note))


def check_learnable(dataset: Dataset) -> None:
    """Refuse data from which nothing can be learned.

    Raises:
        DataError: fewer images than labels, or a label that is never, or always, present.
    """
    n, k = len(dataset), len(dataset.labels)
    if n < max(k, 3):
        raise DataError(
            f"{counted(n, 'image')} for {counted(k, 'label')}: expected more images than labels, and 3 at least"
        )
    names = np.array(dataset.labels)
    for value, word, advice in ((1, "never", "add examples"), (0, "always", "add images without it")):
        same = names[(dataset.targets != value).all(axis=0)]
        if len(same):
            verb = "is" if len(same) == 1 else "are"
            raise DataError(
                f"{counted(len(same), 'label')} {verb} {word} present ({listed(list(same))}): nothing can be learned "
                f"from that; {advice} or take the label out of the table"
            )


def leaks(parts: Sequence[Dataset]) -> int:
    """How many groups of photos, as `keep_together` finds them, stand in more than one part."""
    seen: dict[int, int] = {}
    across: set[int] = set()
    for number, part in enumerate(parts):
        across |= {int(group) for group in np.unique(part.groups) if seen.setdefault(int(group), number) != number}
    return len(across)


def _deal(dataset: Dataset, rows: NDArray[np.int64], ratios: Sequence[float], seed: int) -> NDArray[np.int64]:
    """The part's number of each row, int64 (len(rows),)."""
    groups, member = np.unique(dataset.groups[rows], return_inverse=True)
    if len(groups) < len(ratios):
        raise DataError(
            f"{counted(len(groups), 'different image')}: expected at least {len(ratios)}, one for each part"
        )
    # Per group: how many of its photos carry each label, and how many photos there are.
    counts = np.zeros((len(groups), len(dataset.labels) + 1))
    np.add.at(counts, member, np.column_stack([dataset.targets[rows] == 1, np.ones(len(rows))]))
    order = np.random.default_rng(seed).permutation(len(groups))
    stratifier = IterativeStratification(
        n_splits=len(ratios), order=1, sample_distribution_per_fold=list(ratios), random_state=seed
    )
    present = (counts[order, :-1] > 0).astype(int)
    # Groups without any label would be dealt at random: give them a label of their own.
    present = np.column_stack([present, present.sum(axis=1) == 0])
    # The stratifier shuffles with the seed; it reports folds as test indices.
    assigned = np.zeros(len(groups), dtype=np.int64)
    for number, (_, fold) in enumerate(stratifier.split(np.zeros((len(groups), 1)), present)):
        assigned[order[fold]] = number
    return _refine(counts, _commonest(counts[:, :-1] > 0), assigned, np.asarray(ratios))[member]


def _commonest(present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Which of the commonest combinations of labels each group has: 0 or 1, float64 (groups, combinations)."""
    sets, which, count = np.unique(present, axis=0, return_inverse=True, return_counts=True)
    which = which.ravel()  # NumPy 2.0 alone keeps an axis
    chosen = [i for i in np.argsort(-count, kind="stable") if count[i] >= 1 / min(RATIOS) and sets[i].sum() > 1]
    return (which[:, None] == np.array(chosen[:COMBINATIONS], dtype=np.int64)).astype(np.float64)


def _refine(counts: NDArray, combinations: NDArray, assigned: NDArray[np.int64], ratios: NDArray) -> NDArray[np.int64]:
    """Move groups between parts while that brings the parts nearer to their due.

    The cost of part p is Σ over labels (count − due)² / due, and the same for combinations of labels and for the
    number of photos; a label that is missing from a part costs so much that it is always mended first. Where no
    single move helps and a label is still missing, a group that carries it is moved all the same if one more
    move makes good what that spoils.

    Args:
        counts: (groups, k + 1), photos of each group with each label; the last column counts photos.
        combinations: (groups, c), which groups have which combination; any part may lack one.
        assigned: int (groups,), the part of each group.
        ratios: (parts,), summing to 1.
    """
    scarce = np.zeros(counts.shape[1] + combinations.shape[1], dtype=bool)
    scarce[: counts.shape[1]] = (counts > 0).sum(axis=0) >= len(ratios)
    # Groups that count alike are interchangeable: it is kinds of them that move.
    kinds, kind = np.unique(np.hstack([counts, combinations]), axis=0, return_inverse=True)
    kind = kind.ravel()  # NumPy 2.0 alone keeps an axis
    members: list[list[list[int]]] = [[[] for _ in kinds] for _ in ratios]
    for group, part in enumerate(assigned.tolist()):
        members[part][kind[group]].append(group)
    stock = np.array([[len(groups) for groups in part] for part in members])
    have = stock @ kinds
    due = np.outer(ratios, have.sum(axis=0))
    weight = 1 / np.maximum(due, 1)

    def cost(have: NDArray, part: int) -> NDArray:
        return ((have - due[part]) ** 2 * weight[part] + 1e3 * (scarce & (have <= 0))).sum(axis=-1)

    def gains(which: NDArray[np.int64], source: int, target: int) -> NDArray:
        saved = cost(have[source], source) - cost(have[source] - kinds[which], source)
        return saved + cost(have[target], target) - cost(have[target] + kinds[which], target)

    def move(which: int, source: int, target: int) -> None:
        for part, sign in ((source, -1), (target, 1)):
            have[part] += sign * kinds[which]
            stock[part, which] += sign
        members[target][which].append(members[source][which].pop())

    def best_move() -> tuple[float, tuple[int, int, int]]:
        best = (0.0, (-1, -1, -1))
        for source, target in permutations(range(len(ratios)), 2):
            there = np.flatnonzero(stock[source])
            if len(there):
                gain = gains(there, source, target)
                top = int(np.argmax(gain))
                best = max(best, (float(gain[top]), (int(there[top]), source, target)))
        return best

    def best_pair() -> tuple[float, list[tuple[int, int, int]]]:
        best: tuple[float, list[tuple[int, int, int]]] = (0.0, [])
        for target, label in np.argwhere(scarce & (have <= 0)).tolist():
            for source, which in np.argwhere((stock > 0) & (kinds[:, label] > 0)).tolist():
                first = float(gains(np.array([which]), source, target)[0])
                move(which, source, target)
                gain, second = best_move()
                move(which, target, source)
                if gain > 0 and first + gain > best[0]:
                    best = (first + gain, [(which, source, target), second])
        return best

    for _ in range(4 * len(assigned)):
        gain, step = best_move()
        steps = [step]
        if gain <= 1e-9:
            gain, steps = best_pair()
        if gain <= 1e-9:
            break
        for step in steps:
            move(*step)
    refined = assigned.copy()
    for part, groups in enumerate(members):
        refined[list(chain.from_iterable(groups))] = part
    return refined


def shares(parts: Sequence[Dataset], combinations: int = 10) -> list[tuple[str, int, list[int]]]:
    """How photos, labels and the commonest combinations of labels are shared out.

    Args:
        parts: train, validation and test.
        combinations: how many of the combinations of two labels and more to count.

    Returns:
        (what, its number of photos in all parts, its number in each part): "images", then each label in the
        dataset's order, then combinations such as "dog + cat" from the commonest on.
    """
    labels = parts[0].labels
    present = [part.targets == 1 for part in parts]
    rows = [("images", [len(part) for part in parts])]
    rows += [(label, [int(p[:, j].sum()) for p in present]) for j, label in enumerate(labels)]
    sets, which = np.unique(np.concatenate(present), axis=0, return_inverse=True)
    which = which.ravel()  # NumPy 2.0 alone keeps an axis
    part_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    counts = np.stack([np.bincount(which[part_of == i], minlength=len(sets)) for i in range(len(parts))], axis=1)
    several = [i for i in np.argsort(-counts.sum(axis=1), kind="stable") if sets[i].sum() > 1]
    for i in several[:combinations]:
        rows.append((" + ".join(labels[j] for j in np.flatnonzero(sets[i])), counts[i].tolist()))
    return [(what, sum(numbers), numbers) for what, numbers in rows]


def write_split(path: str | os.PathLike[str], train: Dataset, validation: Dataset, test: Dataset) -> None:
    """Write which part each photo is in: a CSV with the columns image, part and group."""
    with write_atomically(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "part", "group"])
        for name, part in zip(PARTS, (train, validation, test), strict=True):
            writer.writerows((image, name, group) for image, group in zip(part.names, part.groups, strict=True))


def read_split(path: str | os.PathLike[str], dataset: Dataset) -> NDArray[np.str_]:
    """The part of each photo of the dataset, from a CSV with the columns image and part.

    Raises:
        DataError: it is no such file, or it does not name each photo exactly once.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows = [(reader.line_num, row) for row in reader]
            columns = set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"the split {path} cannot be read ({reason}): expected a CSV with the columns image and part"
        ) from None
    if not {"image", "part"} <= columns:
        raise DataError(f"the split {path} has no columns 'image' and 'part': write one with 'polytag split'")
    parts: dict[str, str] = {}
    for number, row in rows:
        cell = " ".join(row["part"].split())
        part = PART_NAMES.get(cell.lower())
        if part is None:
            raise DataError(f"{path}, line {number}: '{cell}' is not a part: expected train, validation or test")
        if parts.setdefault(row["image"], part) != part:
            raise DataError(f"{path}, line {number}: {row['image']} is in two parts: put it into one")
    missing = [name for name in dataset.names if name not in parts]
    if missing:
        raise DataError(
            f"the split {path} does not name {counted(len(missing), 'image')} ({listed(missing)}): add them"
        )
    return np.array([parts[name] for name in dataset.names])

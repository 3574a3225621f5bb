"""Split into training, validation and test sets without leaks, by iterative stratification over groups.

No library both stratifies several labels and keeps groups together. Here, each group of photos counts as one example
with all labels of its photos. Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011) distributes the groups.
A short local search then moves individual groups until the count of each label in each part is as close to its target
as possible.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from polytag.data.dataset import PARTS, Dataset
from polytag.data.splitting.groups import keep_together
from polytag.data.splitting.learnable import check_learnable
from polytag.data.splitting.split_file import with_split
from polytag.data.splitting.stratify import RATIOS, stratify
from polytag.errors import DataError, SettingsError, counted, listed


def split(
    dataset: Dataset,
    ratios: Sequence[float] = RATIOS,
    seed: int = 0,
    given: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int], object] = lambda n: None,
) -> tuple[Dataset, Dataset, Dataset]:
    """Split into training, validation and test sets.

    Photos of the same group stay together, and so do photos that show the same picture (`keep_together`). Every label
    that occurs in at least three groups is in all three parts, unless other labels of these groups make that
    impossible. A label that occurs in two groups is put into the training set if the other labels allow it. A split
    that comes with the data, as ``dataset.parts`` or as a file, is kept. If that split has no validation or test part,
    the missing part is drawn from its training part, and a note says so.

    Args:
        dataset: the photos.
        ratios: the fractions of photos in the three parts, which sum to 1.
        seed: seed of the split. The same seed always gives the same split.
        given: a CSV file with the columns image and part, such as one that `write_split` wrote.
        on_progress: called with the number of photos just processed.

    Raises:
        SettingsError: the ratios or the seed are out of range.
        DataError: there are too few images, no label can be learned, or the given split does not fit the data.
    """
    if len(ratios) != 3 or min(ratios) <= 0 or abs(sum(ratios) - 1) > 1e-6:
        raise SettingsError(f"ratios must be three positive fractions that sum to 1, not {tuple(ratios)}")
    if not 0 <= seed < 2**32:
        raise SettingsError(f"the seed must be from 0 to {2**32 - 1}, not {seed}")
    check_learnable(dataset)
    if given is not None:
        dataset = with_split(dataset, given)
        check_learnable(dataset)
    dataset = keep_together(dataset, on_progress=on_progress)
    parts = dataset.parts
    if parts is None:
        numbers = stratify(dataset, np.arange(len(dataset)), ratios, seed)
        parts = np.array(PARTS)[numbers]
    elif lacking := [part for part in PARTS[1:] if not (parts == part).any()]:
        rows = np.flatnonzero(parts == "train")
        shares_of = [ratios[PARTS.index(part)] for part in lacking]
        numbers = stratify(dataset, rows, (1 - sum(shares_of), *shares_of), seed) if len(rows) else rows
        parts = parts.astype(np.array(PARTS).dtype)  # wide enough for "validation", unlike an array of "train"
        for number, part in enumerate(lacking, start=1):
            parts[rows[numbers == number]] = part
        drawn = " and ".join(f"a {part} part ({counted(int((parts == part).sum()), 'image')})" for part in lacking)
        note = f"the given split lacks {drawn}: drawn from its training part"
        dataset = replace(dataset, notes=(*dataset.notes, note))
    empty = [part for part in PARTS if not (parts == part).any()]
    if empty:
        raise DataError(
            f"the split leaves {listed(empty)} empty: expected images in each of the three parts; add some there"
        )
    train, validation, test = (dataset.take(parts == part) for part in PARTS)
    return _without_shared_groups(train, validation), validation, test


def _without_shared_groups(train: Dataset, validation: Dataset) -> Dataset:
    """Leave out training photos that have copies, or photos of the same group, in the validation part of the split."""
    shared = np.isin(train.groups, validation.groups)
    if not shared.any():
        return train
    if shared.all():
        raise DataError(
            "every training image of the given split belongs to a group with validation images. Split without it."
        )
    note = f"{counted(int(shared.sum()), 'training image')} left out: validation has images of the same groups"
    return replace(train.take(~shared), notes=(*train.notes, note))


def split_facts(
    dataset: Dataset, parts: Sequence[Dataset], seed: int, given: str | os.PathLike[str] | None
) -> dict[str, Any]:
    """Return facts about the split and its parts, which a bundle records."""
    own = f"a part that it lacks is drawn from its training part (seed {seed})"
    if given is not None:
        how = f"as {Path(given).name} says; {own}"
    elif dataset.parts is not None:
        how = f"as the table of labels says; {own}"
    else:
        how = f"stratified by label, with photos of the same picture in one part (seed {seed})"
    return {"how": how, **{name: len(part) for name, part in zip(PARTS, parts, strict=True)}}


def shares(parts: Sequence[Dataset], combinations: int = 10) -> list[tuple[str, int, list[int]]]:
    """Count how photos, labels and the most common combinations of labels are distributed among the parts.

    Args:
        parts: training, validation and test set.
        combinations: number of combinations of two or more labels to count.

    Returns:
        A list of tuples (name, number of photos in all parts, number of photos in each part). The names are "images",
        then each label in the dataset's order, then combinations such as "dog + cat", the most common first.
    """
    labels = parts[0].labels
    present = [part.targets == 1 for part in parts]
    rows = [("images", [len(part) for part in parts])]
    rows += [(label, [int(p[:, j].sum()) for p in present]) for j, label in enumerate(labels)]
    sets, which = np.unique(np.concatenate(present), axis=0, return_inverse=True)
    which = which.ravel()  # NumPy 2.0 keeps an axis, unlike other versions
    part_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    counts = np.stack([np.bincount(which[part_of == i], minlength=len(sets)) for i in range(len(parts))], axis=1)
    several = [i for i in np.argsort(-counts.sum(axis=1), kind="stable") if sets[i].sum() > 1]
    for i in several[:combinations]:
        rows.append((" + ".join(labels[j] for j in np.flatnonzero(sets[i])), counts[i].tolist()))
    return [(what, sum(numbers), numbers) for what, numbers in rows]

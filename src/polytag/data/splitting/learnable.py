"""Find out which labels can be learned from a split and which are too rare."""

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import DataError, counted, listed

NAMED = 20
"""Maximum number of labels named in an error message."""


def check_learnable(dataset: Dataset) -> None:
    """Refuse a dataset from which no label can be learned with any split.

    Raises:
        DataError: there are fewer than 3 groups of images, no learnable label, or more learnable labels than images.
    """
    different = len(np.unique(dataset.groups))
    if different < 3:
        raise DataError(f"{counted(different, 'different image')}: expected at least 3, one for each part")
    too_rare = unlearnable(dataset)
    n, k = len(dataset), len(dataset.labels) - len(too_rare)
    if not k:
        raise DataError(_hopeless(too_rare))
    if n < k:
        raise DataError(f"{counted(n, 'image')} for {counted(k, 'label')}: expected more images than labels")


def learnable(train: Dataset, validation: Dataset) -> tuple[Dataset, Dataset]:
    """Leave out the labels that cannot be learned. Both datasets list them in ``labels_left_out`` and in the notes.

    Raises:
        DataError: no label is left.
    """
    too_rare = unlearnable(train, validation)
    if len(too_rare) == len(train.labels):
        raise DataError(_hopeless(too_rare))
    return train.without_labels(too_rare), validation.without_labels(too_rare)


def unlearnable(train: Dataset, validation: Dataset | None = None) -> dict[str, str]:
    """Find the labels that cannot be learned.

    To be learned, a label must be present on at least one training photo, absent from at least one other, and present
    in at least two groups of training and validation photos. All photos of a group show the same picture, so a single
    group says nothing about how the label looks elsewhere.

    Returns:
        The labels that cannot be learned, each with the reason, in the order of the dataset's labels.
    """
    in_training = _groups_with(train)
    # Group numbers are only comparable within a dataset, so each dataset is counted separately.
    in_all = in_training if validation is None else in_training + _groups_with(validation)
    photos = (train.targets == 1).sum(axis=0)
    if validation is not None:
        photos = photos + (validation.targets == 1).sum(axis=0)
    never_absent = ~(train.targets == 0).any(axis=0)
    found = {}
    for j, label in enumerate(train.labels):
        if not in_training[j]:
            found[label] = "no training photo has it"
        elif in_all[j] < 2:
            found[label] = "only one photo has it" if photos[j] == 1 else "only one group of photos has it"
        elif never_absent[j]:
            found[label] = "no training photo lacks it"
    return found


def _groups_with(dataset: Dataset) -> NDArray[np.int64]:
    """Return the number of groups that have each label, int64 (k,)."""
    k = len(dataset.labels)
    _, member = np.unique(dataset.groups, return_inverse=True)
    rows, labels = np.nonzero(dataset.targets == 1)
    # Each pair of group and label becomes one integer, because sorting integers is many times faster than sorting rows.
    pairs = np.unique(member[rows] * k + labels)
    return np.bincount(pairs % k, minlength=k)


def _hopeless(reasons: dict[str, str]) -> str:
    shown = listed([f"{label} ({reason})" for label, reason in reasons.items()], NAMED)
    return f"no label can be learned: {shown}; add photos with and without each label"

"""Selection of photos that a bundle has not seen, with labels matched by name and copies counted once."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import DataError, counted, listed


class Tagger(Protocol):
    """Anything that turns photos into probabilities and can therefore be evaluated."""

    labels: tuple[str, ...]
    thresholds: NDArray[np.float32]

    def predict(self, paths: Any) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Return probabilities (n, k), which are NaN for unreadable photos, and the reasons by file."""

    def seen(self, dataset: Dataset) -> NDArray[np.bool_]:
        """Return, bool (n,), whether each photo or a copy of it was used in training."""


def seen_by(bundles: Sequence[Tagger], dataset: Dataset) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which photos to exclude because a model may have seen them, bool (n,), and the reasons in words."""
    by_bundle = [bundle.seen(dataset) for bundle in bundles]
    seen = np.any(by_bundle, axis=0)
    related = np.isin(dataset.groups, dataset.groups[seen]) & ~seen
    notes = []
    if seen.any():
        who = "the model has" if len(bundles) == 1 else "a model has"
        notes.append(
            f"{counted(int(seen.sum()), 'image')} left out because {who} seen them in training or for thresholds"
        )
    if related.any():
        notes.append(
            f"{counted(int(related.sum()), 'image')} left out because an image of the same group was seen in training"
        )
    return seen | related, notes


def copies_noted(dataset: Dataset, own: NDArray[np.int64]) -> list[str]:
    """Say how many photos are copies of others, and which photos are too similar to distinguish.

    Args:
        dataset: the photos, with all copies of a photo in one group.
        own: int64 (n,), the groups of the photos before copies were grouped.
    """
    copies = len(np.unique(own)) - len(np.unique(dataset.groups))
    notes = []
    if copies:
        notes.append(
            f"{counted(copies, 'image')} with the same picture as another (re-encoded, cropped, mirrored): intervals "
            "count them as one"
        )
    alike = 0 if dataset.look_alikes is None else int((dataset.look_alikes >= 0).sum())
    if alike:
        notes.append(
            f"{counted(alike, 'image')} look too much alike to count as copies, as photos of a fixed camera do: "
            "intervals may be too narrow. A column 'group' decides what belongs together."
        )
    return notes


def aligned(labels: tuple[str, ...], dataset: Dataset) -> tuple[NDArray[np.int8], list[str]]:
    """Return the targets in the order of the model's labels, and notes on labels that only one of the two has.

    Targets are -1 for labels that the dataset lacks.

    Raises:
        DataError: the model and the dataset have no label in common.
    """
    if dataset.labels == labels:
        return dataset.targets, []
    shared = [label for label in labels if label in dataset.labels]
    if not shared:
        raise DataError(
            f"The data has none of the model's labels. Expected some of {listed(list(labels))}, "
            f"got {listed(list(dataset.labels))}."
        )
    targets = np.full((len(dataset), len(labels)), -1, dtype=np.int8)
    for label in shared:
        targets[:, labels.index(label)] = dataset.targets[:, dataset.labels.index(label)]
    notes = []
    missing = [label for label in labels if label not in dataset.labels]
    extra = [label for label in dataset.labels if label not in labels]
    if missing:
        notes.append(f"labels missing from the data, not judged: {listed(missing)}")
    if extra:
        notes.append(f"labels unknown to the model, ignored: {listed(extra)}")
    return targets, notes

"""Count the labels of a dataset: photos per label, combinations of labels, and labels that occur together."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.data.label_counts import cooccurrence, label_sets
from polytag.errors import listed
from polytag.pages.text import joined

FEW = 5
"""Minimum number of photos for a label to be part of the strongest pair, because rarer labels co-occur by chance."""

NAMED = 8
"""Maximum number of labels in the name of a combination."""


@dataclass(frozen=True)
class Combination:
    """A set of labels and the photos that have exactly these labels. Unknown labels are ignored.

    Attributes:
        labels: positions of the labels.
        rows: positions of the photos, int64.
    """

    labels: tuple[int, ...]
    rows: NDArray[np.int64]

    @property
    def photos(self) -> int:
        return len(self.rows)


class Counts:
    """Label counts of a dataset.

    Attributes:
        n: number of photos.
        labels: the k label names.
        targets: int8 (n, k): 1 present, 0 absent, -1 unknown.
        present: bool (n, k), whether the label is known to be present.
        photos: int64 (k,), number of photos with each label.
        unknown: int64 (k,), number of photos for which each label is unknown.
        per_photo: int64 (n,), number of labels on each photo.
        order: int64 (k,), positions of the labels, most frequent first.
    """

    def __init__(self, dataset: Dataset):
        self.n, self.labels = len(dataset), dataset.labels
        self.targets = dataset.targets
        self.present = self.targets == 1
        self.photos = self.present.sum(axis=0)
        self.unknown = (self.targets < 0).sum(axis=0)
        self.per_photo = self.present.sum(axis=1)
        self.order = np.argsort(-self.photos, kind="stable")

    @cached_property
    def sets(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Combination number of each photo (n,). For each combination, an example photo and the photo count (m,)."""
        which, example = label_sets(self.present)
        return which, example, np.bincount(which, minlength=len(example))

    def combinations(self, at_most: int) -> list[Combination]:
        """Return the most frequent combinations. If frequencies are equal, those with fewer labels come first."""
        which, example, photos = self.sets
        first = np.lexsort((self.per_photo[example], -photos))[:at_most]
        return [
            Combination(tuple(np.flatnonzero(self.present[example[number]]).tolist()), np.flatnonzero(which == number))
            for number in first.tolist()
        ]

    @cached_property
    def together(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Count how often labels occur together.

        Returns:
            Number of photos with both labels, int64 (k, k), and a matrix of fractions, float64 (k, k). Each fraction
            counts photos that have the row's label and for which the column's label is known, and says how many of
            them have the column's label. It is NaN if there are no such photos.
        """
        both, known = cooccurrence(self.targets)
        return both, np.where(known > 0, both / np.maximum(known, 1), np.nan)

    def strongest(self, among: list[int]) -> tuple[int, int] | None:
        """Return labels a and b so that having a raises the proportion of photos with b most, or ``None``."""
        among = [j for j in among if self.photos[j] >= min(FEW, self.photos.max())]
        both, share = self.together
        rise = share - self.photos / np.maximum(1, self.n - self.unknown)
        rise[(both == 0) | np.eye(len(both), dtype=bool)] = 0
        rise = rise[np.ix_(among, among)]
        if not among or rise.max() <= 1e-9:
            return None
        a, b = np.unravel_index(rise.argmax(), rise.shape)
        return among[a], among[b]

    def name(self, combination: Combination) -> str:
        """Name a combination: "cat only", "cat and dog" or "no label"."""
        names = [self.labels[j] for j in combination.labels]
        if len(names) > NAMED:
            return listed(names, NAMED)
        return f"{names[0]} only" if len(names) == 1 else joined(names) or "no label"

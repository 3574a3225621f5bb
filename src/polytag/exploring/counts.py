"""What the labels of a dataset come to: how many photos show each, which sets of them occur, which go together."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.pages.text import joined

CHUNK = 65_536
"""Photos that are counted at once."""

FEW = 5
"""Photos below which a label's shares are accidents."""


@dataclass(frozen=True)
class Combination:
    """A set of labels, the photos (rows) on which exactly these are known to be, and how many those are."""

    labels: tuple[int, ...]
    rows: NDArray[np.int64]

    @property
    def photos(self) -> int:
        return len(self.rows)


class Counts:
    """What the labels of a dataset come to.

    Attributes:
        n: number of photos.
        labels: the k names.
        present: bool (n, k), where a label is known to be.
        photos: int (k,), how many photos show each label.
        unknown: int (k,), on how many it is unknown.
        per_photo: int (n,), labels on each photo.
        order: int (k,), the labels, the commonest first.
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
    def combinations(self) -> list[Combination]:
        """Those that occur, the commonest first."""
        _, which = np.unique(np.packbits(self.present, axis=1), axis=0, return_inverse=True)
        by_set = np.argsort(which.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(which.ravel()))[:-1]
        found = [
            Combination(tuple(np.flatnonzero(self.present[rows[0]]).tolist()), rows) for rows in np.split(by_set, ends)
        ]
        return sorted(found, key=lambda c: (-c.photos, len(c.labels), c.labels))

    @cached_property
    def together(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Both labels at once.

        Returns:
            How many photos show both, int (k, k); and of the photos with the row's label, as far as the column's is
            known, the share that shows the column's too, float (k, k), NaN where there is none.
        """
        both, judged = np.zeros((2, len(self.labels), len(self.labels)))
        for start in range(0, self.n, CHUNK):
            part = slice(start, start + CHUNK)
            present = self.present[part].astype(np.float32)
            both += present.T @ present
            judged += present.T @ (self.targets[part] >= 0).astype(np.float32)
        return both.astype(np.int64), np.where(judged > 0, both / np.maximum(judged, 1), np.nan)

    def strongest(self, among: list[int]) -> tuple[int, int] | None:
        """Of these labels the a and b with the greatest rise of b's share from all photos to those with a."""
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
        """ "cat alone", "cat and dog" or "no label"."""
        names = [self.labels[j] for j in combination.labels]
        return f"{names[0]} alone" if len(names) == 1 else joined(names) or "no label"

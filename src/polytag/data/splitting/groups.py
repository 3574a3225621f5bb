"""Groups of photos that must stay in one part of a split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import ImageError, counted, listed
from polytag.photos.duplicates import Pair, groups_of, recall_duplicates
from polytag.photos.groups import connected_up_to
from polytag.photos.measure import measure

GIANT, LEAST_GIANT = 0.2, 20
"""A group of look-alikes with more than this share of all photos, and more than this many, is broken up: parts of
70, 15 and 15 % cannot be made of such groups."""

CLUSTER, LEAST_CLUSTER = 0.02, 10
"""Largest share of all photos, or number if that is more, that stays together where a giant group was broken up."""


def keep_together(
    dataset: Dataset,
    embeddings: NDArray[np.float32] | None = None,
    on_progress: Callable[[int], object] = lambda n: None,
) -> Dataset:
    """Join the groups of photos that show the same picture.

    Photos of a fixed camera can resemble each other so much that more than a fifth of all photos hang together. Such
    a group alone is broken up: identical files, the dataset's own groups and the most similar photos stay together.

    Args:
        dataset: the n photos.
        embeddings: float32 (n, d), rows of NaN where there is none; they help to find more duplicates.
        on_progress: called with the number of photos that became ready.

    Returns:
        The dataset with larger ``groups``, with ``look_alikes`` if a group was broken up, and with notes that say what
        was kept together and what was not.
    """
    measured = measure(dataset.paths, on_progress)
    pairs = recall_duplicates(measured, embeddings)
    joined = groups_of(pairs, dataset.groups)
    own = groups_of([], dataset.groups)
    sizes = np.bincount(joined)
    giant = sizes > max(GIANT * len(dataset), LEAST_GIANT, np.bincount(own).max())
    broken = giant[joined]
    notes = [*_unreadable(dataset, measured.errors)]
    if broken.any():
        most = max(round(CLUSTER * len(dataset)), LEAST_CLUSTER)
        dataset = replace(dataset, look_alikes=np.where(broken, joined, -1))
        joined = _broken_up(pairs, own, broken, most)
        notes.append(
            f"{counted(int(broken.sum()), 'photo')} look too much alike to be kept together: only identical and the "
            f"most similar ones share a part, {most} at most; give the table a column 'group' to decide what belongs "
            "together"
        )
    near = int(own.max() - joined.max())
    if near:
        notes.append(
            f"{counted(near, 'photo')} with the same picture as another (re-encoded, cropped, mirrored): kept together"
        )
    return replace(dataset, groups=joined, notes=(*dataset.notes, *notes))


def _broken_up(
    pairs: Sequence[Pair], own: NDArray[np.int64], broken: NDArray[np.bool_], most: int
) -> NDArray[np.int64]:
    """Groups of all pairs but the loosest of those photos whose group is broken up, int64 (n,)."""
    _, first, members = np.unique(own, return_index=True, return_inverse=True)
    always = [(a, b) for b, a in enumerate(first[members].tolist())]
    always += [(pair.a, pair.b) for pair in pairs if pair.kind == "exact" or not broken[pair.a]]
    tightest_first = sorted((pair for pair in pairs if broken[pair.a]), key=lambda pair: -pair.similarity)
    return connected_up_to(len(own), always, ((pair.a, pair.b) for pair in tightest_first), most)


def _unreadable(dataset: Dataset, errors: Mapping[str, ImageError]) -> list[str]:
    if not errors:
        return []
    names = dataset.names
    found = [f"{names[i]} ({errors[path]})" for i, path in enumerate(dataset.paths) if path in errors]
    return [f"{counted(len(found), 'photo')} cannot be read and will be left out of training: {listed(found)}"]


@dataclass(frozen=True)
class Leaks:
    """What `leaks` found. It is true if a group is in more than one part.

    Attributes:
        groups: number of groups of photos that are in more than one part.
        apart: number of photos that have look-alikes in another part because their group was too large to be kept
            together.
    """

    groups: int
    apart: int

    def __bool__(self) -> bool:
        return self.groups > 0

    def __str__(self) -> str:
        known = f"{counted(self.groups, 'group')} of photos in more than one part"
        return f"{known}; {counted(self.apart, 'photo')} with look-alikes in another part" if self.apart else known


def leaks(parts: Sequence[Dataset]) -> Leaks:
    """Count the groups of photos, as `keep_together` makes them, that are in more than one part."""
    apart = sum(
        int((part.look_alikes == cluster).sum())
        for cluster in _straddling([part.look_alikes for part in parts if part.look_alikes is not None]) - {-1}
        for part in parts
        if part.look_alikes is not None
    )
    return Leaks(len(_straddling([part.groups for part in parts])), apart)


def _straddling(numbers: Sequence[NDArray[np.int64]]) -> set[int]:
    """The numbers that are in more than one of the arrays."""
    seen: dict[int, int] = {}
    found: set[int] = set()
    for array, values in enumerate(numbers):
        found |= {value for value in np.unique(values).tolist() if seen.setdefault(value, array) != array}
    return found

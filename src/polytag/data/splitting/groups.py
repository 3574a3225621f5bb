"""Groups of photos that must stay in one part of a split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import ImageError, counted, listed
from polytag.photos.copies.duplicates import Pair, groups_of, recall_duplicates
from polytag.photos.groups import connected_up_to
from polytag.photos.measure import measure
from polytag.photos.pixels import View

GIANT, LEAST_GIANT = 0.2, 20
"""A group of look-alikes is broken up if it has more than this fraction of all photos, and more than this number.
Parts with 70%, 15% and 15% of the photos cannot be made from such large groups."""

CLUSTER, LEAST_CLUSTER = 0.02, 10
"""Maximum size of the clusters that stay together when a giant group is broken up: a fraction of all photos or a
number of photos, whichever is larger."""


def keep_together(
    dataset: Dataset,
    embeddings: NDArray[np.float32] | View | None = None,
    on_progress: Callable[[int], object] = lambda n: None,
) -> Dataset:
    """Merge the groups of photos that show the same picture.

    Photos from a fixed camera can be so similar that more than a fifth of all photos are connected. Only such a group
    is broken up. Identical files, the dataset's own groups and the most similar photos still stay together.

    Args:
        dataset: the n photos.
        embeddings: float32 (n, d), used to find more duplicates. Rows of photos without an embedding are NaN.
        on_progress: called with the number of photos just processed.

    Returns:
        The dataset with merged ``groups``, with ``look_alikes`` if a group was broken up, and with notes about which
        photos were kept together and which were not.
    """
    measured = measure(dataset.paths, on_progress)
    own = groups_of([], dataset.groups)
    joined, look_alikes = separable(dataset.groups, recall_duplicates(measured, embeddings))
    notes = [*_unreadable(dataset, measured.errors)]
    if (look_alikes >= 0).any():
        dataset = replace(dataset, look_alikes=look_alikes)
        notes.append(
            f"{counted(int((look_alikes >= 0).sum()), 'photo')} look alike and form too large a group: only identical "
            f"photos, and at most {_most(len(dataset))} of the most similar ones, stay together. Add a column 'group' "
            "to decide which photos belong together"
        )
    near = int(own.max() - joined.max())
    if near:
        notes.append(
            f"{counted(near, 'photo')} with the same picture as another (re-encoded, cropped, mirrored): they stay "
            "together"
        )
    return replace(dataset, groups=joined, notes=(*dataset.notes, *notes))


def separable(groups: NDArray[np.int64], pairs: Sequence[Pair]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Merge groups of photos that show the same picture, and break up those that are too large for a split.

    Args:
        groups: int64 (n,), the dataset's own groups, which are never broken up.
        pairs: pairs of photos that show the same picture.

    Returns:
        The groups, int64 (n,), and the too large group of each photo before it was broken up, or -1, int64 (n,).
    """
    joined, own = groups_of(list(pairs), groups), groups_of([], groups)
    giant = np.bincount(joined) > max(GIANT * len(groups), LEAST_GIANT, np.bincount(own).max())
    broken = giant[joined]
    if not broken.any():
        return joined, np.full(len(groups), -1)
    return _broken_up(pairs, own, broken, _most(len(groups))), np.where(broken, joined, -1)


def _most(photos: int) -> int:
    """Return how many photos of a too large group stay together."""
    return max(round(CLUSTER * photos), LEAST_CLUSTER)


def _broken_up(
    pairs: Sequence[Pair], own: NDArray[np.int64], broken: NDArray[np.bool_], most: int
) -> NDArray[np.int64]:
    """Return groups that connect all pairs except the least similar ones in broken-up groups, int64 (n,)."""
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
    """Leaks between the parts of a split. The object is true if a group is in more than one part.

    Attributes:
        groups: number of groups of photos that are in more than one part.
        apart: number of photos that have look-alikes in another part because their group was too large to stay
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
    """Count the groups of photos that are in more than one part. `keep_together` forms the groups."""
    apart = sum(
        int((part.look_alikes == cluster).sum())
        for cluster in _straddling([part.look_alikes for part in parts if part.look_alikes is not None]) - {-1}
        for part in parts
        if part.look_alikes is not None
    )
    return Leaks(len(_straddling([part.groups for part in parts])), apart)


def _straddling(numbers: Sequence[NDArray[np.int64]]) -> set[int]:
    """Return the numbers that are in more than one of the arrays."""
    seen: dict[int, int] = {}
    found: set[int] = set()
    for array, values in enumerate(numbers):
        found |= {value for value in np.unique(values).tolist() if seen.setdefault(value, array) != array}
    return found

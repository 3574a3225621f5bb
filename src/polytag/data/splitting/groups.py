"""Groups: photos that must stay in one part."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import counted
from polytag.photos.duplicates import groups_of, recall_duplicates
from polytag.photos.measure import measure

GIANT = 0.2
"""Share of all photos from which on a group of look-alikes is not kept together."""


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


def leaks(parts: Sequence[Dataset]) -> int:
    """How many groups of photos, as `keep_together` finds them, stand in more than one part."""
    seen: dict[int, int] = {}
    across: set[int] = set()
    for number, part in enumerate(parts):
        across |= {int(group) for group in np.unique(part.groups) if seen.setdefault(int(group), number) != number}
    return len(across)

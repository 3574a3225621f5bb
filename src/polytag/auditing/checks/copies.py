"""Report photos that show the same picture: duplicates, conflicting labels, and split leaks."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from polytag.auditing.findings import rows
from polytag.data.dataset import Dataset
from polytag.photos.copies.duplicates import KINDS, Pair

CHUNK = 65_536
"""Number of pairs compared at once."""

PRECEDENCE = ("train", "validation", "test")
"""If a picture is in several parts of a split, it belongs to the first of these. Its photos in other parts leak."""


def copy_findings(dataset: Dataset, pairs: Sequence[Pair]) -> Iterator[pd.DataFrame]:
    """Flag the later photo of each pair once per issue.

    Args:
        dataset: the photos. Photos that show the same picture share a group.
        pairs: positions in the dataset.
    """
    names = dataset.names
    closest: dict[int, Pair] = {}
    for pair in pairs:
        if pair.b not in closest or _distance(pair) < _distance(closest[pair.b]):
            closest[pair.b] = pair
    for kind in KINDS:
        found = [pair for pair in closest.values() if pair.kind == kind]
        similar = "" if kind == "exact" else ", similarity {:.2f}"
        yield rows(
            f"{kind}_duplicate",
            [names[pair.b] for pair in found],
            [f"of {names[pair.a]}{similar.format(pair.similarity)}" for pair in found],
            [names[pair.a] for pair in found],
            [max(0.0, 1 - pair.similarity) for pair in found],
        )
    conflicts: dict[int, tuple[Pair, list[str]]] = {}
    for pair, labels in conflicting_pairs(dataset, pairs):
        conflicts.setdefault(pair.b, (pair, labels))
    yield rows(
        "conflicting_duplicate",
        [names[b] for b in conflicts],
        [f"they disagree on {', '.join(labels)} ({pair.kind} duplicate)" for pair, labels in conflicts.values()],
        [names[pair.a] for pair, _ in conflicts.values()],
    )
    yield _leaks(dataset)


def conflicting_pairs(dataset: Dataset, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, list[str]]]:
    """Yield pairs with contradictory labels, together with those labels. An unknown label contradicts nothing."""
    pairs = list(pairs)
    for start in range(0, len(pairs), CHUNK):
        some = pairs[start : start + CHUNK]
        first, second = (dataset.targets[[getattr(pair, side) for pair in some]] for side in "ab")
        conflict = (first >= 0) & (second >= 0) & (first != second)
        for i in np.flatnonzero(conflict.any(axis=1)).tolist():
            yield some[i], [dataset.labels[j] for j in np.flatnonzero(conflict[i])]


def disputed(dataset: Dataset, a: int, b: int) -> list[str]:
    """Return the labels on which the photos at two positions contradict each other."""
    first, second = dataset.targets[a], dataset.targets[b]
    return [dataset.labels[j] for j in np.flatnonzero((first >= 0) & (second >= 0) & (first != second))]


def _distance(pair: Pair) -> tuple[int, float]:
    return KINDS.index(pair.kind), -pair.similarity


def _leaks(dataset: Dataset) -> pd.DataFrame:
    """Report photos whose picture is also in another part of the given split."""
    if dataset.parts is None or not len(dataset):
        return rows("leak", [])
    names = dataset.names
    rank = np.array([PRECEDENCE.index(part) for part in dataset.parts.tolist()])
    order = np.lexsort((np.arange(len(rank)), rank, dataset.groups))
    # After sorting, the first photo of each group is in the part where the picture belongs.
    starts = np.flatnonzero(np.diff(dataset.groups[order], prepend=dataset.groups[order[0]] - 1))
    home = np.empty(len(rank), np.int64)
    home[order] = np.repeat(order[starts], np.diff(np.append(starts, len(order))))
    found = np.flatnonzero(rank > rank[home]).tolist()
    others = [names[home[i]] for i in found]
    details = [
        f"in {dataset.parts[i]}, but {dataset.parts[home[i]]} has the same picture ({other})"
        for i, other in zip(found, others, strict=True)
    ]
    return rows("leak", [names[i] for i in found], details, others)

"""Stratify groups of photos across the parts of a split."""

from collections.abc import Sequence
from itertools import chain, permutations

import numpy as np
from numpy.typing import NDArray
from skmultilearn.model_selection import IterativeStratification

from polytag.data.dataset import Dataset
from polytag.errors import DataError, counted

RATIOS = (0.70, 0.15, 0.15)


COMBINATIONS = 100
"""Maximum number of label combinations that the split balances in addition to each label. The most common ones are
used."""


def _deal(dataset: Dataset, rows: NDArray[np.int64], ratios: Sequence[float], seed: int) -> NDArray[np.int64]:
    """Return the part of each row as a number, int64 (len(rows),)."""
    groups, member = np.unique(dataset.groups[rows], return_inverse=True)
    if len(groups) < len(ratios):
        raise DataError(
            f"{counted(len(groups), 'different image')}: expected at least {len(ratios)}, one for each part"
        )
    # Each row of counts holds a group's number of photos per label, and its number of photos in the last column.
    counts = np.zeros((len(groups), len(dataset.labels) + 1))
    np.add.at(counts, member, np.column_stack([dataset.targets[rows] == 1, np.ones(len(rows))]))
    order = np.random.default_rng(seed).permutation(len(groups))
    stratifier = IterativeStratification(
        n_splits=len(ratios), order=1, sample_distribution_per_fold=list(ratios), random_state=seed
    )
    present = (counts[order, :-1] > 0).astype(int)
    # Groups without labels would be distributed at random, so they get an artificial label.
    present = np.column_stack([present, present.sum(axis=1) == 0])
    # The stratifier shuffles with the seed and reports folds as test indices.
    assigned = np.zeros(len(groups), dtype=np.int64)
    for number, (_, fold) in enumerate(stratifier.split(np.zeros((len(groups), 1)), present)):
        assigned[order[fold]] = number
    return _refine(counts, _commonest(counts[:, :-1] > 0), assigned, np.asarray(ratios))[member]


def _commonest(present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return which of the most common label combinations each group has, as 0 or 1, float64 (groups, combinations)."""
    sets, which, count = np.unique(present, axis=0, return_inverse=True, return_counts=True)
    which = which.ravel()  # NumPy 2.0 keeps an axis, unlike other versions
    chosen = [i for i in np.argsort(-count, kind="stable") if count[i] >= 1 / min(RATIOS) and sets[i].sum() > 1]
    return (which[:, None] == np.array(chosen[:COMBINATIONS], dtype=np.int64)).astype(np.float64)


def _needs(counts: NDArray, combinations: int, parts: int) -> tuple[NDArray, NDArray]:
    """Return how many photos of each label a part needs, and the penalty if it has fewer.

    Each part needs each label. If a label has fewer groups than there are parts, only the training part needs it, with
    all its groups, because a single group is too little to learn from. If a label has just one group, no part needs
    it. Combinations are optional.

    Returns:
        float64 (parts, k + 1 + combinations) and (k + 1 + combinations,).
    """
    groups = (counts > 0).sum(axis=0)
    needed = np.zeros((parts, counts.shape[1] + combinations))
    needed[:, : counts.shape[1]] = groups >= parts
    few = np.flatnonzero((groups > 1) & (groups < parts))
    needed[0, few] = counts[:, few].sum(axis=0)
    penalty = np.full(needed.shape[1], 1e3)
    # It is worse if a part has no photos, or lacks a label that has enough groups for all parts.
    penalty[few] = 1e2
    return needed, penalty


def _refine(counts: NDArray, combinations: NDArray, assigned: NDArray[np.int64], ratios: NDArray) -> NDArray[np.int64]:
    """Move groups between parts as long as that brings the parts closer to their targets.

    The cost of a part is the sum of (count − target)² / target over labels, combinations of labels and the number of
    photos. A missing label costs far more (`_needs`). If no single move helps and a part still lacks a label, pairs of
    moves are tried. The first move of each pair moves a group with that label.

    Args:
        counts: (groups, k + 1), the number of photos per group and label. The last column counts all photos.
        combinations: (groups, c), 1 if a group has a combination, else 0. A part may lack combinations.
        assigned: int (groups,), the part of each group.
        ratios: (parts,), the fractions of photos, which sum to 1.
    """
    needed, penalty = _needs(counts, combinations.shape[1], len(ratios))
    # Groups with equal counts are interchangeable, so the search moves kinds of groups rather than individual groups.
    kinds, kind = np.unique(np.hstack([counts, combinations]), axis=0, return_inverse=True)
    kind = kind.ravel()  # NumPy 2.0 keeps an axis, unlike other versions
    members: list[list[list[int]]] = [[[] for _ in kinds] for _ in ratios]
    for group, part in enumerate(assigned.tolist()):
        members[part][kind[group]].append(group)
    stock = np.array([[len(groups) for groups in part] for part in members])
    have = stock @ kinds
    due = np.outer(ratios, have.sum(axis=0))
    weight = 1 / np.maximum(due, 1)

    def cost(have: NDArray, part: int) -> NDArray:
        return ((have - due[part]) ** 2 * weight[part] + penalty * (have < needed[part])).sum(axis=-1)

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
        for target, label in np.argwhere(have < needed).tolist():
            for source, which in np.argwhere((stock > 0) & (kinds[:, label] > 0)).tolist():
                if source == target:
                    continue
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

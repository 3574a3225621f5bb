"""Bring the parts of a split closer to their targets by moving single groups of photos."""

from itertools import chain

import numpy as np
from numpy.typing import NDArray

SAMPLE = 20_000
"""Maximum number of groups that may move, apart from groups with rare labels. After iterative stratification a few
hundred groups have to move, and a sample of this size has one for almost every purpose."""

RARE = 20
"""All groups with a label that so few groups have may move, because no other group can make up for them."""


COMBINATION = 0.1
"""Weight of a combination of labels, relative to a label. Equal weights would make labels less even if groups have many
photos; a tenth shares combinations as evenly if groups are single photos."""


def refine(
    counts: NDArray,
    labels: int,
    assigned: NDArray[np.int64],
    ratios: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Move groups between parts as long as that brings the parts closer to their targets.

    The cost of a part is the sum of (count − target)² / target over labels, combinations of labels (which count a
    tenth) and the number of photos. A missing label costs far more (`_needs`). If no single move helps and a part still
    lacks a label, pairs of moves are tried. The first move of each pair moves a group with that label.

    Args:
        counts: unsigned (groups, columns), the number of photos per group with each label and then with each
            combination of labels. A part may lack combinations. The last column counts all photos.
        labels: number of columns that are labels.
        assigned: int64 (groups,), the part of each group.
        ratios: float64 (parts,), the fraction of photos in each part. They sum to 1.
        rng: source of the sample of groups that may move.

    Returns:
        The new part of each group, int64 (groups,).
    """
    may_move = _may_move(counts[:, :labels], rng)
    have = np.stack([counts[assigned == part].sum(axis=0, dtype=np.float64) for part in range(len(ratios))])
    needed, penalty = _needs(counts, labels, len(ratios))
    # Groups with equal counts are interchangeable, so the search moves kinds of groups rather than individual groups.
    kinds, kind = np.unique(counts[may_move], axis=0, return_inverse=True)
    members: list[list[list[int]]] = [[[] for _ in kinds] for _ in ratios]
    # NumPy 2.0 keeps an axis of the inverse, unlike other versions.
    for group, part, its in zip(may_move.tolist(), assigned[may_move].tolist(), kind.ravel().tolist(), strict=True):
        members[part][its].append(group)
    stock = np.array([[len(groups) for groups in part] for part in members])
    due = np.outer(ratios, have.sum(axis=0))
    weight = 1 / np.maximum(due, 1)
    weight[:, labels:-1] *= COMBINATION
    search = _Search(kinds.astype(np.float64), stock, have, due, weight, needed, penalty)
    for which, source, target in search.moves(4 * len(may_move)):
        members[target][which].append(members[source][which].pop())
    refined = assigned.copy()
    for part, of_kind in enumerate(members):
        refined[list(chain.from_iterable(of_kind))] = part
    return refined


def _may_move(counts: NDArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the groups that may move, in ascending order. Counts: unsigned (groups, labels)."""
    if len(counts) <= SAMPLE:
        return np.arange(len(counts))
    chosen = np.zeros(len(counts), bool)
    chosen[rng.choice(len(counts), SAMPLE, replace=False)] = True
    rare = np.flatnonzero((counts > 0).sum(axis=0) <= RARE)
    return np.flatnonzero(chosen | (counts[:, rare] > 0).any(axis=1))


def _needs(counts: NDArray, labels: int, parts: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many photos of each column a part needs, and the penalty if it has fewer.

    Each part needs each label. If a label has fewer groups than there are parts, only the training part needs it, with
    all its groups, because a single group is too little to learn from. If a label has just one group, no part needs
    it. Combinations are optional.

    Returns:
        float64 (parts, columns) and (columns,).
    """
    groups = (counts > 0).sum(axis=0)
    groups[labels:-1] = 0
    needed = np.zeros((parts, counts.shape[1]))
    needed[:] = groups >= parts
    few = np.flatnonzero((groups > 1) & (groups < parts))
    needed[0, few] = counts[:, few].sum(axis=0)
    penalty = np.full(needed.shape[1], 1e3)
    # It is worse if a part has no photos, or lacks a label that has enough groups for all parts.
    penalty[few] = 1e2
    return needed, penalty


Move = tuple[int, int, int]
"""A kind of group, and the parts that a group of this kind leaves and enters."""


class _Search:
    """The state of the search: what each part has, and which kinds of groups it could give away.

    Args:
        kinds: float64 (kinds, c), the counts of each kind of group.
        stock: int (parts, kinds), the number of groups of each kind in each part.
        have: float64 (parts, c), the counts of each part.
        due: float64 (parts, c), the counts that each part should have.
        weight: float64 (parts, c), the cost of a squared deviation.
        needed, penalty: see `_needs`.
    """

    def __init__(
        self,
        kinds: NDArray,
        stock: NDArray,
        have: NDArray,
        due: NDArray,
        weight: NDArray,
        needed: NDArray,
        penalty: NDArray,
    ):
        self.kinds, self.stock, self.have = kinds, stock, have
        self.due, self.weight = due, weight
        self.needed, self.penalty = needed, penalty
        self.most = kinds.max(axis=0)
        self.squares = (kinds**2 @ self.weight.T).T

    def moves(self, most: int) -> list[Move]:
        """Return the moves that improve the split, best first, and make them here."""
        made: list[Move] = []
        while len(made) < most:
            gain, step = self._best_move()
            steps = [step]
            if gain <= 1e-9:
                gain, steps = self._best_pair()
            if gain <= 1e-9:
                break
            for step in steps:
                self._move(*step)
            made += steps
        return made

    def _move(self, which: int, source: int, target: int) -> None:
        for part, sign in ((source, -1), (target, 1)):
            self.have[part] += sign * self.kinds[which]
            self.stock[part, which] += sign

    def _gains(self, which: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float64]:
        """Return by how much the cost falls for each source, target and kind, float64 (parts, parts, kinds)."""
        kinds = self.kinds[which]
        # (have - due)² changes by ±2 x (have - due) + x² if x is added or taken away, so one product serves all kinds.
        slope = 2 * (self.weight * (self.have - self.due)) @ kinds.T
        leave, enter = slope - self.squares[:, which], -slope - self.squares[:, which]
        for part, (have, needed) in enumerate(zip(self.have, self.needed, strict=True)):
            lacking = have < needed
            # Few labels are so rare in a part that a single move could make or mend a lack.
            near = np.flatnonzero(~lacking & (have - self.most < needed))
            leave[part] -= ((have[near] - kinds[:, near]) < needed[near]) @ self.penalty[near]
            far = np.flatnonzero(lacking)
            enter[part] += ((have[far] + kinds[:, far]) >= needed[far]) @ self.penalty[far]
        return leave[:, None] + enter[None]

    def _best_move(self) -> tuple[float, Move]:
        gains = self._gains()
        gains[np.broadcast_to((self.stock == 0)[:, None], gains.shape)] = -np.inf
        gains[np.arange(len(gains)), np.arange(len(gains))] = -np.inf
        source, target, which = np.unravel_index(np.argmax(gains), gains.shape)
        return float(gains[source, target, which]), (int(which), int(source), int(target))

    def _best_pair(self) -> tuple[float, list[Move]]:
        best: tuple[float, list[Move]] = (0.0, [])
        for target, label in np.argwhere(self.have < self.needed).tolist():
            for source, which in np.argwhere((self.stock > 0) & (self.kinds[:, label] > 0)).tolist():
                if source == target:
                    continue
                first = float(self._gains(np.array([which]))[source, target, 0])
                self._move(which, source, target)
                gain, second = self._best_move()
                self._move(which, target, source)
                if gain > 0 and first + gain > best[0]:
                    best = (first + gain, [(which, source, target), second])
        return best

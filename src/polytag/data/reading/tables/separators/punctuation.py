"""Find punctuation that separates labels, such as ``+``, ``/``, ``&`` or ``#``. In other tables, it is part of names.

``sea / beach`` names two labels, but ``animal/dog`` is one label in a hierarchy. The decision depends on all cells of
the column. Separate labels recur in different positions and in different combinations. In a hierarchy, each level has
its own names.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LONE = re.compile(r"[!-#%-/:-@\[-`{-~–—…·•，、；｜。]+")
"""Punctuation without any letter, digit or symbol. It is never a label."""

NEVER_BARE = set("'\"’‘“”`´.,()[]{}<>-–—_%$€£°!?*@\\")
"""Marks that belong to names unless blanks surround them, as in ``T-shirt`` and ``St. Bernard``."""

MIN_RECURRING = 0.8
"""Minimum fraction of labels that must occur in several different cells."""

MIN_HASHTAGS = 0.8
"""Minimum fraction of non-blank cells that must begin with ``#`` for the labels to count as hashtags."""

MAX_LABELS_OF_NUMBERS = 0.6
"""Cells such as 1/2 are only split if the number of labels is then at most this fraction of the distinct cells."""

HASHTAG = re.compile(r"#\s*\w")
MIN_USE = 1 / 3
"""Minimum fraction of distinct cells with a mark for it to separate labels that never occur alone."""

MIN_LEFTOVER = 0.1
"""Minimum fraction of rows whose labels contain a mark for a note about this mark."""

MAX_SAMPLE = 5_000
"""Number of distinct cells that are searched for marks."""


@dataclass(frozen=True)
class Punctuation:
    """A mark that separates labels.

    Attributes:
        mark: the mark.
        pattern: the regular expression to split at.
        n_labels: the number of distinct labels after a split.
    """

    mark: str
    pattern: str
    n_labels: int = 0


HASHTAGS = Punctuation("#", r"[\s,;|]*#+")


def has_hashtags(cells: Sequence[str]) -> bool:
    """Return whether the labels in a column are hashtags."""
    filled = [cell for cell in cells if cell.strip()]
    hashtags = sum(bool(HASHTAG.match(cell.strip())) for cell in filled)
    return hashtags > 0 and hashtags >= MIN_HASHTAGS * len(filled)


def find_punctuation(
    cells: Sequence[str], vocabulary: frozenset[str] = frozenset(), ordinary: frozenset[str] = frozenset()
) -> Punctuation | None:
    """Find the punctuation that separates the labels in a column.

    Args:
        cells: the distinct cells.
        vocabulary: labels known beforehand, such as the headers of 0/1 columns.
        ordinary: marks that are not considered.

    Returns:
        The mark that leaves the fewest labels, or ``None`` if no punctuation separates labels.
    """
    filled = list(dict.fromkeys(" ".join(cell.split()) for cell in cells if cell.strip()))
    best: Punctuation | None = None
    for mark, pattern in _candidates(filled, ordinary):
        split = [_parts(cell, pattern) for cell in filled]
        if _separates(filled, split, vocabulary):
            found = Punctuation(mark, pattern, len({part for parts in split for part in parts}))
            if best is None or found.n_labels < best.n_labels:
                best = found
    return best


@dataclass(frozen=True)
class Leftover:
    """A mark that many cells contain although it is not a separator.

    Attributes:
        mark: the mark.
        example: a cell with the mark.
        may_separate: whether the mark is so frequent, and the names around it so varied, that it may be a separator.
    """

    mark: str
    example: str
    may_separate: bool


def find_leftover(cells: Sequence[str], counts: Sequence[int], ordinary: frozenset[str]) -> Leftover | None:
    """Return the most frequent mark that remains inside labels, or ``None``.

    Args:
        cells: the distinct cells, each a label.
        counts: the number of rows of each cell.
        ordinary: marks that are not considered.
    """
    filled = [(" ".join(cell.split()), n) for cell, n in zip(cells, counts, strict=True) if cell.strip()]
    total = sum(n for _, n in filled)
    for mark, pattern in _candidates([cell for cell, _ in filled], ordinary):
        split = [_parts(cell, pattern) for cell, _ in filled]
        inside = [cell for (cell, _), parts in zip(filled, split, strict=True) if len(parts) > 1]
        n = sum(n for (_, n), parts in zip(filled, split, strict=True) if len(parts) > 1)
        if n >= MIN_LEFTOVER * total:
            return Leftover(mark, inside[0], n >= MIN_USE * total and not _is_hierarchy(split))
    return None


def recombined(split: Sequence[Sequence[str]]) -> bool:
    """Return whether parts of names recur in different positions and combinations, as labels do.

    Args:
        split: the parts of each distinct name, in order.
    """
    several = [parts for parts in split if len(set(parts)) > 1]
    company = Counter(part for parts in split for part in set(parts))
    if not several or len(company) > len(split) or not _change_places(split):
        return False
    return sum(n > 1 for n in company.values()) >= MIN_RECURRING * len(company)


def _change_places(split: Sequence[Sequence[str]]) -> bool:
    """Return whether at least half of the parts that come later in some names come first or alone in others."""
    first = {parts[0] for parts in split if parts}
    later = {part for parts in split for part in parts[1:]}
    return 2 * len(later & first) >= len(later)


def _is_hierarchy(split: Sequence[Sequence[str]]) -> bool:
    """Return whether cells are paths such as animal/dog, in which each name always has the same parent."""
    if _change_places(split):
        return False
    above = {(b, a) for parts in split for a, b in pairwise(parts)}
    below = Counter(b for b, _ in above)
    return sum(n == 1 for n in below.values()) >= MIN_RECURRING * len(below)


def _parts(cell: str, pattern: str) -> list[str]:
    parts = (" ".join(part.split()) for part in re.split(pattern, cell))
    return [part for part in parts if part and not LONE.fullmatch(part)]


def _candidates(cells: Sequence[str], ordinary: frozenset[str]) -> list[tuple[str, str]]:
    """Return the marks in the cells, each with its pattern. Marks between blanks come first."""
    spaced: Counter[str] = Counter()
    bare: Counter[str] = Counter()
    for cell in cells[:MAX_SAMPLE]:
        spaced.update({word for word in cell.split() if LONE.fullmatch(word)} - ordinary)
        bare.update({mark for mark in cell if LONE.fullmatch(mark)} - ordinary - NEVER_BARE)
    found = [(mark, rf"(?:^|\s+){re.escape(mark)}(?=\s|$)") for mark, _ in spaced.most_common(8)]
    return found + [(mark, _bare(mark)) for mark, _ in bare.most_common(8)]


def _bare(mark: str) -> str:
    # A double colon separates a category from its label, so only single colons count.
    return "(?<!:):(?!:)" if mark == ":" else f"(?:{re.escape(mark)})+"


def _separates(cells: Sequence[str], split: Sequence[Sequence[str]], vocabulary: frozenset[str]) -> bool:
    several = [parts for cell, parts in zip(cells, split, strict=True) if len(set(parts)) > 1]
    if vocabulary:
        known = sum(not vocabulary.isdisjoint(parts) for parts in several)
        return bool(several) and 2 * known >= len(several)
    labels = {part for parts in split for part in parts}
    if not several or len(labels) > len(cells):
        return False
    alone = {parts[0] for parts in split if len(set(parts)) == 1}
    if 2 * sum(alone.issuperset(parts) for parts in several) >= len(several):
        return True
    if any(label.isdecimal() for label in labels) and len(labels) > MAX_LABELS_OF_NUMBERS * len(cells):
        return False
    return len(several) >= MIN_USE * len(cells) and not _is_hierarchy(split)

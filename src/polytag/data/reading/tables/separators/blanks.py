"""Decide whether blanks separate labels, as in ``clear primary water``, or are part of names, as in ``stop sign``."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from polytag.data.reading.tables.separators.punctuation import LONE, recombined

FEWER = 0.6
"""Blanks count as separators if a split leaves at most this fraction of the labels. For example, the Planet data have
17 tags in 449 combinations."""

RECURRING = 0.8
"""Minimum fraction of words that must occur in several different cells for blanks to count as separators."""


def split_at_blanks(pieces: Sequence[tuple[str, ...]], vocabulary: frozenset[str]) -> list[list[str]] | None:
    """Return the names split at blanks, or ``None`` if blanks are part of the names."""
    distinct = list(dict.fromkeys(piece for row in pieces for piece in row))
    several = [piece for piece in distinct if " " in piece and piece not in vocabulary]
    if not several or (not vocabulary and any(LONE.fullmatch(word) for piece in several for word in piece.split())):
        return None
    split = _known_words(vocabulary) if vocabulary else _collocations(distinct)
    words = {piece: split(piece) for piece in distinct}
    if not _blanks_separate(distinct, several, words, vocabulary):
        return None
    return [[word for piece in row for word in words[piece]] for row in pieces]


def _blanks_separate(
    distinct: Sequence[str], several: Sequence[str], words: dict[str, list[str]], vocabulary: frozenset[str]
) -> bool:
    if vocabulary:
        # One known name per piece is enough evidence, because not every name needs to have a column.
        known = [piece for piece in several if any(word in vocabulary for word in words[piece])]
        return 2 * len(known) >= len(several)
    if all(word.isdecimal() for piece in several for word in piece.split()):
        return True
    alone = {piece for piece in distinct if len(words[piece]) == 1}
    several = [piece for piece in several if len(words[piece]) > 1]
    if not several:
        return False
    standing = [piece for piece in several if all(word in alone for word in words[piece])]
    if 2 * len(standing) >= len(several):
        return True
    company = Counter(word for piece in distinct for word in set(words[piece]))
    recurring = sum(n > 1 for n in company.values())
    if len(company) <= FEWER * len(distinct) and recurring >= RECURRING * len(company):
        return True
    return len(several) > 2 and recombined([words[piece] for piece in distinct])


def undecided_blanks(pieces: Sequence[tuple[str, ...]]) -> list[str]:
    """Return two labels that may be several labels separated by blanks, or an empty list if that is unlikely.

    Words that recur in different labels may be labels themselves, as in "red car" and "red bus". Words that occur in a
    single label, such as "traffic light", are not.
    """
    names = list(dict.fromkeys(name for row in pieces for name in row))
    count = Counter(word for name in names for word in set(name.split()))
    several = [name for name in names if " " in name]
    recurring = [name for name in several if any(count[word] > 1 for word in name.split())]
    return recurring[:2] if len(recurring) > 1 and 2 * len(recurring) >= len(names) else []


def _known_words(vocabulary: frozenset[str]) -> Callable[[str], list[str]]:
    """Return a function that splits a piece into known names, longest first, and individual words."""
    longest = max((len(name.split()) for name in vocabulary), default=1)

    def split(piece: str) -> list[str]:
        words, names = piece.split(), []
        while words:
            n = next((n for n in range(min(longest, len(words)), 1, -1) if " ".join(words[:n]) in vocabulary), 1)
            names.append(" ".join(words[:n]))
            words = words[n:]
        return names

    return split


def _collocations(pieces: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a function that splits a piece at blanks, except between words that only occur next to each other."""
    count: Counter[str] = Counter()
    after: dict[str, Counter[str]] = defaultdict(Counter)
    for piece in pieces:
        words = piece.split()
        count.update(words)
        for word, following in itertools.pairwise(words):
            after[word][following] += 1
    bound = {
        word: following
        for word, followers in after.items()
        for following, n in followers.items()
        if n == count[word] == count[following] and n > 1 and word != following and not word.isdecimal()
    }

    def split(piece: str) -> list[str]:
        names: list[str] = []
        last = None
        for word in piece.split():
            if last is not None and bound.get(last) == word:
                names[-1] += f" {word}"
            else:
                names.append(word)
            last = word
        return names

    return split

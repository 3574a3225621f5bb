"""Find label names that are spellings of the same word, and names that are similar enough to ask the user."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

SIMILAR = 0.88
"""Minimum fraction of characters that two similar names have in common, in order."""

BUCKETS, ROWS = 64, 64
"""Number of buckets in which characters are counted, and number of names compared at a time."""

LATIN_LOOKALIKES = str.maketrans(
    {
        **dict(zip("авекмнорстухіјѕԁԛԝһ", "abekmhopctyxijsdqwh", strict=True)),
        **dict(zip("αβεικνορτυχγ", "abeikvoptuxy", strict=True)),
    }
)
"""Lower-case Cyrillic and Greek letters that look like Latin letters, or whose capitals do."""

LETTERS, LATIN = re.compile(r"[^\W\d_]+"), re.compile(r"[a-z]")
SEPARATORS = r"[\s_.'’‐‑-]"


def normalized(label: str) -> str:
    """Return a normalized form that all spellings of a label share.

    Case, spaces, hyphens, underscores, dots, apostrophes, invisible characters and the encoding of accents are ignored.
    Look-alike letters from other alphabets are replaced inside Latin words. Numbers and signs keep their meaning:
    "1.5 l" is not "15 l", and "C++" is not "C".
    """
    text = unicodedata.normalize("NFKC", label.casefold())
    text = "".join(c for c in text if unicodedata.category(c) != "Cf" and not 0xFE00 <= ord(c) <= 0xFE0F) or text
    text = LETTERS.sub(lambda word: word[0].translate(LATIN_LOOKALIKES) if LATIN.search(word[0]) else word[0], text)
    return re.sub(rf"(?<!\d){SEPARATORS}+|{SEPARATORS}+(?!\d)", "", text) or text


def similarity(a: str, b: str) -> float:
    """Return how similar the spellings of two normalized names are.

    Returns:
        0 if the names differ by more than a letter, a plural ending or the alphabet; otherwise a value up to 1. Names
        with different digits are never similar.
    """
    if a == b or min(len(a), len(b)) < 3 or _digits(a) != _digits(b):
        return 0.0
    if a.translate(LATIN_LOOKALIKES) == b.translate(LATIN_LOOKALIKES):
        return 1.0
    ratio = SequenceMatcher(None, a, b, autojunk=False).ratio()
    return ratio if _singular(a) == _singular(b) or (ratio >= SIMILAR and min(len(a), len(b)) > 3) else 0.0


def similar_pairs(names: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """Find all pairs of similar names.

    Args:
        names: normalized names.

    Yields:
        Positions i < j and the similarity, ordered by i and j. Equal names are not similar.
    """
    for i, j in _candidates(names):
        if likeness := similarity(names[i], names[j]):
            yield i, j, likeness


def _candidates(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs whose letter counts suggest similarity, because comparing every pair in full would take minutes."""
    letters = np.zeros((len(names), BUCKETS), np.int16)
    for i, name in enumerate(names):
        for c in name:
            letters[i, ord(c) % BUCKETS] += 1
    lengths = np.array([len(name) for name in names])
    stems = _numbered(_singular(name) for name in names)
    looks = _numbered(name.translate(LATIN_LOOKALIKES) for name in names)
    for start in range(0, len(names), ROWS):
        block = slice(start, start + ROWS)
        common: NDArray[np.int64] = np.minimum(letters[block, None], letters[None]).sum(axis=2, dtype=np.int64)
        close = 2 * common >= SIMILAR * (lengths[block, None] + lengths[None])
        close |= (stems[block, None] == stems[None]) | (looks[block, None] == looks[None])
        for i, j in np.argwhere(np.triu(close, start + 1)).tolist():
            yield start + i, j


def _numbered(keys: Iterator[str]) -> NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _digits(name: str) -> str:
    return re.sub(r"\D", "", name)


def _singular(name: str) -> str:
    """Remove an English plural ending. The result is a key, not necessarily a word."""
    if name.endswith("ies") and len(name) > 4:
        return name[:-3] + "y"
    return name.removesuffix("s").removesuffix("e")

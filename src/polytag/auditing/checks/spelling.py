"""Which label names are spellings of the same word, and which are similar enough to ask."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

SIMILAR = 0.88
"""Minimum share of characters that two similar names have in common, in order."""

BUCKETS, ROWS = 64, 64
"""Characters are counted in this many buckets, for this many names at a time."""

LATIN_LOOKALIKES = str.maketrans(
    {
        **dict(zip("авекмнорстухіјѕԁԛԝһ", "abekmhopctyxijsdqwh", strict=True)),
        **dict(zip("αβεικνορτυχγ", "abeikvoptuxy", strict=True)),
    }
)
"""Lower-case Cyrillic and Greek letters, and the Latin letters that they or their capitals look like."""

LETTERS, LATIN = re.compile(r"[^\W\d_]+"), re.compile(r"[a-z]")
SEPARATORS = r"[\s_.'’‐‑-]"


def normalized(label: str) -> str:
    """Reduce a label to what its spellings have in common.

    Ignores case, spaces, hyphens, underscores, dots, apostrophes, invisible characters, how accents are encoded, and
    look-alike letters of other alphabets inside a Latin word. Numbers and signs keep their meaning: "1.5 l" is not
    "15 l", and "C++" is not "C".
    """
    text = unicodedata.normalize("NFKC", label.casefold())
    text = "".join(c for c in text if unicodedata.category(c) != "Cf" and not 0xFE00 <= ord(c) <= 0xFE0F) or text
    text = LETTERS.sub(lambda word: word[0].translate(LATIN_LOOKALIKES) if LATIN.search(word[0]) else word[0], text)
    return re.sub(rf"(?<!\d){SEPARATORS}+|{SEPARATORS}+(?!\d)", "", text) or text


def similarity(a: str, b: str) -> float:
    """How similar two normalized names are spelled.

    Returns:
        0 if the difference is more than a letter, a plural ending or the alphabet, else up to 1. Names with different
        digits are never similar.
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
    """Pairs that may be similar, judged by their letters alone. Comparing every pair in full would take minutes."""
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
    """A name without an English plural ending. The result is a key, not a word."""
    if name.endswith("ies") and len(name) > 4:
        return name[:-3] + "y"
    return name.removesuffix("s").removesuffix("e")

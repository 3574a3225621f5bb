"""Interpret the cells of a label's column: present, absent, unknown, blank, or anything else.

There are many ways to write 0 and 1. A column can be a label if all its cells are written in one of these ways.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.tables.column import Column

YES_AND_NO = (
    ("true", "false"),
    ("yes", "no"),
    ("present", "absent"),
    ("y", "n"),
    ("t", "f"),
    ("j", "n"),
    ("checked", "unchecked"),
    ("on", "off"),
    ("positive", "negative"),
    ("pos", "neg"),
    ("ja", "nein"),
    ("ja", "nee"),
    ("ja", "nej"),
    ("oui", "non"),
    ("sí", "no"),
    ("si", "no"),
    ("sì", "no"),
    ("sim", "não"),
    ("vrai", "faux"),
    ("wahr", "falsch"),
    ("verdadero", "falso"),
    ("да", "нет"),
    ("tak", "nie"),
    ("evet", "hayır"),
    ("是", "否"),
    ("有", "无"),
    ("有", "無"),
    ("はい", "いいえ"),
    ("예", "아니요"),
)
"""Pairs of words for present and absent, in lower case."""

TICKS = ("✓", "✔", "☑", "✅", "●", "○", "x", "+", "*", "•", "×", "✗", "✘", "☒")
"""Marks that mean present if the other cells of a column are blank, the most likely first."""

CROSSES = ("-", "–", "—", "☐")
"""Marks that mean absent if the column also has a tick."""

UNKNOWN_WORDS = ("?", "??", "u", "nan", "unknown", "uncertain", "unsure", "n/a", "na", "<na>", "null")


DECIMAL_COMMA = re.compile(r"-?(?:0,\d+|[1-9]\d*,\d{1,2})")
"""Pattern of numbers with a decimal comma. It does not match 1,000, which means a thousand."""


class Kind(Enum):
    """Meaning of a cell."""

    PRESENT = "present"
    ABSENT = "absent"
    MINUS = "-1"
    UNKNOWN = "unknown"
    BLANK = "blank"
    FRACTION = "fraction"
    NUMBER = "number"
    TEXT = "text"


_WORDS = dict.fromkeys(UNKNOWN_WORDS, Kind.UNKNOWN)
_WORDS |= {no: Kind.ABSENT for _, no in YES_AND_NO}
_WORDS |= {yes: Kind.PRESENT for yes, _ in YES_AND_NO}
_WORDS |= dict.fromkeys(TICKS, Kind.PRESENT)
_WORDS |= {"": Kind.BLANK, "1": Kind.PRESENT, "0": Kind.ABSENT, "-1": Kind.MINUS}

_LETTERS = {"y", "j", "n", "t", "f", "si", "no", "on", "pos", "neg", "u", "na", "*"}
"""Words that may also be abbreviations of other things. A column that contains only one of them is not a 0/1 column."""


def kind_of(word: str) -> Kind:
    """Return the meaning of a cell regardless of its column."""
    known = _WORDS.get(word) or _WORDS.get(word.casefold())
    if known is not None:
        return known
    number = number_of(word)
    if number is None:
        return Kind.TEXT
    if number in (0.0, 1.0, -1.0):
        return {0.0: Kind.ABSENT, 1.0: Kind.PRESENT, -1.0: Kind.MINUS}[number]
    return Kind.FRACTION if 0 < number < 1 else Kind.NUMBER


def number_of(word: str) -> float | None:
    """Return the number in a cell, which may be a percentage or have a decimal comma, or ``None`` for other cells."""
    if not word or word[-1] not in "0123456789.%":
        return None
    percent = word[-1] == "%"
    digits = word[:-1].rstrip() if percent else word
    if DECIMAL_COMMA.fullmatch(digits):
        digits = digits.replace(",", ".")
    try:
        return float(digits) / 100 if percent else float(digits)
    except ValueError:
        return None


@dataclass(frozen=True, eq=False)
class Reading:
    """A column, interpreted as the column of a label.

    Attributes:
        column: the column.
        kinds: the meaning of each distinct cell.
    """

    column: Column
    kinds: tuple[Kind, ...]

    @classmethod
    def of(cls, column: Column) -> "Reading":
        """Interpret a column."""
        kinds = [kind_of(word) for word in column.words]
        marks = {word.casefold() for word in column.words} & {*TICKS, *CROSSES}
        ticks = [tick for tick in TICKS if tick in marks]
        if len(marks) > 1 and ticks:
            # If a column has two marks, the less likely one means absent, such as a cross with a tick, or × with ○.
            kinds = [
                Kind.ABSENT if word.casefold() in marks - {ticks[0]} else kind
                for word, kind in zip(column.words, kinds, strict=True)
            ]
        return cls(column, tuple(kinds))

    def has(self, *kinds: Kind) -> bool:
        """Return whether any cell of the column has one of these meanings."""
        return not self.held.isdisjoint(kinds)

    @cached_property
    def held(self) -> frozenset[Kind]:
        """All meanings that occur in the column."""
        return frozenset(self.kinds)

    @cached_property
    def is_indicator(self) -> bool:
        """Whether the cells of the column mean present and absent."""
        if self.has(Kind.FRACTION, Kind.NUMBER, Kind.TEXT) or self.held <= {Kind.BLANK}:
            return False
        words = {word.casefold() for word in self.column.words if word}
        if self.held == {Kind.PRESENT} and len({word for word in words if number_of(word) is None}) > 1:
            return False  # Labels may be called x and y.
        return len(words) > 1 or not words <= {*_LETTERS, *TICKS} or Kind.BLANK in self.held

    @cached_property
    def is_fractions(self) -> bool:
        """Whether the column contains numbers from 0 to 1, not only 0 and 1."""
        return self.has(Kind.FRACTION) and not self.has(Kind.NUMBER, Kind.TEXT, Kind.MINUS)

    @cached_property
    def is_numeric(self) -> bool:
        """Whether all cells are numbers or blank."""
        words = (word for word, kind in zip(self.column.words, self.kinds, strict=True) if kind is not Kind.BLANK)
        return not self.has(Kind.TEXT) and all(number_of(word) is not None for word in words)

    def only(self, kinds: Sequence[Kind]) -> bool:
        """Return whether all cells have one of these meanings, and at least one cell has the first."""
        return kinds[0] in self.held and self.held <= set(kinds)

    def values(self, blank: int, minus: int, at_least: float | None = None) -> NDArray[np.int8]:
        """Return 1, 0 or -1 for each row, int8 (n,).

        Args:
            blank: the meaning of a blank cell, 0 or -1.
            minus: the meaning of -1, 0 or -1.
            at_least: the minimum number that means present.
        """
        meaning = {
            Kind.PRESENT: 1,
            Kind.ABSENT: 0,
            Kind.MINUS: minus,
            Kind.UNKNOWN: -1,
            Kind.BLANK: blank,
        }
        table = np.array(
            [
                int((number_of(word) or 0) >= at_least)
                if kind is Kind.FRACTION and at_least is not None
                else meaning[kind]
                for word, kind in zip(self.column.words, self.kinds, strict=True)
            ],
            dtype=np.int8,
        )
        return table[self.column.codes]

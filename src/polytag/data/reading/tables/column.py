"""Represent a table column by its distinct cells and the position of each row's cell among them.

Tables are repetitive. For example, a million rows of 0 and 1 contain just two distinct cells. All checks of a column
look at its distinct cells only, so their cost does not grow with the number of rows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class _Codes(dict[str, int]):
    """Mapping that numbers cells in order of appearance."""

    def __missing__(self, cell: str) -> int:
        self[cell] = code = len(self)
        return code


class ColumnBuilder:
    """Builder that collects the cells of one column, chunk by chunk."""

    def __init__(self) -> None:
        self._codes = _Codes()
        self._chunks: list[NDArray[np.unsignedinteger]] = [np.zeros(0, np.uint8)]

    def add(self, cells: Sequence[str]) -> None:
        """Append cells."""
        codes = np.fromiter(map(self._codes.__getitem__, cells), np.uint32, len(cells))
        self._chunks.append(_compact(codes, len(self._codes)))

    def add_coded(self, distinct: Sequence[str], codes: NDArray[np.integer]) -> None:
        """Append cells, given the distinct ones among them and the position of each cell among these."""
        own = np.fromiter(map(self._codes.__getitem__, distinct), np.uint32, len(distinct))
        self._chunks.append(_compact(own, len(self._codes))[codes])

    def build(self) -> "Column":
        """Return the column."""
        self._chunks = [np.concatenate(self._chunks)]  # The parts are not needed any more.
        return Column(list(self._codes), self._chunks[0])


def _compact(codes: NDArray[np.integer], n: int) -> NDArray[np.unsignedinteger]:
    """Return codes from 0 to n - 1 in the smallest data type. A table has one for each of its cells."""
    return codes.astype(np.min_scalar_type(max(0, n - 1)), copy=False)


@dataclass(frozen=True, eq=False)
class Column:
    """The cells of one column.

    Attributes:
        values: the distinct cells, unchanged, in order of appearance.
        codes: unsigned int (n,), the position of each row's cell in `values`.
    """

    values: list[str]
    codes: NDArray[np.unsignedinteger]

    @classmethod
    def of(cls, cells: Iterable[str]) -> "Column":
        """Return a column of these cells, one per row."""
        builder = ColumnBuilder()
        builder.add(list(cells))
        return builder.build()

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def words(self) -> list[str]:
        """The distinct cells with single blanks between words and no surrounding blanks."""
        return [" ".join(value.split()) for value in self.values]

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Number of rows of each distinct cell, int64 (values,)."""
        return np.bincount(self.codes, minlength=len(self.values))

    @property
    def is_blank(self) -> bool:
        """Whether all cells are blank."""
        return not any(self.words)

    @property
    def n_filled(self) -> int:
        """Number of rows with a non-blank cell."""
        return int(sum(count for count, word in zip(self.counts.tolist(), self.words, strict=True) if word))

    def map(self, change: Callable[[str], str]) -> "Column":
        """Return the column with a function applied to each distinct cell."""
        changed = [change(value) for value in self.values]
        if changed == self.values:
            return self
        codes = _Codes()
        new = np.array([codes[value] for value in changed], dtype=np.uint32)
        return Column(list(codes), _compact(new, len(codes))[self.codes])

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Column":
        """Return the column with these rows only."""
        codes = self.codes[rows]
        used = np.flatnonzero(np.bincount(codes, minlength=len(self.values)))
        if len(used) == len(self.values):
            return Column(self.values, codes)
        renumbered = np.zeros(len(self.values), dtype=np.uint32)
        renumbered[used] = np.arange(len(used))
        return Column([self.values[code] for code in used.tolist()], _compact(renumbered, len(used))[codes])

    def spread(self, items: Sequence[T]) -> list[T]:
        """Return one item per row, given one item per distinct cell."""
        return [items[code] for code in self.codes.tolist()]

    def first_rows(self) -> NDArray[np.int64]:
        """Return the first row of each distinct cell, int64 (values,)."""
        first = np.full(len(self.values), len(self.codes), dtype=np.int64)
        np.minimum.at(first, self.codes, np.arange(len(self.codes)))
        return first

    def rows_where(self, chosen: Sequence[bool]) -> NDArray[np.int64]:
        """Return the rows whose distinct cell is chosen."""
        return np.flatnonzero(np.asarray(chosen, dtype=bool)[self.codes])

"""Markdown of texts that may hold anything, such as names of labels and files."""

import re
from collections.abc import Iterable, Sequence
from typing import Any


def as_it_is(value: Any) -> str:
    """Text that Markdown shows as it is: on one line, with a backslash before what could be mark-up."""
    line = " ".join(str(value).split())
    return re.sub(r"[\\`*_<>&|~#$]|\[(?![\d+-])|\](?=[(\[:])|:(?=//)", r"\\\g<0>", line)


def table(columns: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; ``columns`` has a letter for each: "l" for text, set to the left, "r" for numbers, set to the right."""
    cells = [header, [{"l": "---", "r": "---:"}[column] for column in columns]]
    cells += [[as_it_is(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)

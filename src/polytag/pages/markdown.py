"""Write Markdown that contains untrusted text, such as names of labels and files."""

import re
from collections.abc import Iterable, Sequence
from typing import Any


def as_it_is(value: Any) -> str:
    """Escape a value so that Markdown shows it unchanged, on one line."""
    line = " ".join(str(value).split())
    return re.sub(r"[\\`*_<>&|~#$]|\[(?![\d+-])|\](?=[(\[:])|:(?=//)", r"\\\g<0>", line)


def table(columns: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table. ``columns`` has one letter per column: "l" aligns left, "r" aligns right."""
    cells = [header, [{"l": "---", "r": "---:"}[column] for column in columns]]
    cells += [[as_it_is(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)

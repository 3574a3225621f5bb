"""Parse cells that contain lists, as written by Python, JSON, NumPy or annotation tools, and vectors of 0 and 1."""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

OPENING = "[({"
WRAPPERS = re.compile(r"^(?:np\.|numpy\.)?(?:array|frozenset|set|tuple|list)\((.*?)(?:,\s*dtype=[^()]*)?\)$", re.DOTALL)
QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
NAMES_KEYS = ("choices", "labels", "label", "classes", "tags", "values", "taxonomy", "names")


def parse_list(cell: str) -> list[str] | None:
    """Return the items of the list in a cell, or ``None`` if the cell does not contain a list.

    Args:
        cell: the cell, without surrounding blanks.
    """
    wrapped = WRAPPERS.match(cell)
    if wrapped:
        return parse_list(wrapped[1].strip()) if wrapped[1].strip() else []
    if not cell or cell[0] not in OPENING or cell[-1] not in "])}":
        return None
    inside = cell[1:-1].strip()
    if not inside:
        return []
    if cell[0] in "[(":
        # NumPy separates items by blanks. Python would read ['a' 'b'] as a single string.
        between = QUOTED.sub("", inside)
        if between != inside and not between.strip():
            return [_unquote(quoted) for quoted in QUOTED.findall(inside)]
        if re.fullmatch(r"[-+.\deE\s]+", inside) and re.search(r"\s", inside):
            return inside.split()
    for parse in (json.loads, ast.literal_eval):
        try:
            return _names(parse(cell))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    # Some scripts write lists without quotes, such as [dog, cat].
    if cell[0] == "[" and not re.search(r"[\[\]{}\"']", inside):
        return [piece.strip() for piece in inside.split(",")]
    return None


def _unquote(quoted: str) -> str:
    try:
        return str(ast.literal_eval(quoted))
    except (ValueError, SyntaxError):
        return quoted[1:-1]


def _names(value: Any) -> list[str]:
    """Return the names in a parsed list.

    Raises:
        TypeError: the value does not contain a list of names.
    """
    if isinstance(value, dict):
        key = next(
            (key for key in value if str(key).lower() in NAMES_KEYS or str(key).lower().endswith("labels")), None
        )
        if key is None:
            raise TypeError("no names")
        value = value[key]
        return [str(value)] if isinstance(value, str) else _names(value)
    if isinstance(value, str | int | float) or value is None:
        raise TypeError("not a list")
    names: list[str] = []
    for item in sorted(value, key=str) if isinstance(value, set | frozenset) else value:
        if isinstance(item, dict):
            names += _names(item)
        elif isinstance(item, list | tuple):
            # The item is a path in a tree of labels, as in Label Studio's taxonomies.
            names.append("/".join(str(part) for part in item))
        elif item is not None:
            names.append(str(item))
    return names


def vector_length(items: Sequence[Sequence[str] | None]) -> int | None:
    """Return the length of the vectors, or ``None`` unless all lists have the same length and contain only 0 and 1."""
    lengths = {len(entries) for entries in items if entries is not None}
    if len(lengths) != 1 or None in items or (n := lengths.pop()) < 2:
        return None
    return n if all(_is_bit(entry) for entries in items if entries for entry in entries) else None


def is_vector_of_fractions(items: Sequence[Sequence[str] | None]) -> bool:
    """Return whether all lists have the same length and contain numbers from 0 to 1, not only 0 and 1."""
    lengths = {len(entries) for entries in items if entries is not None}
    if len(lengths) != 1 or None in items or lengths.pop() < 2:
        return False
    entries = [entry for row in items if row for entry in row]
    return all(_share(entry) for entry in entries) and not all(_is_bit(entry) for entry in entries)


def split_digits(cell: str) -> list[str] | None:
    """Return the entries of a cell such as ``0 1 0``, ``0,1,0``, ``01 01`` or ``010``, or ``None`` for other cells."""
    if re.fullmatch(r"'?[01]+(?:[\s,;|/:_-]+[01]+)*", cell) and not re.fullmatch(r"[01]", cell):
        return re.findall("[01]", cell)
    return re.split(r"[\s,;|]+", cell) if re.fullmatch(r"[01](?:\.0*)?(?:[\s,;|]+[01](?:\.0*)?)+", cell) else None


def ambiguous_bits(cells: Sequence[str]) -> tuple[int, str] | None:
    """Check whether cells of 0 and 1 may be vectors although their lengths differ.

    Args:
        cells: the distinct cells, with single blanks between words.

    Returns:
        The position of the shortest cell and a description of the cells, or ``None`` if they are not vectors.
    """
    filled = [(i, cell) for i, cell in enumerate(cells) if cell]
    lists = [(i, parse_list(cell) or split_digits(cell) or [cell]) for i, cell in filled]
    if not lists or not all(_is_bit(entry) for _, entries in lists for entry in entries):
        return None
    shortest = min(lists, key=lambda one: len(one[1]))[0]
    if all(re.fullmatch("[01]+", cell) for _, cell in filled):
        longest = max(len(cell) for _, cell in filled)
        return (shortest, "vectors that lost their leading zeros, or numbers") if longest > 1 else None
    # Lists that name entries twice are vectors, because a list of labels names each label once.
    repeating = sum(len(set(entries)) < len(entries) for _, entries in lists)
    return (shortest, "multi-hot vectors of different lengths") if 2 * repeating > len(lists) else None


def _is_bit(entry: str) -> bool:
    return entry in ("0", "1", "0.0", "1.0", "0.", "1.", "True", "False", "true", "false")


def bit(entry: str) -> int:
    """Convert an entry of a vector to 0 or 1."""
    return int(entry[:1] in ("1", "T", "t"))


def _share(entry: str) -> bool:
    try:
        return 0 <= float(entry) <= 1
    except ValueError:
        return False

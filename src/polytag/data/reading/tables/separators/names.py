"""Split the cells of a column into names, and find the mark that separates them.

The separator is the mark that explains the column best. It leaves the fewest labels, and each label recurs in different
combinations. A mark that occurs in only a few cells is part of the names, and is reported.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from polytag.data.reading.tables.lists import parse_list
from polytag.data.reading.tables.separators.blanks import split_at_blanks, undecided_blanks
from polytag.data.reading.tables.separators.punctuation import (
    HASHTAGS,
    LONE,
    Punctuation,
    find_leftover,
    find_punctuation,
    has_hashtags,
)
from polytag.errors import counted, listed

MARKS = {
    "|": r"\|",
    ";": r";",
    ",": r",",
    ", ": r",\s+",
    "，": r"，",
    "、": r"、",
    "；": r"；",
    "｜": r"｜",
    "tab": r"\t",
    "line break": r"[\r\n]+",
}
"""Marks that may separate names, each with its pattern."""

ORDINARY = frozenset(mark.strip() for mark in MARKS if len(mark.strip()) == 1)
"""The marks that are single characters."""

JOINING = (r"\s*[+/&]\s*", r"\s+(?:and|und|et|y|e|en|och|og)\s+")
"""Patterns that may join two names although another mark is the separator. They only split a cell if both names also
occur elsewhere."""

ENUMERATION = r",\s*|\s+&\s+|\s+(?:and|und|et|y|e|en|och|og)\s+"
"""Pattern that separates names in an enumeration such as ``dog, cat and bird``."""

BULLET = re.compile(r"^(?:[-*•·–]\s+)+")
"""Bullet before a name, as in a list."""

WEAK = {",", ", "}
"""Marks that often occur within names. They only count as separators if a split leaves fewer labels."""

IN_USE = 1 / 3
"""Minimum fraction of non-blank cells that must contain a character before it is considered as the separator."""


@dataclass(frozen=True)
class Names:
    """The names in a column.

    Attributes:
        sets: the distinct names in each distinct cell, in the order of the cell.
        separator: description of the separator.
        is_list: whether the cells are lists.
        single: whether no cell contains several names.
        notes: messages about what was decided for stray marks.
        unparsed: distinct cells that begin like a list but are not valid lists.
        doubtful: a mark that may be a separator or part of the names.
    """

    sets: list[tuple[str, ...]]
    separator: str
    is_list: bool = False
    single: bool = False
    notes: tuple[str, ...] = ()
    unparsed: tuple[str, ...] = field(default=())
    doubtful: str | None = None

    @property
    def by_blanks(self) -> bool:
        """Whether blanks separate the names."""
        return "blanks" in self.separator


def split_names(
    cells: Sequence[str],
    vocabulary: frozenset[str] = frozenset(),
    *,
    counts: Sequence[int] | None = None,
    separator: str | None = None,
    where: Callable[[int], str] = lambda cell: "",
) -> Names:
    """Split the cells of a column into names.

    Args:
        cells: the distinct cells, unchanged.
        vocabulary: names known beforehand, such as the headers of 0/1 columns.
        counts: the number of rows of each cell.
        separator: the separator, if it is known.
        where: function that returns the place of a cell, given its position, for messages.
    """
    rows = [1] * len(cells) if counts is None else list(counts)
    if separator is None:
        cells = _without_brackets(cells)
    stripped = [cell.strip() for cell in cells]
    lists = [parse_list(cell) for cell in stripped]
    n_lists = sum(n for items, n in zip(lists, rows, strict=True) if items is not None)
    n_filled = sum(n for cell, n in zip(stripped, rows, strict=True) if cell)
    open_lists = [cell for cell, items in zip(stripped, lists, strict=True) if items is None and _begins_list(cell)]
    is_list = n_lists > 0 and (2 * n_lists >= n_filled or any(cell[:1] in "[{" for cell in stripped if cell))
    if is_list:
        sets = [_distinct(items if items is not None else [cell]) for cell, items in zip(stripped, lists, strict=True)]
        plain = any(cell and items is None for cell, items in zip(stripped, lists, strict=True))
        form = "lists" + (" and single names" if plain else "")
        return Names(sets, form, is_list=True, unparsed=tuple(open_lists))
    if separator is not None:
        sets = [_distinct(_pieces(cell, _pattern(separator))) for cell in cells]
        return _named(sets, f"'{separator}'" if separator.strip() else _called(separator), (), open_lists)
    mark = _best_mark(cells, rows)
    punctuation = _punctuation(cells, rows, mark, vocabulary)
    if punctuation is not None:
        split = [_distinct(_pieces(cell, punctuation.pattern)) for cell in cells]
        split, notes = _strays(split, None, where)
        return _named(split, f"'{punctuation.mark}'", notes, open_lists)
    pieces = [_distinct(_pieces(cell, MARKS[mark] if mark else None)) for cell in cells]
    said = [_called(mark)] if mark else []
    by_blanks = None
    if mark is None or mark in WEAK:
        by_blanks = split_at_blanks(pieces, vocabulary)
        if by_blanks is not None:
            pieces, said = [_distinct(names) for names in by_blanks], [*said, "blanks"]
    pieces, notes = _strays(pieces, mark, where)
    whole = mark is None and by_blanks is None
    leftover = find_leftover(cells, rows, ORDINARY) if whole else None
    blanks = undecided_blanks(pieces) if whole and not vocabulary else []
    if blanks:
        notes.append(
            f"blanks are part of labels such as '{blanks[0][:60]}' and '{blanks[1][:60]}'; "
            "--label-separator ' ' separates there"
        )
    if leftover is not None:
        notes.append(
            f"'{leftover.mark}' is part of labels such as '{leftover.example[:60]}'; "
            f"--label-separator '{leftover.mark}' separates there"
        )
    doubtful = leftover.mark if leftover is not None and leftover.may_separate else None
    names = _named(pieces, " and ".join(said) or "nothing (one name per cell)", notes, open_lists)
    return replace(names, doubtful=doubtful)


def _without_brackets(cells: Sequence[str]) -> Sequence[str]:
    """Remove the brackets if every non-blank cell is in brackets and contains no quotes, as in ``(dog, cat)``."""
    stripped = [cell.strip() for cell in cells]
    filled = [cell for cell in stripped if cell]
    for opening, closing in ("()", "[]", "{}"):
        inside = [cell[1:-1] for cell in filled if cell[0] == opening and cell[-1] == closing and len(cell) > 1]
        text = "".join(inside)
        plain = text.translate(str.maketrans("", "", f"{opening}{closing}'\"")) == text
        # Numbers in brackets are lists, unless one of the cells cannot be parsed as a list.
        words = re.search(r"[^\W\d]|[;|]", text) or any(parse_list(cell) is None for cell in filled)
        if inside and len(inside) == len(filled) and plain and words:
            return [cell[1:-1] for cell in stripped]
    return cells


def _named(sets: list[tuple[str, ...]], said: str, notes: Sequence[str], unparsed: Sequence[str]) -> Names:
    return Names(sets, said, single=all(len(names) < 2 for names in sets), notes=tuple(notes), unparsed=tuple(unparsed))


def _called(mark: str) -> str:
    """Return the name to use for a separator character in messages."""
    if mark in ("tab", "line break"):
        return f"{mark}s"
    return {"\t": "tabs", "\n": "line breaks", " ": "blanks"}.get(mark, f"'{mark.strip()}'")


def _pattern(separator: str) -> str:
    """Return the pattern for a separator that the user gave, which may be an escape such as ``\\t``."""
    if separator in ("\\t", "tab"):
        return r"\t"
    if separator in ("\\n", "newline", "line break", "\n"):
        return r"[\r\n]+"
    if not separator.strip(" "):
        return r"\s+"
    # Blanks around a mark are ignored. Blanks around a word, as in " and ", prevent matches inside other words.
    mark = re.escape(separator.strip(" "))
    return rf"\s+{mark}\s+" if separator.strip(" ").isalpha() else mark


def _pieces(cell: str, pattern: str | None) -> list[str]:
    return [" ".join(piece.split()) for piece in (re.split(pattern, cell) if pattern else [cell])]


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    cleaned = (BULLET.sub("", " ".join(name.split())) for name in names)
    return tuple(dict.fromkeys(name for name in cleaned if name and not LONE.fullmatch(name)))


def _begins_list(cell: str) -> bool:
    """Return whether a cell looks like a list, perhaps a truncated or damaged one."""
    return bool(re.match(r"""[\[{(]\s*['"\[{]""", cell))


def _best_mark(cells: Sequence[str], rows: Sequence[int]) -> str | None:
    """Return the mark that leaves the fewest labels, or ``None`` if each cell is a single name."""
    filled = [(cell.strip(" "), n) for cell, n in zip(cells, rows, strict=True) if cell.strip()]
    total = sum(n for _, n in filled)
    if not total:
        return None
    whole = len({" ".join(cell.split()) for cell, _ in filled})
    best: tuple[int, bool, float, int, str] | None = None
    for order, (mark, pattern) in enumerate(MARKS.items()):
        seen = re.compile(pattern)
        share = sum(n for cell, n in filled if seen.search(cell)) / total
        if not share:
            continue
        labels = {piece for cell, _ in filled for piece in _distinct(seen.split(cell))}
        n_labels = len(labels)
        # If whole cells recur, no separator is needed. Otherwise, a mark that many cells contain is the separator.
        if n_labels < whole or (n_labels == whole and mark in WEAK):
            useful = True
        elif mark in WEAK:
            useful = share >= IN_USE and whole > total / 3 and n_labels > whole
        else:
            useful = share >= IN_USE or (n_labels == whole and share >= IN_USE / 3)
        # ", " is only preferred to "," if it leaves fewer labels, because numbers such as 1,000 contain commas.
        candidate = (n_labels, mark in WEAK, -share, order, mark)
        if useful and (best is None or candidate < best):
            best = candidate
    return best[-1] if best else None


def _punctuation(
    cells: Sequence[str], rows: Sequence[int], mark: str | None, vocabulary: frozenset[str]
) -> Punctuation | None:
    """Return the punctuation that separates names in place of an ordinary mark, or ``None``."""
    if has_hashtags(cells):
        return HASHTAGS
    if mark is not None and mark not in WEAK and _in_use(mark, cells, rows):
        return None
    found = find_punctuation(cells, vocabulary, ORDINARY)
    enumeration = _enumeration(cells, mark, found)
    if enumeration is not None and not vocabulary:
        return enumeration
    if found is None or mark is None or not _in_use(mark, cells, rows):
        return found
    # Names may contain commas, so punctuation is the separator if it leaves fewer labels.
    labels = {name for cell in cells for name in _distinct(_pieces(cell, MARKS[mark]))}
    return found if found.n_labels < len(labels) else None


def _enumeration(cells: Sequence[str], mark: str | None, found: Punctuation | None) -> Punctuation | None:
    """Return commas with a conjunction, as in ``dog, cat & bird``, if both together leave fewer labels than either."""
    if not any("," in cell for cell in cells):
        return None

    def count(pattern: str | None) -> int:
        return len({name for cell in cells for name in _distinct(_pieces(cell, pattern))})

    fewest = min(count(MARKS[mark] if mark else None), count(found.pattern if found else None))
    n_labels = count(ENUMERATION)
    return Punctuation(", &", ENUMERATION, n_labels) if n_labels < fewest and _joins(cells) else None


def _joins(cells: Sequence[str]) -> bool:
    """Return whether a conjunction follows a comma in any cell."""
    return any(re.search(r",.*(?:&|\s(?:and|und|et|y|e|en|och|og)\s)", cell) for cell in cells)


def _in_use(mark: str, cells: Sequence[str], rows: Sequence[int]) -> bool:
    """Return whether many cells contain the mark."""
    seen = re.compile(MARKS[mark])
    filled = [(bool(seen.search(cell)), n) for cell, n in zip(cells, rows, strict=True) if cell.strip()]
    return sum(n for has, n in filled if has) >= IN_USE * sum(n for _, n in filled)


def _strays(
    pieces: Sequence[tuple[str, ...]], mark: str | None, where: Callable[[int], str]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Split names at stray marks if all pieces also occur elsewhere as names. Return the names and notes."""
    labels = {name for row in pieces for name in row}
    others = {other: re.compile(pattern) for other, pattern in MARKS.items() if other not in (mark, ", ", "tab")}
    if mark == ", ":
        del others[","]
    joining = [re.compile(pattern) for pattern in JOINING] if mark is not None else []
    outcome: dict[str, tuple[str, ...]] = {}
    for name in labels:
        for pattern in (*others.values(), *joining):
            parts = _distinct(pattern.split(name)) if pattern.search(name) else ()
            if len(parts) > 1 and all(part in labels for part in parts):
                outcome[name] = parts
    kept = {name for name in labels if name not in outcome and any(p.search(name) for p in others.values())}
    if not outcome and not kept:
        return list(pieces), []
    places: dict[str, list[str]] = defaultdict(list)
    for cell, row in enumerate(pieces):
        for name in row:
            if name in outcome or name in kept:
                places[name].append(where(cell))
    notes = []
    for names, said in (
        (list(outcome), "split at a stray mark"),
        (sorted(kept), "not split, although a mark is inside"),
    ):
        if names:
            examples = [f"'{name}' ({_lines(places[name])})" for name in names]
            notes.append(f"{counted(len(names), 'label')} {said}: {listed(examples)}")
    return [_distinct([part for name in row for part in outcome.get(name, (name,))]) for row in pieces], notes


def _lines(places: Sequence[str]) -> str:
    return listed([place for place in places if place], 8) or "in the column"

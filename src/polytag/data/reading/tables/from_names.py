"""Convert columns of label names to labels, on their own, together with 0/1 columns, or in long form."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.options import ReadOptions
from polytag.data.reading.tables.cells import Cells
from polytag.data.reading.tables.column import Column
from polytag.data.reading.tables.from_values import Labelled, indicator_targets
from polytag.data.reading.tables.guards import doubt
from polytag.data.reading.tables.lists import ambiguous_bits
from polytag.data.reading.tables.long_form import gather, is_long_form
from polytag.data.reading.tables.roles import Roles
from polytag.data.reading.tables.separators.names import Names, split_names
from polytag.data.reading.tables.values import Kind
from polytag.errors import DataError, counted, listed

UNKNOWN = ("?", "??")
"""Cells that mean that the labels are unknown."""

BLANK = ("nan", "<na>", "n/a", "#n/a", "null", *UNKNOWN)
"""Cells that do not name a label. Spreadsheets and pandas write most of them for blank cells."""


def from_names(path: Path, cells: Cells, roles: Roles, options: ReadOptions) -> Labelled:
    """Read columns of label names. The table may also have 0/1 columns for the same labels, or be in long form."""
    columns = [cells.columns[i] for i in roles.names]
    headers = _known(columns, {cells.header[i] for i in roles.indicators})
    if options.label_separator is None:
        _refuse_bits(path, cells, roles)
    names = _split(path, cells, roles, headers, options)
    per_column = _divide(names.sets, columns)
    vocabulary = list(dict.fromkeys(name for sets in per_column for names_ in sets for name in names_))
    where = f"column{'s' * (len(columns) > 1)} {listed([repr(cells.header[i]) for i in roles.names])}"
    if not vocabulary:
        raise DataError(f"{path}: the {where} contains no labels")
    shared = 2 * len(set(vocabulary) & headers) >= len(vocabulary) and bool(roles.indicators)
    together = bool(roles.named) and bool(roles.indicators)
    examples = _examples(columns[0], per_column[0], names.by_blanks and options.label_separator is None)
    form = f"lists of names in {where}" if names.is_list else f"names in {where} separated by {names.separator}"
    if shared or together:
        return _names_and_columns(path, cells, roles, per_column, vocabulary, form, together, options, names.notes)
    labels = tuple(vocabulary)
    rows, label = _flat(columns, per_column, labels)
    if options.label_separator is None:
        _refuse_doubtful(path, where, names, labels, rows, label, len(cells))
    notes = (*names.notes, *((examples,) if examples else ()))
    n_names = np.bincount(rows, minlength=len(cells))
    image = cells.columns[cells.image_index]
    unknown = np.ones(len(cells), dtype=bool)
    for column in columns:
        unknown &= np.array([word in UNKNOWN for word in column.words])[column.codes]
    told = [f"'?' means that the labels are unknown ({counted(int(unknown.sum()), 'row')})"] if unknown.any() else []
    if is_long_form(image, n_names, roles.has_boxes, roles.confidence is not None):
        return _long(path, cells, roles, rows, label, labels, options, where, (*names.notes, *told), unknown)
    targets = np.zeros((len(cells), len(labels)), dtype=np.int8)
    targets[rows, label] = 1
    targets[unknown] = -1
    notes = (*notes, *told)
    form += f" ({counted(len(labels), 'label')})"
    return Labelled(targets, np.zeros(targets.shape, dtype=bool), labels, form, roles.names, notes)


def _known(columns: Sequence[Column], headers: set[str]) -> set[str]:
    """Return the headers of 0/1 columns if any of them is named in a cell. Otherwise, such as for ``is_valid``, they
    say nothing about the names."""
    text = "\n".join(word for column in columns for word in column.words)
    return headers if any(header in text for header in headers) else set()


def _refuse_bits(path: Path, cells: Cells, roles: Roles) -> None:
    """Raise an error if a column contains cells of 0 and 1 that may be vectors."""
    for i in roles.names:
        column = cells.columns[i]
        found = ambiguous_bits(column.words)
        if found is not None:
            line = cells.line(int(column.first_rows()[found[0]]))
            raise DataError(
                f"{path.name}, {line}: '{column.words[found[0]][:60]}' in column '{cells.header[i]}': the cells may be "
                f"{found[1]}; correct them, name the entries with --labels, or add --label-separator '|' if "
                "they are label numbers"
            )


def _split(path: Path, cells: Cells, roles: Roles, headers: set[str], options: ReadOptions) -> Names:
    """Split the cells of all columns of names in the same way."""
    columns = [cells.columns[i] for i in roles.names]
    firsts: list[NDArray[np.int64] | None] = [None] * len(columns)
    owner = [(c, code) for c, column in enumerate(columns) for code in range(len(column.values))]

    def where(cell: int) -> str:
        c, code = owner[cell]
        first = firsts[c]
        if first is None:
            first = firsts[c] = columns[c].first_rows()
        return cells.line(int(first[code]))

    names = split_names(
        ["" if value.strip().casefold() in BLANK else value for column in columns for value in column.values],
        frozenset(headers),
        counts=[count for column in columns for count in column.counts.tolist()],
        separator=options.label_separator,
        where=where,
    )
    if names.is_list and names.unparsed:
        cell = next(i for i, (c, code) in enumerate(owner) if columns[c].values[code].strip() == names.unparsed[0])
        raise DataError(
            f"{path.name}, {where(cell)}: '{names.unparsed[0][:60]}' begins like a list but does not end like one: "
            "correct it, or set the separator with --label-separator"
        )
    return names


def _divide(sets: list[tuple[str, ...]], columns: Sequence[Column]) -> list[list[tuple[str, ...]]]:
    """Divide the names in the distinct cells of all columns by column."""
    bounds = np.cumsum([0, *(len(column.values) for column in columns)]).tolist()
    return [sets[start:stop] for start, stop in pairwise(bounds)]


def _flat(
    columns: Sequence[Column], per_column: Sequence[list[tuple[str, ...]]], labels: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row and the label of each name, int64 (m,) each, without repetitions in a row."""
    place = {label: i for i, label in enumerate(labels)}
    rows, found = [], []
    for column, sets in zip(columns, per_column, strict=True):
        flat = np.array([place[name] for names in sets for name in names if name in place], dtype=np.int64)
        lengths = np.array([sum(name in place for name in names) for names in sets], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        n = lengths[column.codes]
        within = np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n, n)
        rows.append(np.repeat(np.arange(len(column.codes)), n))
        found.append(flat[np.repeat(starts[column.codes], n) + within] if len(flat) else flat)
    row, label = np.concatenate(rows), np.concatenate(found)
    if len(columns) > 1:
        row, label = np.unique(np.stack([row, label]), axis=1)
    return row, label


def _refuse_doubtful(
    path: Path,
    where: str,
    names: Names,
    labels: Sequence[str],
    rows: NDArray[np.int64],
    label: NDArray[np.int64],
    n_rows: int,
) -> None:
    """Raise an error if the labels look misread."""
    filled = int(np.count_nonzero(np.bincount(rows, minlength=n_rows)))
    counts = np.bincount(label, minlength=len(labels)).tolist()
    if names.doubtful is not None:
        raise DataError(
            f"{path.name}: '{names.doubtful}' in {where} may separate labels or be part of them: if it separates them, "
            f"add --label-separator '{names.doubtful}', otherwise --label-separator '|'"
        )
    why = doubt(labels, counts, filled, by_blanks=names.by_blanks, is_list=names.is_list)
    if why is not None:
        raise DataError(
            f"{path.name}: the {counted(len(labels), 'label')} in {where}, separated by {names.separator}, {why}: set "
            "the separator with --label-separator, or choose another column with --label-column"
        )


def _names_and_columns(
    path: Path,
    cells: Cells,
    roles: Roles,
    per_column: Sequence[list[tuple[str, ...]]],
    vocabulary: Sequence[str],
    form: str,
    together: bool,
    options: ReadOptions,
    notes: tuple[str, ...],
) -> Labelled:
    """Combine names with 0/1 columns, and record where they disagree about a label."""
    headers = tuple(cells.header[i] for i in roles.indicators)
    twice = [label for label, count in Counter(headers).items() if count > 1]
    if twice:
        raise DataError(f"{path} has more than one column called {listed(twice)}: label names must differ")
    extra = tuple(name for name in vocabulary if name not in headers)
    labels = (*headers, *extra) if together else headers
    targets, said = indicator_targets(path, headers, [roles.readings[i] for i in roles.indicators], options)
    rows, label = _flat([cells.columns[i] for i in roles.names], per_column, labels)
    named = np.zeros((len(cells), len(labels)), dtype=np.int8)
    named[rows, label] = 1
    disagreements = np.zeros(named.shape, dtype=bool)
    k = len(headers)
    if not together or set(headers) & set(vocabulary):
        speaks = np.array([header in vocabulary or not together for header in headers])
        disagreements[:, :k] = (targets >= 0) & (targets != named[:, :k]) & speaks
    count = int(disagreements.any(axis=1).sum())
    form += f" and a 0/1 column for each of {counted(k, 'label')} ({counted(count, 'row')} disagree)"
    if extra and not together:
        form += f", names without a column ignored: {listed(list(extra))}"
    named[:, :k] = np.where(named[:, :k] == 1, np.int8(1), targets)
    return Labelled(named, disagreements, labels, form, (*roles.indicators, *roles.names), (*notes, *said))


def _long(
    path: Path,
    cells: Cells,
    roles: Roles,
    rows: NDArray[np.int64],
    label: NDArray[np.int64],
    labels: tuple[str, ...],
    options: ReadOptions,
    where: str,
    notes: tuple[str, ...],
    unknown: NDArray[np.bool_],
) -> Labelled:
    """Read a table with one label per row. An image has the labels of all its rows, unless they are all unknown."""
    per_row = np.full(len(cells), -1, dtype=np.int64)
    per_row[rows] = label
    values, otherwise, said = np.ones(len(cells), dtype=np.int8), 0, ""
    if roles.confidence is not None:
        reading = roles.readings[roles.confidence]
        header = cells.header[roles.confidence]
        if reading.is_fractions and options.at_least is None:
            raise DataError(
                f"{path}: the column '{header}' contains values between 0 and 1: set the minimum value of a present "
                "label with --at-least"
            )
        values = reading.values(-1, -1, options.at_least)
        if reading.has(Kind.ABSENT):
            otherwise = -1
            said = f", present or absent by column '{header}', unknown without a row"
        elif reading.is_fractions:
            said = f", present if column '{header}' is at least {options.at_least:g}"
        else:
            said = f", all present by column '{header}'"
    image = cells.columns[cells.image_index]
    long = gather(image, per_row, values, len(labels), otherwise)
    if unknown.any():
        names = np.asarray(image.spread(image.words))
        open_ones = set(names[unknown].tolist()) - set(names[~unknown].tolist())
        long.targets[[i for i, name in enumerate(long.images) if name in open_ones]] = -1
    what = "objects" if roles.has_boxes else "one name per row"
    form = f"{what} in {where}, all rows of an image together{said} ({counted(len(labels), 'label')})"
    form += f", {counted(len(long.images), 'image')}"
    used = (*roles.names, *(() if roles.confidence is None else (roles.confidence,)))
    return Labelled(long.targets, long.disagreements, labels, form, used, notes, long)


def _examples(column: Column, sets: Sequence[tuple[str, ...]], is_guess: bool) -> str | None:
    """Describe how up to two example cells were read, or return ``None`` if no cell has several names."""
    several = sorted((i for i, names in enumerate(sets) if len(names) > 1), key=lambda i: -len(sets[i]))[:1]
    chosen = [*several, *(i for i, names in enumerate(sets) if names and i not in several)][:2]
    if not several:
        return None
    shown = [f"'{column.words[i][:80]}' is {' + '.join(sets[i])}" for i in chosen]
    return f"read as: {'; '.join(shown)}{'; --label-separator changes that' if is_guess else ''}"

"""Find the role of each column of a table: labels, split, groups, remarks, or none.

Cells are considered first and headers second.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import PART_NAMES
from polytag.data.reading.tables.cells import NOTE_HEADERS, Cells, column_called, looks_like_image, plain
from polytag.data.reading.tables.column import Column
from polytag.data.reading.tables.lists import is_vector_of_fractions, parse_list, split_digits, vector_length
from polytag.data.reading.tables.long_form import BOX_HEADERS, CONFIDENCE_HEADERS, SCORE_HEADERS, SIDE_SCORES
from polytag.data.reading.tables.values import Kind, Reading
from polytag.errors import DataError, SettingsError, listed

LABEL_HEADERS = {"label", "labels", "class", "classes", "tag", "tags", "category", "categories", "names", "targets"}
LABEL_HEADERS |= {"target", "labelname", "labelnames", "classname", "classnames", "tagname", "keywords", "keyword"}
LABEL_HEADERS |= {"subject", "genre", "genres", "objects", "object", "choice", "choices", "attributeids", "attributes"}
LABEL_HEADERS |= {"findings", "finding", "findinglabels", "species", "annotation", "annotations", "etiketten"}
LABEL_HEADERS |= {
    "schlagwörter",
    "schlagworte",
    "etiquetas",
    "étiquettes",
    "etichette",
    "标签",
    "标签名",
    "ラベル",
    "метки",
}
ENDS_AS_LABEL = re.compile(r"(?:labels?|class(?:es)?|tags?|categor(?:y|ies)|keywords?|genres?)$")
LABEL_NUMBERS = re.compile(r"(?:label|class|category|tag|attribute)(?:id|idx|index|no|number)")
"""Headers of columns with label numbers. Such a column is used if no column contains label names."""

SPLIT_HEADERS = {"split", "part", "set", "subset", "fold", "partition", "tags", "tag", "dataset", "phase", "parts"}
SPLIT_HEADERS |= {"mluse", "aiplatformgoogleapiscom/mluse"}
GROUP_HEADERS = {"group", "groups", "groupid", "groupids"}
OFFERED_HEADERS = re.compile(
    r"^(?:patient|subject|person|individual|scene|location|place|site|sequence|seq|video|clip|burst|series|study)"
    r"(?:id|ids|no|nr|num|number|name|key|uid|code)?s?$"
)
SIDE_HEADERS = {"source", "license", "licence", "author", "annotator", "user", "date", "time", "datetime", "createdat"}
SIDE_HEADERS |= {"updatedat", "timestamp", "sex", "gender", "patientsex", "patientgender", "url", "md5", "sha256"}
SIDE_HEADERS |= {"hash", "camera", "device", "title", "description", "annotationid", "viewposition", "view", "who"}
SIDE_HEADERS |= {"created", "modified", "owner", "photographer", "email", "status", "leadtime", "width", "height"}
FLAG_HEADERS = {"isvalid", "isvalidation", "isval", "istest", "istrain", "istraining", "deleteflag", "deleted"}
FLAG_HEADERS |= {"fold", "folds", "kfold"}
"""Headers of 0/1 columns that describe rows rather than labels, such as fastai's ``is_valid``."""

ID_HEADERS = {"id", "ids", "index", "idx", "unnamed", "rowid", "uid", "uuid"}
"""Headers that mean row numbers in the first column, even if the table is so short that they are just 0 and 1."""

DATE = re.compile(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ]\d{1,2}:.*)?$|^\d{1,2}:\d{2}(?::\d{2})?$")


@dataclass(frozen=True, eq=False)
class Roles:
    """Roles of the columns of a table. Columns are identified by position.

    Attributes:
        indicators: 0/1 columns that are labels, or would be labels if there were no column of names.
        fractions: label columns with values between 0 and 1.
        names: columns of label names. There is more than one only if the user named them.
        vector: the column of multi-hot vectors if it is the only source of labels.
        confidence: the column with the confidence of each row's label.
        has_boxes: whether there are columns with boxes or polygons.
        split: the column with the split.
        group: the column with groups.
        slices: the columns that the user wants to keep.
        offered: columns that probably contain groups.
        readings: each column, interpreted as the column of a label.
        named: the columns that the user named as labels.
    """

    indicators: tuple[int, ...]
    fractions: tuple[int, ...]
    names: tuple[int, ...]
    vector: int | None
    confidence: int | None
    has_boxes: bool
    split: int | None
    group: int | None
    offered: tuple[int, ...]
    readings: dict[int, Reading] = field(repr=False)
    named: tuple[int, ...] = ()
    slices: tuple[int, ...] = ()


def find_roles(path: Path, cells: Cells, options: ReadOptions) -> Roles:
    """Find the role of each column.

    Raises:
        DataError: the role of a column is ambiguous. The message names the option to set.
        SettingsError: an option names a column that has another role.
    """
    header = cells.header
    named = tuple(dict.fromkeys(column_called(header, name, path, "--label-column") for name in options.label_column))
    if cells.image_index in named:
        raise DataError(
            f"{path}: the column '{header[cells.image_index]}' names the images, so it cannot be --label-column too"
        )
    others = [i for i, column in enumerate(cells.columns) if i != cells.image_index and not column.is_blank]
    free = [i for i in others if i not in named]
    readings = {i: Reading.of(cells.columns[i]) for i in others}
    split = _split_column(path, cells, free, named, options)
    group = _group_column(path, cells, free, named, readings, options)
    slices = tuple(dict.fromkeys(column_called(header, name, path, "--slice") for name in options.slice))
    free = [i for i in free if i not in (split, group, *slices)]
    remarks = {i for i in free if plain(header[i]) in NOTE_HEADERS and not readings[i].is_indicator}
    free = [i for i in free if i not in remarks]
    # If the user gives a separator, the cells contain names rather than vectors.
    n_labels = len(options.labels)
    possible_vectors = others if n_labels or options.label_separator is None else []
    vectors = {i for i in possible_vectors if is_vector(cells.columns[i], n_labels) is not None}
    confidence = _confidence(cells, free, readings)
    boxes = {i for i in free if plain(header[i]) in BOX_HEADERS}
    if named:
        found = _named_roles(path, cells, named, readings, vectors, confidence, split, group, len(boxes) > 1)
        return replace(found, slices=slices)
    possible = [i for i in free if header[i] and (i or plain(header[i]) not in ID_HEADERS)]
    possible = [i for i in possible if plain(header[i]) not in FLAG_HEADERS]
    indicators = [i for i in possible if readings[i].is_indicator and i not in vectors]
    names = _names_column(path, cells, free, indicators, readings, vectors, boxes)
    side = SIDE_SCORES if indicators else ()
    fractions = tuple(i for i in free if header[i] and readings[i].is_fractions and plain(header[i]) not in side)
    vector = None
    if names is None and vectors and (options.labels or not indicators):
        vector = min(vectors)
    if names is not None and options.labels and vectors:
        names, vector = None, min(vectors)
    used = {names, vector, *(indicators if names is None else ())}
    return Roles(
        indicators=tuple(indicators),
        fractions=fractions if names is None and vector is None else (),
        names=() if names is None else (names,),
        vector=vector,
        confidence=confidence if names is not None else None,
        has_boxes=len(boxes) > 1 or any(plain(header[i]) not in {"x", "y", "w", "h"} for i in boxes),
        split=split,
        group=group,
        offered=_offered(cells, [i for i in free if i not in used], group),
        readings=readings,
        slices=slices,
    )


def is_vector(column: Column, n_labels: int = 0) -> list[list[str] | None] | None:
    """Return the entries of each distinct cell if the column contains multi-hot vectors or vectors of values in [0, 1].

    Args:
        column: the column.
        n_labels: the number of labels that the user named. It is used to restore leading zeros that vectors have lost.

    Returns:
        The entries of each cell, with ``None`` for blank cells, or ``None`` if the column contains anything else.
    """
    filled = [word for word in column.words if not _is_blank(word)]
    if not filled or not re.match(r"[\[({]|[01](?:\.0*)?[\s,;|/:_-]|'?[01]{2,}|array\(|[01]$", filled[0]):
        return None
    if set(filled) <= {"1,0", "0,0"} and n_labels != 2:
        return None  # The cells are numbers with decimal commas.
    if n_labels > 1 and all(re.fullmatch("[01]+", word) for word in filled) and max(map(len, filled)) > 1:
        filled = [word.zfill(n_labels) for word in filled]
    items = [parse_list(word) or split_digits(word) for word in filled]
    if vector_length(items) is None and not is_vector_of_fractions(items):
        return None
    found = iter(items)
    return [None if _is_blank(word) else next(found) for word in column.words]


def _is_blank(word: str) -> bool:
    return word.casefold() in ("", "nan", "<na>", "?")


def label_rank(header: str) -> int:
    """Return 2 if a header means label, 1 if it ends with such a word, and 0 otherwise."""
    word = plain(header)
    return 2 if word in LABEL_HEADERS else int(bool(ENDS_AS_LABEL.search(word)))


def _split_column(
    path: Path, cells: Cells, free: Sequence[int], named: Sequence[int], options: ReadOptions
) -> int | None:
    header = cells.header
    if options.split_column is not None:
        chosen = column_called(header, options.split_column, path, "--split-column")
        if chosen == cells.image_index or chosen in named:
            raise SettingsError(f"the column '{header[chosen]}' cannot be --split-column and something else too")
        _parts_or_refuse(path, cells, chosen, "--split-column")
        return chosen
    for i in free:
        column = cells.columns[i]
        words = [word for word in column.words if word]
        known = sum(part_of(word) is not None for word in words)
        if plain(header[i]) not in SPLIT_HEADERS or (plain(header[i]) in LABEL_HEADERS and len(free) < 2):
            continue
        wrong = [part_of(word) is None for word in column.words]
        n_wrong = len(column.rows_where(wrong))
        if known == len(words) and not n_wrong:
            return i
        # Blanks among parts are refused, however many: one would be guessed otherwise.
        if (2 * n_wrong < len(column) or known == len(words) > 0) and label_rank(header[i]) < 2:
            _parts_or_refuse(path, cells, i, "--split-column")
    return None


def _parts_or_refuse(path: Path, cells: Cells, i: int, flag: str) -> None:
    column = cells.columns[i]
    wrong = column.rows_where([part_of(word) is None for word in column.words])
    if len(wrong):
        raise DataError(
            f"{path.name}, {cells.line(wrong[0])}: '{column.words[column.codes[wrong[0]]]}' in the split column "
            f"'{cells.header[i]}': expected train, validation or test; {flag} names another column"
        )


def part_of(cell: str) -> str | None:
    """Return the part of the split that a cell means, or ``None``."""
    word = re.sub(r"[\s_\-]*(?:set|split|data|images?|\d{4})$", "", cell.strip().lower())
    return PART_NAMES.get(cell.strip().lower()) or PART_NAMES.get(word)


def _group_column(
    path: Path,
    cells: Cells,
    free: Sequence[int],
    named: Sequence[int],
    readings: dict[int, Reading],
    options: ReadOptions,
) -> int | None:
    if options.group_column is not None:
        chosen = column_called(cells.header, options.group_column, path, "--group-column")
        if chosen == cells.image_index or chosen in named:
            raise SettingsError(f"the column '{cells.header[chosen]}' cannot be --group-column and something else too")
        return chosen
    # Group numbers are accepted too, but a column of only 0 and 1 is probably a label.
    groups = (i for i in free if plain(cells.header[i]) in GROUP_HEADERS and not readings[i].is_indicator)
    return next(groups, None)


def _offered(cells: Cells, free: Sequence[int], group: int | None) -> tuple[int, ...]:
    """Return columns that probably say which images belong together, and that group at least two images."""
    if group is not None:
        return ()
    n_images = len(cells.columns[cells.image_index].values)
    likely = (i for i in free if OFFERED_HEADERS.match(plain(cells.header[i])))
    return tuple(i for i in likely if 1 < len(cells.columns[i].values) < n_images)


def _confidence(cells: Cells, free: Sequence[int], readings: dict[int, Reading]) -> int | None:
    repeated = len(cells.columns[cells.image_index].values) < len(cells)
    headers = CONFIDENCE_HEADERS if repeated else SCORE_HEADERS
    likely = [i for i in free if plain(cells.header[i]) in headers]
    return next((i for i in likely if readings[i].is_indicator or readings[i].is_fractions), None)


def _named_roles(
    path: Path,
    cells: Cells,
    named: tuple[int, ...],
    readings: dict[int, Reading],
    vectors: set[int],
    confidence: int | None,
    split: int | None,
    group: int | None,
    has_boxes: bool,
) -> Roles:
    """Return the roles if the user named the label columns. Other columns are then not used as labels."""
    blank = [cells.header[i] for i in named if i not in readings]
    if blank:
        raise DataError(f"{path}: --label-column names {listed(blank)}, but all cells there are blank")
    vector = next((i for i in named if i in vectors), None)
    if vector is not None and len(named) > 1:
        raise DataError(
            f"{path}: the column '{cells.header[vector]}' holds multi-hot vectors: name it alone with --label-column"
        )
    rest = [i for i in named if i != vector]
    indicators = tuple(i for i in rest if readings[i].is_indicator)
    fractions = tuple(i for i in rest if readings[i].is_fractions)
    names = tuple(i for i in rest if i not in indicators and i not in fractions)
    if indicators and names:
        _refuse_wrong(path, cells, [i for i in names if not label_rank(cells.header[i])], readings)
    usable = confidence is not None and confidence not in named and names and readings[confidence].is_indicator
    others = [i for i in readings if i not in (*named, split)]
    return Roles(
        indicators,
        fractions,
        names,
        vector,
        confidence if usable else None,
        has_boxes,
        split,
        group,
        _offered(cells, others, group),
        readings,
        named,
    )


def _names_column(
    path: Path,
    cells: Cells,
    free: Sequence[int],
    indicators: Sequence[int],
    readings: dict[int, Reading],
    vectors: set[int],
    boxes: set[int],
) -> int | None:
    """Return the column of names that contains the labels, or ``None`` if the labels are in other columns."""
    header = cells.header
    candidates = [i for i in free if i not in indicators and i not in vectors and not readings[i].is_fractions]
    called = [i for i in candidates if label_rank(header[i]) == 2]
    lists = [i for i in candidates if i not in boxes and _holds_lists(cells.columns[i])]
    alike = [i for i in candidates if label_rank(header[i]) == 1]
    texts = [i for i in candidates if not readings[i].is_numeric and i not in boxes and not _is_side(cells, i)]
    texts = [i for i in texts if plain(header[i]) not in ID_HEADERS or _recurs(cells.columns[i])]
    if called or lists:
        return (called or lists)[0]
    _refuse_wrong(path, cells, [i for i in candidates if i not in alike], readings)
    if indicators:
        labels = {header[i] for i in indicators}
        for i in [*alike, *texts]:
            words = {word for cell in cells.columns[i].words for word in re.split(r"[|,;\s]+", cell) if word}
            if words and len(words & labels) >= 0.5 * len(words):
                return i
        return alike[0] if len(alike) == 1 and not readings[alike[0]].is_numeric else None
    if len({header[i].casefold() for i in alike if not readings[i].is_numeric}) > 1:
        raise _several(path, [header[i] for i in alike])
    if alike:
        return alike[0]
    likely = [i for i in texts if plain(header[i]) not in SIDE_HEADERS]
    if len(likely) == 1:
        return likely[0]
    if any(readings[i].is_fractions for i in free) or vectors:
        return None
    if len(likely) > 1:
        raise _several(path, [header[i] for i in likely])
    numbered = [i for i in candidates if LABEL_NUMBERS.fullmatch(plain(header[i]))]
    if len(numbered) == 1:
        return numbered[0]
    numeric = [header[i] or f"column {i + 1}" for i in candidates if readings[i].is_numeric]
    others = [*numeric, *(header[i] for i in texts if i not in likely)]
    also = f"; name one of {listed(others)} with --label-column if it holds labels" if others else ""
    raise DataError(f"{path} has an image column but no labels: expected a column of names or 0/1 columns{also}")


def _recurs(column: Column) -> bool:
    """Return whether cells recur, as labels do and ids do not."""
    return 1 < len(column.words) <= len(column) / 2


def _several(path: Path, headers: list[str]) -> DataError:
    return DataError(
        f"{path} has several columns that could hold the labels ({listed(headers)}): name one with --label-column; "
        "repeat it to use several"
    )


def _holds_lists(column: Column) -> bool:
    filled = [word for word in column.words if word]
    return bool(filled) and all(word[0] in "[{" and word[-1] in "]}" for word in filled)


def _is_side(cells: Cells, i: int) -> bool:
    """Return whether a text column cannot contain labels because it holds dates, image names, URLs or a split."""
    words = [word for word in cells.columns[i].words if word][:200]
    odd = sum(
        bool(DATE.match(word)) or looks_like_image(word) or word.startswith(("http://", "https://")) for word in words
    )
    return 2 * odd > len(words) or all(part_of(word) for word in words)


def _refuse_wrong(path: Path, cells: Cells, columns: Sequence[int], readings: dict[int, Reading]) -> None:
    """Refuse an invalid cell in a column of 0 and 1."""
    for i in columns:
        reading, column = readings[i], cells.columns[i]
        wrong = [kind in (Kind.NUMBER, Kind.TEXT, Kind.FRACTION) for kind in reading.kinds]
        if not any(wrong) or plain(cells.header[i]) in LABEL_HEADERS | SIDE_HEADERS:
            continue
        rows = column.rows_where(wrong)
        # A column of counts, such as visits, is not a label although most of its cells may be 0 or 1.
        is_count = reading.is_numeric and sum(wrong) > 1
        if 2 * len(rows) < column.n_filled and not is_count:
            raise DataError(
                f"{path.name}, {cells.line(rows[0])}: '{column.words[column.codes[rows[0]]]}' in the 0/1 column "
                f"'{cells.header[i]}': expected 0, 1, or -1, ? or a blank for unknown. Correct it, or name the label "
                "columns with --label-column"
            )

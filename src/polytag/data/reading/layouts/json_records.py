"""Read JSON Lines, and JSON lists or objects of flat records, into table cells."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from polytag.data.reading.table import Table
from polytag.data.reading.tables.cells import IMAGE_HEADERS, Cells, plain
from polytag.data.reading.tables.parquet import list_cell
from polytag.data.reading.tables.roles import label_rank
from polytag.errors import DataError, listed
from polytag.photos.kinds import EXTENSIONS

UNKNOWN = "unknown_labels"

NAME_KEYS = (
    *("categories", "category", "labels", "label", "classes", "class", "names", "name", "tags"),
    *("displayname", "labelname", "classname", "tagname"),
)
"""Keys under which a nested object stores names: {"objects": {"bbox": […], "categories": […]}}. Case is ignored."""

CLASS_MAP = "class-map"
"""Key under which AWS Ground Truth stores the names of class numbers, in the metadata of a field."""


def read_lines(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the objects in a JSON Lines file, which has one per line, and their line numbers.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object.
    """
    records = []
    lines = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise DataError(f"{path}, line {number}: expected an object, {{…}}, not {line.strip()[:40]!r}")
                records.append(record)
                lines.append(number)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): name a table of images and labels") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {len(records) + 1}: not JSON ({error}): expected an object per line") from None
    return records, lines


def take_unknown(records: Sequence[dict[str, Any]]) -> list[list[str]] | None:
    """Remove and return the field ``unknown_labels``, in which `polytag.write` stores unknown labels."""
    if not any(isinstance(record.get(UNKNOWN), list) for record in records):
        return None
    told = [record.pop(UNKNOWN, None) for record in records]
    return [[str(name) for name in names] if isinstance(names, list) else [] for names in told]


def with_unknown(table: Table, unknown: Sequence[Sequence[str]], images: Sequence[str]) -> Table:
    """Set the named labels of each record to unknown. Names that are not labels yet are added to the labels.

    Args:
        table: one row for each record, or in long form one row for each image.
        unknown: the unknown labels of each record.
        images: the image of each record.
    """
    labels = tuple(dict.fromkeys([*table.labels, *(name for names in unknown for name in names)]))
    place = {label: j for j, label in enumerate(labels)}
    more = len(labels) - len(table.labels)
    targets = np.pad(table.targets, ((0, 0), (0, more)))
    row_of = {image: i for i, image in enumerate(table.images)}
    for i, (image, names) in enumerate(zip(images, unknown, strict=True)):
        row = targets[row_of[image] if table.long_form else i]
        # What one record of an image knows settles what another leaves open.
        settled = row == 1 if table.long_form else np.zeros(len(row), dtype=bool)
        row[[j for j in map(place.__getitem__, names) if not settled[j]]] = -1
    disagreements = np.pad(np.asarray(table.disagreements), ((0, 0), (0, more)))
    return replace(table, labels=labels, targets=targets, disagreements=disagreements)


def is_records(content: Any) -> bool:
    """Return whether JSON content is a list of objects that name images, or an object whose keys are image names."""
    if isinstance(content, dict):
        sample = list(content)[:50]
        return bool(sample) and all(_looks_like_image(key) for key in sample)
    if not isinstance(content, list) or not content or not all(isinstance(one, dict) for one in content):
        return False
    return _image_key(content[:50], None) is not None


def read_records(path: Path, content: Any, image_column: str | None = None) -> Cells:
    """Read a JSON list of objects, or an object that maps image names to labels.

    Raises:
        DataError: no field contains image names.
    """
    if isinstance(content, dict):
        content = [
            {"image": image, **value} if isinstance(value, dict) else {"image": image, "labels": value}
            for image, value in content.items()
        ]
    return cells_of(path, content, list(range(1, len(content) + 1)), image_column, place="record")


def cells_of(
    path: Path, records: Sequence[Mapping[str, Any]], lines: list[int], image_column: str | None, place: str
) -> Cells:
    """Convert records to table cells. Each entry of a nested object becomes a column of its own.

    Raises:
        DataError: there are no records, or no field contains image names.
    """
    if not records:
        raise DataError(f"{path} is empty: expected one object for each image")
    flat = [_flat(record) for record in records]
    header = list(dict.fromkeys(key for record in flat for key in record))
    key = _image_key(flat, image_column)
    if key is None:
        wanted = f"no field '{image_column}' (--image-column)" if image_column else "no field with image names"
        raise DataError(f"{path} has {wanted}; its fields are {listed(header, 20)}: name one with --image-column")
    columns = [[record.get(name) for record in flat] for name in header]
    texts = []
    for name, values in zip(header, columns, strict=True):
        if any(isinstance(value, list) for value in values):
            rows = [value if isinstance(value, list) else [] if value is None else [value] for value in values]
            if all(_is_name(one) for row in rows for one in row):
                # A list stays a list in its cell, even if names contain separators.
                texts.append(["" if value is None else list_cell(row) for value, row in zip(values, rows, strict=True)])
                continue
            if label_rank(name) == 2 and all(isinstance(row, list) and row for row in values):
                raise DataError(
                    f"{path}: the field '{name}' holds objects without a name that polytag knows: write the names of "
                    "each image as a list, or name another field with --label-column"
                )
            values = [None] * len(values)  # Boxes, vectors and other nested values do not name labels.
        texts.append([_text(value) for value in values])
    titles = [" ".join(name.split()) for name in header]
    return Cells.of_rows(titles, list(zip(*texts, strict=True)), lines, header.index(key), place)


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in record.items():
        names = _class_map(record.get(f"{key}-metadata"))
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            inner = _name_key(set.intersection(*map(set, value)))
            found[key] = [one[inner] for one in value] if inner else [[]]
        elif names and isinstance(value, list | int):
            found[key] = [names.get(str(number), number) for number in (value if isinstance(value, list) else [value])]
        elif isinstance(value, dict) and _class_map(value):
            continue
        elif isinstance(value, dict):
            inner = _name_key({name for name, one in value.items() if isinstance(one, list)})
            # An entry never takes the place of a field, nor of another object's entry.
            own = {f"{key}.{name}" if name in record or name in found else name: one for name, one in value.items()}
            found |= {key: value[inner]} if inner else own
        else:
            found[key] = value
    return found


def _name_key(keys: Iterable[str]) -> str | None:
    """Return the key that most likely holds names, or ``None``."""
    by_word = {plain(key): key for key in keys}
    return next((by_word[word] for word in NAME_KEYS if word in by_word), None)


def _class_map(metadata: Any) -> dict[str, str]:
    """Return the names of class numbers that AWS Ground Truth writes next to a field, or an empty object."""
    names = metadata.get(CLASS_MAP) if isinstance(metadata, dict) else None
    return {str(number): str(name) for number, name in names.items()} if isinstance(names, dict) else {}


def _image_key(records: Sequence[Mapping[str, Any]], image_column: str | None) -> str | None:
    """Return the field with the image names: the user's choice, or a field whose values end in image extensions."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    if image_column is not None:
        wanted = image_column.strip().lower()
        return next((key for key in keys if key.strip().lower() == wanted), None)
    sample = records[:200]
    ends = {key: sum(_looks_like_image(record.get(key)) for record in sample) for key in keys}
    if ends.get("file_name"):
        return "file_name"
    best = max(keys, key=lambda key: ends[key], default=None)
    if best is not None and 2 * ends[best] >= len(sample):
        return best
    texts = [key for key in keys if all(isinstance(record.get(key), str | int) for record in sample)]
    return next((key for key in texts if plain(key) in IMAGE_HEADERS), None)


def _looks_like_image(value: Any) -> bool:
    return isinstance(value, str) and os.path.splitext(value.split("?")[0])[1].lower() in EXTENSIONS


def _is_name(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def _text(value: Any) -> str:
    if value is None or value != value or isinstance(value, list | dict):
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

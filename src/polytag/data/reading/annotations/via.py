"""Read VGG Image Annotator's JSON and CSV formats, which store attributes of images and regions. VIA 3 has its own."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from polytag.data.reading.annotations.load import as_list
from polytag.data.reading.annotations.records import Annotations, Record, homes_of, image_name, label_name
from polytag.data.reading.tables.cells import NOTE_HEADERS, plain
from polytag.errors import DataError, counted, listed

CSV_COLUMNS = {"filename", "file_attributes", "region_attributes"}
TRUE = {"1", "true", "yes", "y", "on", "x", "✓"}
FALSE = {"", "0", "false", "no", "n", "off", "undefined", "none"}


def is_via(content: Any) -> bool:
    """Return whether the content of a JSON file is VIA's: a project, or only its images."""
    images = _images(content)
    return bool(images) and all(isinstance(one, dict) and "filename" in one and "regions" in one for one in images)


def is_via_csv(head: str) -> bool:
    """Return whether the first line of a CSV file is VIA's header."""
    first = head.lstrip("\ufeff").splitlines()[:1]
    cells = next(csv.reader(first), []) if first else []
    return {cell.strip().strip('#"').strip() for cell in cells} >= CSV_COLUMNS


def read_via(path: Path, content: Mapping[str, Any], attributes: Sequence[str] = ()) -> Annotations:
    """Read VIA's JSON format.

    Args:
        path: path of the file, used in messages.
        content: an object of images, or a project that contains one.
        attributes: the attributes to read labels from. If empty, they are chosen automatically.

    Raises:
        DataError: an entry is damaged.
    """
    entries = []
    for i, one in enumerate(_images(content), 1):
        place = f"{path}: image {i}"
        regions = one["regions"]
        regions = list(regions.values()) if isinstance(regions, dict) else as_list(regions)
        told = [region.get("region_attributes") for region in regions if isinstance(region, dict)]
        entries.append((place, i, one["filename"], [one.get("file_attributes"), *told]))
    return _annotations(path, entries, attributes, f"VIA, {counted(len(entries), 'image')}")


def read_via_csv(path: Path, text: str, attributes: Sequence[str] = ()) -> Annotations:
    """Read VIA's CSV format, which has one row per region and at least one per image.

    Args:
        path: path of the file, used in messages.
        text: content of the file.
        attributes: the attributes to read labels from. If empty, they are chosen automatically.

    Raises:
        DataError: a row is damaged.
    """
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""))
    header = [cell.strip().strip('#"').strip() for cell in next(reader)]
    column = {name: header.index(name) for name in CSV_COLUMNS}
    images: dict[str, tuple[str, int, str, list[Any]]] = {}
    for row in reader:
        if not any(row):
            continue
        place = f"{path}, line {reader.line_num}"
        if len(row) != len(header):
            raise DataError(f"{place}: {counted(len(row), 'cell')}, but the header has {len(header)}: export it again")
        name = row[column["filename"]]
        entry = images.setdefault(name, (place, len(images) + 1, name, []))
        entry[3].extend(_attributes(place, row[column[kind]]) for kind in ("file_attributes", "region_attributes"))
    return _annotations(path, list(images.values()), attributes, f"VIA (CSV), {counted(len(images), 'image')}")


def is_via3(content: Any) -> bool:
    """Return whether the content of a JSON file is a project of VIA 3, which stores files, views and metadata apart."""
    return isinstance(content, dict) and all(
        isinstance(content.get(key), dict) for key in ("project", "attribute", "file", "metadata", "view")
    )


def read_via3(path: Path, content: Mapping[str, Any], attributes: Sequence[str] = ()) -> Annotations:
    """Read a project of VIA 3.

    Args:
        path: path of the file, used in messages.
        content: the project.
        attributes: the attributes to read labels from. If empty, they are chosen automatically.

    Raises:
        DataError: an entry is damaged.
    """
    told: dict[str, list[Any]] = {}
    for entry in content["metadata"].values():
        view = content["view"].get(str(entry.get("vid"))) if isinstance(entry, dict) else None
        for file in as_list(view.get("fid_list")) if isinstance(view, dict) else ():
            told.setdefault(str(file), []).append(_via3_values(content["attribute"], entry.get("av")))
    entries = []
    for i, (number, file) in enumerate(content["file"].items(), 1):
        name = file.get("fname") if isinstance(file, dict) else None
        entries.append((f"{path}: file {number}", i, name, told.get(number, [])))
    return _annotations(path, entries, attributes, f"VIA 3, {counted(len(entries), 'image')}")


def _via3_values(attributes: Mapping[str, Any], values: Any) -> dict[str, Any]:
    """Return values by the names of their attributes, with the names of chosen options in place of their ids."""
    found: dict[str, Any] = {}
    for number, value in values.items() if isinstance(values, dict) else ():
        attribute = attributes.get(number)
        if not isinstance(attribute, dict) or not isinstance(value, str):
            continue
        options = attribute.get("options")
        if isinstance(options, dict) and options:
            chosen = [option.strip() for option in value.split(",") if option.strip()]
            found[str(attribute.get("aname"))] = {str(options.get(option, option)): True for option in chosen}
        else:
            found[str(attribute.get("aname"))] = value
    return found


def _attributes(place: str, cell: str) -> Any:
    try:
        return json.loads(cell) if cell.strip() else {}
    except (ValueError, RecursionError):
        raise DataError(f"{place}: {cell[:60]!r} is not JSON: export the project again") from None


def _images(content: Any) -> list[Any]:
    if not isinstance(content, dict):
        return []
    inside = content.get("_via_img_metadata", content)
    return list(inside.values()) if isinstance(inside, dict) else []


def _annotations(
    path: Path, entries: Sequence[tuple[str, int, Any, list[Any]]], attributes: Sequence[str], form: str
) -> Annotations:
    values = [
        (name, value) for *_, told in entries for one in told if isinstance(one, dict) for name, value in one.items()
    ]
    taken, notes = _choose(path, values, attributes)
    records = []
    for place, i, image, told in entries:
        found: dict[str, None] = {}
        for one in told:
            for name, value in one.items() if isinstance(one, dict) else ():
                if name in taken:
                    found |= dict.fromkeys(label_name(place, label) for label in _labels(name, value, taken[name]))
        records.append(Record(image_name(place, image, "filename"), found, number=i))
    return Annotations(form, records, notes=notes, homes=homes_of(path))


def _choose(
    path: Path, values: Sequence[tuple[str, Any]], attributes: Sequence[str]
) -> tuple[dict[str, bool], Sequence[str]]:
    """Return the attributes that hold labels, each with whether its values are only yes or no, and notes."""
    texts: dict[str, Counter[str]] = {}
    boxes: dict[str, None] = {}
    for name, value in values:
        if isinstance(value, dict):
            boxes[name] = None
        else:
            texts.setdefault(name, Counter())[str(value).strip()] += 1
    missing = [name for name in attributes if name not in texts and name not in boxes]
    if missing:
        known = listed(list({**texts, **boxes}), 20)
        raise DataError(f"{path} has no attribute '{missing[0]}' (--label-column); it has {known or 'none'}")
    taken = {}
    remarks = []
    for name in {**texts, **boxes}:
        found = texts.get(name, Counter())
        if attributes and name not in attributes:
            continue
        told = {text.lower() for text in found}
        # Distinct values for most images, long texts and numbers are ids, remarks or measurements, not labels.
        distinct = len(told - FALSE)
        free = distinct > 20 and 2 * distinct > found.total()
        long = any(len(text) > 80 for text in found)
        measure = bool(told - TRUE - FALSE) and all(map(_is_number, told - FALSE))
        remark = plain(name) in NOTE_HEADERS and name not in boxes
        if not attributes and (free or long or measure or remark):
            remarks.append(name)
        else:
            taken[name] = name not in boxes and told <= TRUE | FALSE
    notes = []
    if len(taken) > 1:
        notes.append(f"labels from the attributes {listed(list(taken))}; choose with --label-column")
    if remarks:
        notes.append(f"attributes not used: {listed(remarks)}; choose one with --label-column")
    return taken, notes


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _labels(name: str, value: Any, yes_or_no: bool) -> Iterator[Any]:
    """Yield labels from checkboxes (an object of booleans) or text. A text that means yes stands for the attribute."""
    if isinstance(value, dict):
        yield from (key for key, checked in value.items() if str(checked).strip().lower() in TRUE)
    elif isinstance(value, list):
        yield from value
    elif yes_or_no:
        if str(value).strip().lower() in TRUE:
            yield name
    elif str(value).strip().lower() not in ("", "undefined"):
        # A free-text value may hold several names.
        yield from (one for one in str(value).replace(";", ",").split(",") if one.strip())

"""Read Datumaro's JSON format, in which items refer to labels by number. There is one file per subset."""

from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from polytag.data.reading.annotations.load import as_list, objects
from polytag.data.reading.annotations.records import Annotations, Record, homes_of, image_name, label_name
from polytag.errors import DataError, counted


def is_datumaro(content: Any) -> bool:
    """Return whether the content of a JSON file is in Datumaro's format."""
    return isinstance(content, dict) and "items" in content and "categories" in content


def read_datumaro(path: Path, content: Mapping[str, Any]) -> Annotations:
    """Read Datumaro items.

    Raises:
        DataError: an item is damaged, or a label number has no name.
    """
    items = objects(path, content, "items", "Datumaro")
    categories = content["categories"]
    told = categories.get("label", {}) if isinstance(categories, dict) else {}
    told = told.get("labels", []) if isinstance(told, dict) else []
    names = [
        label_name(f"{path}: label {i}", one.get("name") if isinstance(one, dict) else one)
        for i, one in enumerate(as_list(told))
    ]
    records = []
    marks = 0
    for i, item in enumerate(items, 1):
        place = f"{path}: item {i}"
        found: dict[str, None] = {}
        annotations = item.get("annotations") or []
        if not isinstance(annotations, list):
            raise DataError(f"{place} has annotations that are not a list: export it again")
        for one in annotations:
            number = one.get("label_id") if isinstance(one, dict) else None
            if number is None:
                continue  # The annotation is a caption, or a shape without a label.
            if not isinstance(number, int) or not 0 <= number < len(names):
                raise DataError(f"{place} has label_id {brief(number)}, which 'categories' does not name")
            found[names[number]] = None
            marks += 1
        records.append(Record(_image(place, item), found, number=i))
    form = f"Datumaro, {counted(marks, 'annotation')} in {counted(len(records), 'image')}"
    return Annotations(form, records, tuple(dict.fromkeys(names)), homes=homes_of(path))


def _image(place: str, item: Mapping[str, Any]) -> str:
    """Return the image's path. If an item has no path, use its id, which lacks the file extension."""
    for key in ("image", "media"):
        told = item.get(key)
        if isinstance(told, dict) and told.get("path"):
            return image_name(place, told["path"], "path")
    return image_name(place, str(item["id"]) if item.get("id") is not None else None, "id")

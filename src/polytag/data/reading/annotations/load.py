"""JSON and XML files → their content, without what only says where in an image something is, and without entities."""

import json
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any, TypeGuard
from xml.etree import ElementTree

from polytag.errors import DataError
from polytag.photos.xmp import parse_xml

HEAVY = frozenset(
    {"segmentation", "bbox", "keypoints", "num_keypoints", "area", "coordinates", "points", "rle", "bounding_box"}
    | {"mask", "imageData", "base64_img_data", "original_width", "original_height"}
)
"""What only says where in an image something is, dropped as it is read: most of the file, and of its memory."""


def load_json(path: Path) -> Any:
    """Load a JSON file.

    Raises:
        DataError: it cannot be read, or is not JSON.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            return json.load(file, object_hook=_without_places)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): name an annotation file") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}): export the annotations again") from None


def _without_places(entry: dict[str, Any]) -> dict[str, Any]:
    if HEAVY.isdisjoint(entry):
        return entry
    # A check box may be called "area": what is true, false or a text (but for the image itself) stays.
    return {
        key: value
        for key, value in entry.items()
        if key not in HEAVY or isinstance(value, bool) or (isinstance(value, str) and len(value) < 200)
    }


def load_xml(path: Path) -> ElementTree.Element:
    """Load an XML file.

    Raises:
        DataError: it cannot be read, or is not the XML of annotations.
    """
    try:
        return parse_xml(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): make it readable") from None
    except ValueError as error:
        raise DataError(f"{path} is not valid XML ({error}): export the annotations again") from None


def objects(path: Path, content: Mapping[str, Any], key: str, form: str, may_be_empty: bool = False) -> list[Any]:
    """The list of objects under a key.

    Raises:
        DataError: it is something else, or empty.
    """
    value = content.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise DataError(f"{path}: '{key}' is not a list of objects, as {form} has it")
    if not value and not may_be_empty:
        raise DataError(f"{path}: '{key}' is empty: expected at least one entry")
    return value


def as_list(value: Any) -> list[Any]:
    """A JSON value if it is a list, else an empty one: what is optional may be missing, null or nonsense."""
    return value if isinstance(value, list) else []


def is_id(value: Any) -> TypeGuard[int | float | str]:
    """Whether a JSON value can be an id; true and false cannot."""
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def id_of(path: Path, kind: str, number: int, entry: Mapping[str, Any], key: str) -> int | float | str:
    """The id under a key.

    Raises:
        DataError: there is none, or it is neither a number nor a text.
    """
    value = entry.get(key)
    if not is_id(value):
        came = f"{brief(value)} for" if key in entry else "no"
        raise DataError(f"{path}: {kind} {number} has {came} {key}: expected a number or a text")
    return value

"""Load JSON and XML annotation files, without the positions of objects and without XML entities."""

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
"""Keys that only describe where something is in an image. They make up most of a file, so they are dropped on loading
to save memory."""


def load_json(path: Path) -> Any:
    """Load a JSON file.

    Raises:
        DataError: the file cannot be read, or is not JSON.
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
    # A check box may be called "area", so booleans and short strings stay. Long strings may be encoded images.
    return {
        key: value
        for key, value in entry.items()
        if key not in HEAVY or isinstance(value, bool) or (isinstance(value, str) and len(value) < 200)
    }


def load_xml(path: Path) -> ElementTree.Element:
    """Load an XML file.

    Raises:
        DataError: the file cannot be read, or is not valid XML.
    """
    try:
        return parse_xml(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): make it readable") from None
    except ValueError as error:
        raise DataError(f"{path} is not valid XML ({error}): export the annotations again") from None


def objects(path: Path, content: Mapping[str, Any], key: str, form: str, may_be_empty: bool = False) -> list[Any]:
    """Return the list of objects under a key.

    Raises:
        DataError: the value is not a list of objects, or the list is empty.
    """
    value = content.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise DataError(f"{path}: '{key}' is not a list of objects, which {form} requires")
    if not value and not may_be_empty:
        raise DataError(f"{path}: '{key}' is empty: expected at least one entry")
    return value


def as_list(value: Any) -> list[Any]:
    """Return a JSON value if it is a list, otherwise an empty list. Optional fields may be missing, null or invalid."""
    return value if isinstance(value, list) else []


def is_id(value: Any) -> TypeGuard[int | float | str]:
    """Return whether a JSON value can be an id. Booleans cannot."""
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def id_of(path: Path, kind: str, number: int, entry: Mapping[str, Any], key: str) -> int | float | str:
    """Return the id under a key.

    Raises:
        DataError: the id is missing, or is neither a number nor a string.
    """
    value = entry.get(key)
    if not is_id(value):
        came = f"{brief(value)} for" if key in entry else "no"
        raise DataError(f"{path}: {kind} {number} has {came} {key}: expected a number or a text")
    return value

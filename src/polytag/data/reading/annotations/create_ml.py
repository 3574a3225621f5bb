"""Read Create ML's JSON format, a list of images with their annotations or labels."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from polytag.data.reading.annotations.records import Annotations, Record, homes_of, image_name, label_name
from polytag.errors import counted

IMAGE_KEYS = ("image", "imagefilename", "imageFilename", "imageURL", "filename")
LABEL_KEYS = ("annotations", "annotation", "labels", "label")


def is_create_ml(content: Any) -> bool:
    """Return whether the content of a JSON file is in Create ML's format."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(entry, dict) for entry in content)
        and any(key in entry for entry in content[:50] for key in IMAGE_KEYS)
        and any(key in entry for entry in content[:50] for key in LABEL_KEYS)
    )


def read_create_ml(path: Path, content: Sequence[Mapping[str, Any]]) -> Annotations:
    """Read Create ML annotations: objects (a list per image) or classes (one or more labels per image).

    Raises:
        DataError: an entry is damaged.
    """
    records = []
    marks = 0
    for i, entry in enumerate(content, 1):
        place = f"{path}: record {i}"
        key = next((key for key in IMAGE_KEYS if key in entry), "image")
        said = next((entry[key] for key in LABEL_KEYS if entry.get(key) is not None), None)
        names = [label_name(place, name) for name in _names(said)]
        marks += len(names)
        image = image_name(place, entry.get(key), key)
        records.append(Record(image, dict.fromkeys(names), annotated=said is not None, number=i))
    form = f"Create ML, {counted(marks, 'annotation')} in {counted(len(records), 'image')}"
    return Annotations(form, records, homes=homes_of(path))


def _names(annotation: Any) -> Iterable[Any]:
    """Return the names in "dog", ["dog", "cat"], {"label": "dog"} or [{"label": "dog"}, …]."""
    if annotation is None:
        return
    for one in annotation if isinstance(annotation, list) else [annotation]:
        if isinstance(one, dict):
            yield one.get("label", one.get("name", one.get("category")))
        else:
            yield one

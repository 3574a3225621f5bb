"""Read Label Studio's JSON format (tasks with annotations), and JSON-MIN, which has one record per annotation."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from polytag.data.reading.annotations.records import (
    Annotations,
    Record,
    homes_of,
    image_name,
    label_name,
    part_and_group,
)
from polytag.errors import DataError, counted, listed
from polytag.photos.kinds import EXTENSIONS

OWN_KEYS = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "inner_id", "agreement")
"""Fields that Label Studio itself adds to JSON-MIN."""

NOT_LABELS = ("textarea", "number", "rating", "datetime", "relation", "pairwise", "ranker")
"""Result types that hold free text or a number rather than a label."""

IMAGE_KEYS = ("image", "img", "image_url", "url", "photo", "picture", "path", "file_name", "filename", "file")


def is_tasks(content: Any) -> bool:
    """Return whether the content of a JSON file is a list of Label Studio tasks."""
    return _is_records(content) and all("data" in one for one in content) and _has(content, TASK_KEYS)


TASK_KEYS = ("annotations", "completions", "predictions")


def is_min(content: Any) -> bool:
    """Return whether the content of a JSON file is in Label Studio's JSON-MIN format."""
    return _is_records(content) and _has(content, ("annotation_id", "annotator", "lead_time"))


def read_tasks(path: Path, content: Sequence[Mapping[str, Any]], fields: Sequence[str] = ()) -> Annotations:
    """Read tasks. Each annotation that was not cancelled becomes one record.

    A task without annotations counts as not annotated. If a task has annotations marked as ground truth, only those
    are used.

    Args:
        path: path of the file, used in messages.
        content: the tasks in the file.
        fields: names of the labelling controls ("from_name") to read. If empty, all are read.

    Raises:
        DataError: a task has no image, or an annotation is damaged.
    """
    key = _image_key(path, [task["data"] for task in content if isinstance(task["data"], dict)])
    records: list[Record] = []
    seen: Counter[str] = Counter()
    predicted = 0
    for i, task in enumerate(content, 1):
        place = f"{path}: task {i}"
        data = task["data"] if isinstance(task["data"], dict) else {}
        image = _served(image_name(place, data.get(key), key))
        part, group = part_and_group(data)
        annotations = task.get("annotations", task.get("completions")) or []
        if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
            raise DataError(f"{place} has annotations that are not a list of objects: export the project again as JSON")
        kept = [one for one in annotations if not one.get("was_cancelled") and not one.get("skipped")]
        truth = [one for one in kept if one.get("ground_truth")]
        for one in truth or kept:
            names = dict.fromkeys(_chosen(place, one, fields, seen))
            records.append(Record(image, names, part=part, group=group, number=i))
        if not kept:
            predicted += bool(task.get("predictions"))
            records.append(Record(image, annotated=False, number=i))
    notes = []
    if predicted:
        notes.append(f"{counted(predicted, 'task')} with predictions and no annotation: predictions are not labels")
    _refuse_unknown(path, fields, seen)
    form = f"Label Studio, {counted(len(content), 'task')}{_said(seen)}"
    return Annotations(form, records, notes=notes, homes=homes_of(path))


def read_min(path: Path, content: Sequence[Mapping[str, Any]], fields: Sequence[str] = ()) -> Annotations:
    """Read JSON-MIN, which has one record per annotation. A single choice is a string, several are an object.

    Args:
        path: path of the file, used in messages.
        content: the records in the file.
        fields: names of the labelling controls to read. If empty, all are read.

    Raises:
        DataError: a record has no image.
    """
    key = _image_key(path, content)
    seen: Counter[str] = Counter()
    records = []
    for i, one in enumerate(content, 1):
        place = f"{path}: record {i}"
        names: dict[str, None] = {}
        for field, value in one.items():
            if field == key or field in OWN_KEYS or (fields and field not in fields):
                continue
            found = _names(value)
            if found is None or (not fields and _is_note(value)):
                continue
            seen[field] += 1
            names |= dict.fromkeys(label_name(place, name) for name in found)
        records.append(Record(_served(image_name(place, one.get(key), key)), names, number=i))
    _refuse_unknown(path, fields, seen)
    form = f"Label Studio (JSON-MIN), {counted(len(content), 'record')}{_said(seen)}"
    return Annotations(form, records, homes=homes_of(path))


def _chosen(place: str, annotation: Mapping[str, Any], fields: Sequence[str], seen: Counter[str]) -> Iterator[str]:
    """Yield the labels of one annotation, which come from choices, boxes, polygons and masks."""
    results = annotation.get("result") or []
    for one in results if isinstance(results, list) else []:
        if not isinstance(one, dict) or not isinstance(one.get("value"), dict):
            continue
        field = str(one.get("from_name", one.get("type", "")))
        kind = str(one.get("type", "")).lower()
        if (fields and field not in fields) or kind in NOT_LABELS:
            continue
        value = one["value"].get(str(one.get("type", "")))
        if value is None:
            value = next((v for k, v in one["value"].items() if k == "choices" or k.endswith("labels")), None)
        found = _names(value)
        if found is not None:
            seen[field] += 1
            yield from (label_name(place, name) for name in found)


def _names(value: Any) -> list[Any] | None:
    """Return the names in "a", ["a", "b"], {"choices": […]}, [{"rectanglelabels": […]}, …] or taxonomy paths."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, dict):
        inner = next((v for k, v in value.items() if k in ("choices", "taxonomy") or k.endswith("labels")), None)
        return None if inner is None else _names(inner)
    if isinstance(value, list):
        names: list[Any] = []
        for one in value:
            if isinstance(one, list) and all(isinstance(step, str) for step in one):
                names.append("/".join(one))  # a path in a taxonomy, starting at the root
            elif isinstance(one, str):
                names.append(one)
            elif isinstance(one, dict):
                names += _names(one) or []
        return names
    return None


def _is_note(value: Any) -> bool:
    """Return whether a text is a remark rather than a choice."""
    return isinstance(value, str) and (len(value) > 80 or "\n" in value)


def _image_key(path: Path, records: Sequence[Mapping[str, Any]]) -> str:
    """Return the field with the image names: its values end in image extensions, or its name suggests it."""
    sample = records[:200]
    keys = dict.fromkeys(key for one in sample for key in one)
    texts = {key: [one[key] for one in sample if isinstance(one.get(key), str)] for key in keys}
    ends = {key: sum(_ends_as_image(text) for text in values) for key, values in texts.items()}
    best = max(ends, key=lambda key: ends[key], default=None)
    if best is not None and 2 * ends[best] >= len(sample):
        return best
    called = [key for key in IMAGE_KEYS if texts.get(key)]
    if called:
        return called[0]
    raise DataError(f"{path} (Label Studio) has no field with image names among {listed(list(keys), 20)}")


def _ends_as_image(text: str) -> bool:
    return text.split("?")[0].lower().endswith(tuple(EXTENSIONS)) or (
        "?d=" in text and text.lower().endswith(tuple(EXTENSIONS))
    )


def _served(name: str) -> str:
    """Return the file that a local-storage URL refers to: /data/local-files/?d=photos/a.jpg"""
    before, mark, behind = name.partition("/local-files/?d=")
    return unquote(behind) if mark else before


def _is_records(content: Any) -> bool:
    return isinstance(content, list) and bool(content) and all(isinstance(one, dict) for one in content)


def _has(content: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> bool:
    return any(key in content[0] for key in keys)


def _refuse_unknown(path: Path, fields: Sequence[str], seen: Counter[str]) -> None:
    missing = [field for field in fields if not seen[field]]
    if missing:
        raise DataError(f"{path} has no labels under '{missing[0]}' (--label-column): leave it out to read all")


def _said(seen: Counter[str]) -> str:
    return f", labels of {listed(list(seen))}" if len(seen) > 1 else ""

"""Read FiftyOne's labels.json (classifications or detections), and its samples in JSON format."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from polytag.data.reading.annotations.load import as_list, objects
from polytag.data.reading.annotations.records import Annotations, Record, homes_of, image_name, label_name
from polytag.data.reading.table import PART_NAMES
from polytag.errors import DataError, counted, listed

LISTS = ("classifications", "detections", "polylines", "keypoints")
"""Keys under which samples store several labels in one field."""


def is_labels(content: Any) -> bool:
    """Return whether the content of a JSON file is FiftyOne's labels.json."""
    return isinstance(content, dict) and isinstance(content.get("labels"), dict) and "images" not in content


def is_samples(content: Any) -> bool:
    """Return whether the content of a JSON file is a collection of FiftyOne samples."""
    samples = content.get("samples") if isinstance(content, dict) else None
    return isinstance(samples, list) and bool(samples) and isinstance(samples[0], dict) and "filepath" in samples[0]


def read_labels(path: Path, content: Mapping[str, Any]) -> Annotations:
    """Read labels.json, which maps image names without extension to label numbers, names or detections.

    Raises:
        DataError: an entry is damaged, or a label number has no name.
    """
    told = content.get("classes")
    classes = [label_name(f"{path}: class {i}", name) for i, name in enumerate(as_list(told))]
    records = []
    for i, (image, value) in enumerate(content["labels"].items(), 1):
        place = f"{path}: image {i} ({brief(image)})"
        values = value if isinstance(value, list) else [value]
        names = dict.fromkeys(_name(place, one, classes) for one in values if one is not None)
        records.append(Record(image_name(place, image, "labels"), names, annotated=value is not None, number=i))
    form = f"FiftyOne, {counted(len(records), 'image')}"
    return Annotations(form, records, tuple(dict.fromkeys(classes)) or None, homes=homes_of(path))


def _name(place: str, value: Any, classes: Sequence[str]) -> str:
    if isinstance(value, dict):
        value = value.get("label")
    if isinstance(value, int) and not isinstance(value, bool) and classes:
        if not 0 <= value < len(classes):
            raise DataError(f"{place} has class {value}, which 'classes' does not name")
        return classes[value]
    return label_name(place, value)


def read_samples(path: Path, content: Mapping[str, Any], fields: Sequence[str] = ()) -> Annotations:
    """Read samples: the labels from one or more fields, and the split from the tags.

    A sample without these fields was not annotated. Fields with confidences are predictions.

    Args:
        path: path of the file, used in messages.
        content: an object with samples.
        fields: the fields to read labels from. If empty, the field is chosen automatically.

    Raises:
        DataError: a sample is damaged, or it is unclear which field holds the labels.
    """
    samples = objects(path, content, "samples", "FiftyOne")
    chosen, note = _fields(path, samples, fields)
    records = []
    for i, sample in enumerate(samples, 1):
        place = f"{path}: sample {i}"
        tags = [str(tag) for tag in as_list(sample.get("tags")) if isinstance(tag, str)]
        parts = {PART_NAMES[tag.lower()] for tag in tags if tag.lower() in PART_NAMES}
        told = [sample[field] for field in chosen if sample.get(field) is not None]
        names = [label_name(place, name) for value in told for name in _labels(value)]
        if not chosen:
            names = [tag for tag in tags if tag.lower() not in PART_NAMES]
        part = parts.pop() if len(parts) == 1 else ""
        annotated = bool(told) or not chosen
        image = image_name(place, sample.get("filepath"), "filepath")
        group = sample.get("group_id") if isinstance(sample.get("group_id"), str) else ""
        unknown = sample.get("unknown_labels") or ()
        unknown = [label_name(place, name) for name in unknown] if isinstance(unknown, list) else ()
        records.append(Record(image, dict.fromkeys(names), unknown, None, annotated, part, str(group), i))
    form = f"FiftyOne, {counted(len(records), 'sample')}, labels of {listed(chosen) if chosen else 'tags'}"
    info = content.get("classes") or {}
    declared = [name for field in chosen for name in as_list(info.get(field) if isinstance(info, dict) else None)]
    used = [name for one in records for name in one.present]
    labels = tuple(dict.fromkeys([*(str(name) for name in declared), *used])) if declared else None
    return Annotations(form, records, labels, note, homes_of(path))


def _fields(path: Path, samples: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> tuple[list[str], Sequence[str]]:
    """Return the fields to read, and notes about the others."""
    found: Counter[str] = Counter()
    sure: set[str] = set()
    for sample in samples:
        for field, value in sample.items():
            if isinstance(value, dict) and _is_label(value):
                found[field] += 1
                if not _is_predicted(value):
                    sure.add(field)
    if fields:
        missing = [field for field in fields if field not in found]
        if missing and list(fields) != ["tags"]:
            raise DataError(
                f"{path} has no labels in the field '{missing[0]}' (--label-column); it has {listed(list(found), 20)}"
            )
        return ([] if list(fields) == ["tags"] else list(fields)), []
    known = [field for field in found if field in sure] or list(found)
    if not known:
        return [], []
    best = next((field for field in known if field in ("ground_truth", "labels")), known[0])
    if len(known) > 1 and best not in ("ground_truth", "labels"):
        raise DataError(
            f"{path} has labels in several fields ({listed(known, 20)}): name one, or repeat --label-column for several"
        )
    others = [field for field in found if field != best]
    return [best], [f"fields not used: {listed(others)}; choose one with --label-column"] if others else []


def _is_label(value: Mapping[str, Any]) -> bool:
    return "label" in value or any(isinstance(value.get(key), list) for key in LISTS)


def _is_predicted(value: Mapping[str, Any]) -> bool:
    """Return whether the labels are a model's predictions, which carry a confidence."""
    inside = next((value[key] for key in LISTS if isinstance(value.get(key), list)), [value])
    return any(isinstance(one, dict) and one.get("confidence") is not None for one in inside)


def _labels(value: Any) -> Iterator[Any]:
    if not isinstance(value, dict):
        return
    inside = next((value[key] for key in LISTS if isinstance(value.get(key), list)), None)
    if inside is None:
        if value.get("label") is not None:
            yield value["label"]
        return
    for one in inside:
        if isinstance(one, dict) and one.get("label") is not None:
            yield one["label"]

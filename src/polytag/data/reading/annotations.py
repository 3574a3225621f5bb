"""What annotation tools write → Table: COCO and Create ML JSON, Pascal VOC XML.

They say where things are in a photo; of that only what is in the photo is kept. A label is present where at
least one thing of it is marked, and absent where none is, unless the format says that nobody looked.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from reprlib import repr as brief
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.table import Table
from polytag.errors import DataError, counted, listed

HEAVY = frozenset({"segmentation", "bbox", "keypoints", "num_keypoints", "area", "iscrowd", "coordinates"})
"""What only says where in a photo something is, dropped as it is read: most of the file, and of its memory."""


def read_json(path: Path) -> Table:
    """Read a COCO or Create ML file; its content tells which.

    Raises:
        DataError: it is neither, or damaged; the message says what was expected and what came.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            content = json.load(file, object_hook=lambda entry: {k: v for k, v in entry.items() if k not in HEAVY})
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): name a COCO or Create ML JSON file") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}): expected a COCO or Create ML file; export it again") from None
    if isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys():
        return _coco(path, content)
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        return _create_ml(path, content)
    came = type(content).__name__
    if isinstance(content, dict):
        came = f"an object with {listed(list(content))}" if content else "an empty object"
    elif isinstance(content, list):
        came = "a list of other things" if content else "an empty list"
    raise DataError(
        f"{path} is neither COCO (an object with images, annotations and categories) nor Create ML (a list of objects "
        f"with image and annotations), but {came}"
    )


def _coco(path: Path, content: Mapping[str, Any]) -> Table:
    """COCO, and LVIS, which says of each image which categories were looked for in vain."""
    images = _objects(path, content, "images")
    annotations = _objects(path, content, "annotations")
    categories = _objects(path, content, "categories")
    names = [_label(path, "category", i, category.get("name")) for i, category in enumerate(categories, 1)]
    ids = [_id(path, "category", i, category, "id") for i, category in enumerate(categories, 1)]
    headings = _headings(names, ids, categories, annotations)
    labels = tuple(dict.fromkeys(name for name in names if name not in headings))
    if not labels:
        raise DataError(f"{path} names no category: expected one at least in 'categories'")
    column = {number: labels.index(name) for number, name in zip(ids, names, strict=True) if name in labels}
    row = {_id(path, "image", i, image, "id"): i - 1 for i, image in enumerate(images, 1)}
    for what, entries, distinct in (("image", images, len(row)), ("category", categories, len(set(ids)))):
        if distinct < len(entries):
            raise DataError(
                f"{path} has {counted(len(entries), what)} with only {distinct:,} different ids: give each its own"
            )

    negatives = any("neg_category_ids" in image for image in images)
    targets = np.full((len(images), len(labels)), -1 if negatives else 0, dtype=np.int8)
    for i, image in enumerate(images if negatives else ()):
        absent = image.get("neg_category_ids", [])
        if not isinstance(absent, list) or any(not _is_id(number) or number not in column for number in absent):
            raise DataError(f"{path}: image {i + 1} has neg_category_ids {brief(absent)}: expected ids of categories")
        targets[i, [column[number] for number in absent]] = 0
    strays = 0
    for i, annotation in enumerate(annotations, 1):
        image_id = _id(path, "annotation", i, annotation, "image_id")
        category_id = _id(path, "annotation", i, annotation, "category_id")
        if category_id not in column:
            raise DataError(f"{path}: annotation {i} is of category {brief(category_id)}, which 'categories' lacks")
        if image_id in row:
            targets[row[image_id], column[category_id]] = 1
        else:
            strays += 1

    notes = []
    merged = [name for name, n in Counter(names).items() if n > 1]
    if merged:
        notes.append(f"{counted(len(merged), 'name')} under several category ids, merged: {listed(merged)}")
    if headings:
        notes.append(f"left out, being only the headings of other categories: {listed(headings)}")
    idle = [name for name in labels if not (targets[:, labels.index(name)] == 1).any()]
    if idle:
        notes.append(
            f"{counted(len(idle), 'label')} never present, kept all the same (nothing can be learned of them: take "
            f"them out of 'categories' to train): {listed(idle)}"
        )
    if strays:
        notes.append(f"{counted(strays, 'annotation')} of images that 'images' does not list: not used")
    if negatives:
        notes.append("labels neither annotated nor listed in neg_category_ids are unknown")
    files = [_file_name(path, i, image) for i, image in enumerate(images, 1)]
    form = f"COCO, {counted(len(annotations), 'annotation')} of {counted(len(labels), 'label')}"
    return _table(path.name, form, files, labels, targets, notes, (path.parent, path.parent.parent))


def _headings(
    names: Sequence[str],
    ids: Sequence[int | str],
    categories: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Categories that annotate nothing and only head others: some tools list those too, but they are no labels."""
    used_ids = {entry.get("category_id") for entry in annotations if _is_id(entry.get("category_id"))}
    used = {name for name, number in zip(names, ids, strict=True) if number in used_ids}
    above = [" ".join(str(category.get("supercategory", "")).split()) for category in categories]
    return [
        name
        for name, own in zip(names, above, strict=True)
        if name not in used and name in above and own.lower() in ("", "none")
    ]


def _file_name(path: Path, number: int, image: Mapping[str, Any]) -> str:
    name = image.get("file_name")
    if name is None and isinstance(image.get("coco_url"), str):
        # LVIS names its photos by their address alone: …/train2017/000000391895.jpg
        name = "/".join(urlsplit(image["coco_url"]).path.split("/")[-2:])
    return _image(path, "image", number, name, "file_name")


def _create_ml(path: Path, content: Sequence[Mapping[str, Any]]) -> Table:
    """Create ML's objects (a list of annotations an image) and its classes (a label, or several, an image)."""
    files = []
    chosen = []
    for i, entry in enumerate(content, 1):
        key = next((key for key in ("image", "imagefilename", "filename") if key in entry), "image")
        files.append(_image(path, "record", i, entry.get(key), key))
        said = [entry[key] for key in ("annotations", "annotation", "labels", "label") if key in entry]
        if not said:
            raise DataError(
                f"{path}: record {i} has {listed(list(entry))}: expected image and annotations, as Create ML has it"
            )
        chosen.append([_label(path, "record", i, name) for name in _names(said[0])])
    labels = tuple(dict.fromkeys(name for names in chosen for name in names))
    if not labels:
        raise DataError(f"{path} names no label at all: expected annotations with a label")
    place = {label: j for j, label in enumerate(labels)}
    targets = np.zeros((len(files), len(labels)), dtype=np.int8)
    for row, names in enumerate(chosen):
        targets[row, [place[name] for name in names]] = 1
    form = f"Create ML, {counted(sum(map(len, chosen)), 'annotation')} of {counted(len(labels), 'label')}"
    return _table(path.name, form, files, labels, targets, [], (path.parent, path.parent.parent))


def _names(annotation: Any) -> Iterable[Any]:
    """The names in "dog", ["dog", "cat"], {"label": "dog"} or [{"label": "dog"}, …]."""
    for one in annotation if isinstance(annotation, list) else [annotation]:
        if isinstance(one, dict):
            yield one.get("label", one.get("name"))
        else:
            yield one


def _table(
    source: str,
    form: str,
    files: list[str],
    labels: tuple[str, ...],
    targets: NDArray[np.int8],
    notes: Sequence[str],
    homes: tuple[Path, ...],
    one_file_each: bool = False,
) -> Table:
    return Table(
        images=files,
        lines=list(range(1, len(files) + 1)),
        targets=targets,
        disagreements=np.broadcast_to(False, targets.shape),
        labels=labels,
        source=source,
        recognised=f"{source}: {form}",
        place="record",
        homes=tuple(home.resolve() for home in homes),
        notes=tuple(notes),
        one_file_each=one_file_each,
    )


def _objects(path: Path, content: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = content[key]
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise DataError(f"{path}: '{key}' is not a list of objects, as COCO has it")
    if not value and key != "annotations":
        raise DataError(f"{path}: '{key}' is empty: expected one entry at least")
    return value


def _is_id(value: Any) -> TypeGuard[int | str]:
    return isinstance(value, int | float | str)


def _id(path: Path, kind: str, number: int, entry: Mapping[str, Any], key: str) -> int | str:
    value = entry.get(key)
    if not _is_id(value):
        came = f"{brief(value)} for" if key in entry else "no"
        raise DataError(f"{path}: {kind} {number} has {came} {key}: expected a number, as COCO has it")
    return value


def _label(path: Path, kind: str, number: int, name: Any) -> str:
    label = " ".join(name.split()) if isinstance(name, str) else ""
    if not label:
        came = "no" if name is None else f"{brief(name)} for a"
        raise DataError(f"{path}: {kind} {number} has {came} name: expected that of a label")
    return label


def _image(path: Path, kind: str, number: int, name: Any, key: str) -> str:
    if not isinstance(name, str) or not name.strip() or len(name.splitlines()) > 1:
        raise DataError(f"{path}: {kind} {number} has {brief(name)} for {key}: expected the name of one image")
    return name

"""Read COCO's JSON format (images, annotations, categories) and LVIS, which also lists confirmed absences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as brief
from typing import Any
from urllib.parse import urlsplit

from polytag.data.reading.annotations.load import id_of, is_id, objects
from polytag.data.reading.annotations.records import (
    Annotations,
    Record,
    homes_of,
    image_name,
    label_name,
    part_and_group,
)
from polytag.errors import DataError, counted, listed

Id = int | float | str


def is_coco(content: Any) -> bool:
    """Return whether the content of a JSON file is in COCO format."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def read_coco(path: Path, content: Mapping[str, Any]) -> Annotations:
    """Read COCO annotations.

    All labels are absent in images without annotations. If image ids are numbers in one list and strings in the other,
    they are compared as strings.

    Raises:
        DataError: an entry is damaged, or most annotations belong to images or categories that are not listed.
    """
    images = objects(path, content, "images", "COCO")
    annotations = objects(path, content, "annotations", "COCO", may_be_empty=True)
    categories = objects(path, content, "categories", "COCO")
    names = [label_name(f"{path}: category {i}", category.get("name")) for i, category in enumerate(categories, 1)]
    ids = [id_of(path, "category", i, category, "id") for i, category in enumerate(categories, 1)]
    image_ids = [id_of(path, "image", i, image, "id") for i, image in enumerate(images, 1)]
    for what, n, distinct in (
        ("image", len(images), len(set(image_ids))),
        ("category", len(categories), len(set(ids))),
    ):
        if distinct < n:
            raise DataError(f"{path} has {counted(n, what)} with only {distinct:,} different ids: give each its own")
    headings = _headings(names, ids, categories, annotations)
    labels = tuple(dict.fromkeys(name for name in names if name not in headings))
    if not labels:
        raise DataError(f"{path} has no categories: expected at least one in 'categories'")
    label_of: dict[Id, str] = {number: name for number, name in zip(ids, names, strict=True) if name in labels}

    records = [
        Record(_file_name(path, i, image), present=set(), number=i, absent=_looked_for(path, i, image, label_of))
        for i, image in enumerate(images, 1)
    ]
    for one, image in zip(records, images, strict=True):
        one.part, one.group = part_and_group(image)
    negatives = any(one.absent is not None for one in records)
    if negatives:
        for one in records:
            one.absent = one.absent or ()
    strays = _mark(path, annotations, dict(zip(image_ids, records, strict=True)), label_of)

    notes = []
    merged = [name for name, n in Counter(names).items() if n > 1]
    if merged:
        notes.append(f"{counted(len(merged), 'name')} under several category ids, merged: {listed(merged)}")
    if headings:
        notes.append(f"categories that only group others, left out: {listed(sorted(headings))}")
    if strays:
        notes.append(f"{counted(strays, 'annotation')} not used because 'images' does not list the image")
    if negatives:
        notes.append("labels neither annotated nor listed in neg_category_ids are unknown")
    form = f"COCO, {counted(len(annotations), 'annotation')} in {counted(len(images), 'image')}"
    return Annotations(form, records, labels, notes, homes_of(path))


def _mark(path: Path, annotations: Sequence[Mapping[str, Any]], row: dict[Id, Record], label_of: dict[Id, str]) -> int:
    """Assign labels to each image, and return the number of annotations whose image is not listed."""
    row_by_text = {str(number): one for number, one in row.items()}
    label_by_text = {str(number): name for number, name in label_of.items()}
    strays = 0
    for i, annotation in enumerate(annotations, 1):
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        if type(image_id) is not int or type(category_id) is not int:
            image_id = id_of(path, "annotation", i, annotation, "image_id")
            category_id = id_of(path, "annotation", i, annotation, "category_id")
        label = label_of.get(category_id) or label_by_text.get(str(category_id))
        if label is None:
            raise DataError(
                f"{path}: annotation {i} has category {brief(category_id)}, which 'categories' does not list"
            )
        one = row.get(image_id) or row_by_text.get(str(image_id))
        if one is None:
            strays += 1
        else:
            one.present.add(label)  # type: ignore[attr-defined]
    if 2 * strays > len(annotations):
        first = next(a["image_id"] for a in annotations if str(a["image_id"]) not in row_by_text)
        raise DataError(
            f"{path}: {strays:,} of {counted(len(annotations), 'annotation')} belong to images that 'images' does not "
            f"list (first: image_id {brief(first)}): export images and annotations together"
        )
    return strays


def _headings(
    names: Sequence[str],
    ids: Sequence[Id],
    categories: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
) -> set[str]:
    """Return categories without annotations that only group others, as Roboflow exports them. They are not labels."""
    used_ids = {str(entry.get("category_id")) for entry in annotations if is_id(entry.get("category_id"))}
    used = {name for name, number in zip(names, ids, strict=True) if str(number) in used_ids}
    above = [" ".join(str(category.get("supercategory", "")).split()) for category in categories]
    heads = set(above)
    return {
        name
        for name, own in zip(names, above, strict=True)
        if name not in used and name in heads and own.lower() in ("", "none")
    }


def _looked_for(path: Path, number: int, image: Mapping[str, Any], label_of: dict[Id, str]) -> tuple[str, ...] | None:
    """Return the labels that LVIS lists as confirmed absent from an image."""
    if "neg_category_ids" not in image:
        return None
    absent = image["neg_category_ids"]
    if not isinstance(absent, list) or any(not is_id(one) or one not in label_of for one in absent):
        raise DataError(f"{path}: image {number} has neg_category_ids {brief(absent)}: expected ids of categories")
    return tuple(label_of[one] for one in absent)


def _file_name(path: Path, number: int, image: Mapping[str, Any]) -> str:
    name = image.get("file_name")
    if name is None and isinstance(image.get("coco_url"), str):
        # LVIS identifies images only by their URL: …/train2017/000000391895.jpg
        name = "/".join(urlsplit(image["coco_url"]).path.split("/")[-2:])
    return image_name(f"{path}: image {number}", name, "file_name")

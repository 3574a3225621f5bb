"""Read CVAT's XML format for images, which lists each image with its tags and shapes."""

from pathlib import Path
from xml.etree import ElementTree

from polytag.data.reading.annotations.records import (
    Annotations,
    Record,
    homes_of,
    image_name,
    label_name,
    part_named,
)
from polytag.errors import DataError, counted

SHAPES = ("tag", "box", "polygon", "polyline", "points", "cuboid", "mask", "ellipse", "skeleton")


def is_cvat(root: ElementTree.Element) -> bool:
    """Return whether an XML file is in CVAT's format."""
    return root.tag == "annotations" and any(
        root.find(tag) is not None for tag in ("image", "track", "meta", "version")
    )


def read_cvat(path: Path, root: ElementTree.Element) -> Annotations:
    """Read CVAT's XML: the tags and shapes of each image, with the image's subset as its part of the split.

    Raises:
        DataError: the file holds video tracks or no image, or an image or label has no name.
    """
    images = root.findall("image")
    if not images:
        what = "tracks of a video" if root.find("track") is not None else "no image"
        raise DataError(f"{path} (CVAT) holds {what}: export it as 'CVAT for images 1.1'")
    declared = [one.findtext("name") or "" for one in root.iterfind("meta//labels/label") if not one.findtext("parent")]
    records = []
    marks = 0
    for i, image in enumerate(images, 1):
        place = f"{path}: image {i}"
        names = [label_name(place, thing.get("label")) for thing in image if thing.tag in SHAPES]
        marks += len(names)
        name = image_name(place, image.get("name"), "name")
        part = part_named(image.get("subset") or "")
        records.append(Record(name, dict.fromkeys(names), part=part, number=i))
    used = [name for one in records for name in one.present]
    labels = dict.fromkeys([*(" ".join(name.split()) for name in declared if name.strip()), *used])
    form = f"CVAT, {counted(marks, 'annotation')} in {counted(len(records), 'image')}"
    return Annotations(form, records, tuple(labels), homes=homes_of(path))

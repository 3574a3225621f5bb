"""Read the Pascal VOC format: one XML file per image, and the lists in ImageSets/Main."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

from polytag.data.reading.annotations.load import load_xml
from polytag.data.reading.annotations.records import Annotations, Record, image_name, join, label_name
from polytag.data.reading.table import PART_NAMES
from polytag.errors import DataError, counted, listed
from polytag.photos.kinds import EXTENSIONS

TRUE = ("1", "true", "yes")
IMAGE_FOLDERS = ("JPEGImages", "images", "imgs", "img", "Images")


def read_voc(folder: Path, annotations: Path) -> Annotations:
    """Read Pascal VOC XML files, one per image.

    If a label is only on objects marked ``difficult``, it is unknown in that image. VOC's own evaluation ignores such
    objects, too.

    Args:
        folder: the dataset's folder.
        annotations: the folder with the XML files, which may be the same folder.

    Raises:
        DataError: a file is damaged, or no file is an annotation.
    """
    images = _images_by_stem(folder, annotations)
    records: list[Record] = []
    stems: list[str] = []
    strange = []
    files = sorted(annotations.rglob("*.xml"))
    for path in files:
        root = load_xml(path)
        if root.tag == "annotation":
            records.append(_record(path, root, len(records) + 1, images))
            stems.append(path.stem)
        else:
            strange.append(f"{path.name} (<{root.tag}>)")
    if not records:
        raise DataError(
            f"none of {counted(len(files), 'XML file')} in {annotations} is a Pascal VOC <annotation>: "
            f"{listed(strange)}"
        )
    notes = []
    if strange:
        notes.append(f"{counted(len(strange), 'XML file')} without <annotation>, not used: {listed(strange)}")
    unknown = [len(one.unknown) for one in records if one.unknown]
    if unknown:
        notes.append(
            f"{counted(sum(unknown), 'label')} in {counted(len(unknown), 'image')} only on objects marked difficult: "
            "unknown there"
        )
    parts, note = _image_sets(folder)
    for one, stem in zip(records, stems, strict=True):
        one.part = parts.get(stem) or parts.get(_stem(one.image), "")
    labels = sorted({name for one in records for names in (one.present, one.unknown) for name in names})
    if not labels:
        raise DataError(f"none of {counted(len(records), 'XML file')} in {annotations} names an object")
    named = {one.image for one in records}
    others = [image for image in images.values() if image not in named]
    form = f"Pascal VOC, {counted(len(records), 'XML file')}"
    records += [Record(image, annotated=False) for image in others]
    homes = tuple(dict.fromkeys((folder, annotations, annotations.parent)))
    return Annotations(form, records, tuple(labels), [*notes, *note], homes)


def _without_folder(found: Annotations, folder: Path) -> Annotations:
    """Return annotations whose images are named relative to the one folder that contains all of them."""
    shared = {one.image.rpartition("/")[0] for one in found.records}
    if len(shared) > 1 or "" in shared:
        return found
    prefix = shared.pop()
    for one in found.records:
        one.image = one.image[len(prefix) + 1 :]
    return replace(found, homes=(folder / prefix, *found.homes))


def _record(path: Path, root: ElementTree.Element, number: int, images: Mapping[str, str]) -> Record:
    named = (root.findtext("filename") or "").strip()
    # Tools leave the file name empty or copy it from another image. In that case, the XML file's name decides.
    image = images.get(path.stem) or images.get(_stem(named)) or named or path.stem
    easy: dict[str, None] = {}
    hard: dict[str, None] = {}
    for i, thing in enumerate(root.iter("object"), 1):
        label = label_name(f"{path}: object {i}", thing.findtext("name"))
        difficult = (thing.findtext("difficult") or "0").strip().lower() in TRUE
        (hard if difficult else easy)[label] = None
    image = image_name(str(path), image, "filename")
    return Record(image, list(easy), [label for label in hard if label not in easy], number=number)


def _stem(name: str) -> str:
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, extension = os.path.splitext(base)
    return stem if extension.lower() in EXTENSIONS else base


def _images_by_stem(folder: Path, annotations: Path) -> dict[str, str]:
    """Return the images in the folders where Pascal VOC stores them, by stem, relative to the dataset's folder."""
    found: dict[str, str] = {}
    places = [folder / name for name in IMAGE_FOLDERS] + [annotations.parent / name for name in IMAGE_FOLDERS]
    for place in dict.fromkeys([*places, annotations, folder]):
        if place.is_dir():
            prefix = os.path.relpath(place, folder).replace(os.sep, "/")
            for name in sorted(os.listdir(place)):
                stem, extension = os.path.splitext(name)
                if extension.lower() in EXTENSIONS:
                    found.setdefault(stem, name if prefix == "." else f"{prefix}/{name}")
    return found


def _image_sets(folder: Path) -> tuple[dict[str, str], Sequence[str]]:
    """Return the part of each stem from the lists in ImageSets/Main, and notes. Lists of single classes are ignored."""
    lists = {path.stem.lower(): path for path in (folder / "ImageSets" / "Main").glob("*.txt")}
    notes = []
    if "trainval" in lists and "train" not in lists:
        lists["train"] = lists["trainval"]
        notes.append("ImageSets/Main has trainval.txt but no train.txt: all of trainval.txt is the training set")
    parts: dict[str, str] = {}
    for name, path in sorted(lists.items()):
        if name not in PART_NAMES:
            continue
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}): make it readable") from None
        for line in lines:
            stem = _stem(line.split()[0]) if line.strip() else ""
            if stem and parts.setdefault(stem, PART_NAMES[name]) != PART_NAMES[name]:
                raise DataError(f"{stem} is in two lists of {path.parent} ({parts[stem]} and {name}): put it into one")
    return parts, notes


def voc_folders(folder: Path) -> list[tuple[str, Path, Path]]:
    """Find the XML files of a Pascal VOC dataset. Return (part, data folder, folder of XML files) for each part.

    They are in Annotations or next to the images, either once, or for each part of a split or each year of a challenge.
    """
    inside = _annotations(folder)
    if inside == folder and folder.name.lower() == "annotations":
        return [("", folder.parent, folder)]
    if inside is not None:
        return [("", folder, inside)]
    below = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    parts = [entry for entry in below if entry.name.lower() in PART_NAMES]
    found = [(entry, _annotations(entry)) for entry in parts or below]
    if not parts and not all(place is not None and place != entry for entry, place in found):
        return []  # This is not a folder of years, but a folder in which some subfolder is VOC.
    return [(PART_NAMES.get(entry.name.lower(), ""), entry, place) for entry, place in found if place is not None]


def _annotations(folder: Path) -> Path | None:
    for entry in sorted(folder.iterdir()):
        if entry.name.lower() in ("annotations", "xml", "xmls") and entry.is_dir() and _has_xml(entry, deep=True):
            return entry
    return folder if _has_xml(folder) else None


def _has_xml(folder: Path, deep: bool = False) -> bool:
    """Return whether a folder holds XML annotations. With ``deep``, any XML file in the folder or below it counts."""
    if deep:
        return next(folder.rglob("*.xml"), None) is not None
    return any(b"<annotation" in path.read_bytes()[:1000] for path in islice(folder.glob("*.xml"), 5))


def read_voc_parts(folder: Path, found: Sequence[tuple[str, Path, Path]]) -> Annotations:
    """Read Pascal VOC from a single folder, or from one folder per part or year.

    Args:
        folder: the dataset's folder.
        found: the folders that `voc_folders` found.

    Raises:
        DataError: a file is damaged, or no file is an annotation.
    """
    read = []
    for part, place, annotations in found:
        one = read_voc(place, annotations)
        for record in one.records:
            record.part = part or record.part
            if len(found) > 1:
                record.image = f"{place.relative_to(folder).as_posix()}/{record.image}"
        if len(found) == 1:
            return _without_folder(one, place)
        read.append(replace(one, labels=None, homes=(folder,)))
    joined = join(read)
    labels = sorted({name for one in joined.records for names in (one.present, one.unknown) for name in names})
    return replace(joined, labels=tuple(labels))

"""Read the annotation files of a dataset: identify the tool that wrote each one, and its part of the split."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from polytag.data.reading.annotations.coco import is_coco, read_coco
from polytag.data.reading.annotations.create_ml import is_create_ml, read_create_ml
from polytag.data.reading.annotations.cvat import is_cvat, read_cvat
from polytag.data.reading.annotations.datumaro import is_datumaro, read_datumaro
from polytag.data.reading.annotations.fiftyone import is_labels, is_samples, read_labels, read_samples
from polytag.data.reading.annotations.label_studio import is_min, is_tasks, read_min, read_tasks
from polytag.data.reading.annotations.labelme import is_labelme
from polytag.data.reading.annotations.load import load_json, load_xml
from polytag.data.reading.annotations.records import Annotations, join, part_named, placed
from polytag.data.reading.annotations.via import is_via, is_via3, is_via_csv, read_via, read_via3, read_via_csv
from polytag.data.reading.table import PART_NAMES
from polytag.errors import DataError, SettingsError, listed

JSON_FORMS: tuple[tuple[Callable[[Any], bool], Callable[..., Annotations], bool], ...] = (
    (is_coco, read_coco, False),
    (is_datumaro, read_datumaro, False),
    (is_samples, read_samples, True),
    (is_labels, read_labels, False),
    (is_via3, read_via3, True),
    (is_via, read_via, True),
    (is_tasks, read_tasks, True),
    (is_min, read_min, True),
    (is_create_ml, read_create_ml, False),
)
"""How each kind of JSON file is identified and read, and whether --label-column can choose among its fields."""

FOLDERS = ("annotations", "annotation", "labels", "json")
"""Folders where tools store annotation files."""

BESIDES = re.compile(r"(captions|person_keypoints|stuff|panoptic|image_info)_.*")
"""Files that COCO publishes next to its instance annotations."""


def read_json(path: Path, content: Any, fields: Sequence[str] = ()) -> Annotations | None:
    """Read the content of a JSON file. Return ``None`` if it is in none of the known annotation formats.

    Raises:
        DataError: the file is damaged.
        SettingsError: a field is named, but the format has no fields to choose from.
    """
    for recognise, read, has_fields in JSON_FORMS:
        if recognise(content):
            if fields and not has_fields:
                raise SettingsError(
                    f"--label-column applies to the columns of a table, and {path} has no columns: omit it"
                )
            return read(path, content, fields) if has_fields else read(path, content)
    return None


def read_via_table(path: Path, fields: Sequence[str] = ()) -> Annotations | None:
    """Read a CSV file written by VGG Image Annotator. Return ``None`` for any other CSV file."""
    try:
        with path.open("rb") as file:
            head = file.read(2000).decode("utf-8", errors="replace")
            if not is_via_csv(head):
                return None
        return read_via_csv(path, path.read_text(encoding="utf-8-sig", errors="replace"), fields)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): make it readable") from None


def read_xml(path: Path) -> Annotations | None:
    """Read an XML file written by CVAT. Return ``None`` for any other XML file."""
    root = load_xml(path)
    return read_cvat(path, root) if is_cvat(root) else None


def labelme_files(folder: Path) -> list[Path]:
    """Return all JSON files in a folder and its subfolders if labelme wrote the first ones."""
    files = sorted(_below(folder, ".json"))
    for path in files[:3]:
        if path.stat().st_size < 100_000_000 and _is(path, is_labelme):
            return files
    return []


def _is(path: Path, recognise: Callable[[Any], bool]) -> bool:
    try:
        return recognise(load_json(path))
    except DataError:
        return False


def _below(folder: Path, extension: str) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        yield from (
            Path(place, name) for name in files if name.lower().endswith(extension) and not name.startswith(".")
        )


def annotation_files(folder: Path) -> list[Path]:
    """Return the files in a folder, its annotation subfolders and its part folders that may hold annotations."""
    places = [folder]
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and (entry.name.lower() in PART_NAMES or entry.name.lower() in FOLDERS):
            places.append(entry)
    files = [
        file
        for place in places
        for file in islice(sorted(place.iterdir()), 100_000)
        if file.suffix.lower() in (".json", ".xml", ".csv") and not file.name.startswith(".") and file.is_file()
    ]
    if any(file.name.startswith("instances_") for file in files):
        files = [file for file in files if not BESIDES.fullmatch(file.stem)]
    # More files than this are one file per image, which is how other formats work.
    return files if len(files) <= 200 else []


def read_folder(folder: Path, files: Sequence[Path], fields: Sequence[str] = ()) -> Annotations | None:
    """Read the annotation files of a dataset. Several files are parts of its split, or batches.

    Args:
        folder: the dataset's folder.
        files: files that may hold annotations.
        fields: the fields named with --label-column.

    Returns:
        The annotations, or ``None`` if no file is in a known format.

    Raises:
        DataError: a file is damaged, or the files are in different formats.
    """
    found: list[tuple[Path, Annotations]] = []
    broken: list[DataError] = []
    for path in files:
        try:
            read = _read(path, fields)
        except DataError as error:
            broken.append(error)
            continue
        if read is not None:
            found.append((path, read))
    if not found:
        if broken:
            raise broken[0]
        return None
    if broken:
        raise broken[0]
    forms = {one.form.split(",")[0].split(" (")[0] for _, one in found}
    if len(forms) > 1:
        raise DataError(
            f"{folder} holds annotations in several formats ({listed(sorted(forms))}): name one file, such as "
            f"{found[0][0]}"
        )
    parts = [part_named(path.stem) or part_named(path.parent.name) for path, _ in found]
    several = len(found) > 1 and all(parts)
    if several and len(set(parts)) < len(parts):
        raise DataError(
            f"{folder} holds several annotation files for one part of the split "
            f"({listed([path.name for path, _ in found])}): name the file to read"
        )
    joined = []
    for (path, one), part in zip(found, parts, strict=True):
        if several:
            for record in one.records:
                record.part = part
        joined.append(placed(one, _image_folders(folder, path, part), folder))
    return replace(join(joined), homes=(folder,))


def _read(path: Path, fields: Sequence[str]) -> Annotations | None:
    if path.suffix.lower() == ".xml":
        return read_xml(path)
    if path.suffix.lower() == ".csv":
        return read_via_table(path, fields)
    return read_json(path, load_json(path), fields)


def _image_folders(folder: Path, path: Path, part: str) -> Iterator[Path]:
    """Yield folders where the images may be, most likely first: images/train2017, train2017, …"""
    words = re.findall(r"[a-z]+\d*", path.stem.lower())
    for place in (folder / "images", folder / "data", folder / "JPEGImages", folder, path.parent):
        if place.is_dir():
            names = [entry.name for entry in place.iterdir() if entry.is_dir()]
            yield from (place / name for name in names if name == path.stem)
            yield from (place / name for name in names if name.lower() in words and part_named(name) == part)
            yield from (place / name for name in names if part and PART_NAMES.get(name.lower()) == part)
    for place in (path.parent, folder):
        yield from (place, place / "images", place / "data", place / "JPEGImages")

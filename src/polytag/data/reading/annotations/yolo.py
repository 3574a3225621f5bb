"""Read the YOLO format: a text file of class numbers per image, and names in data.yaml, classes.txt or obj.names."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from polytag.data.reading.annotations.records import Annotations, Record
from polytag.data.reading.table import PART_NAMES
from polytag.errors import DataError, counted, listed
from polytag.photos.kinds import EXTENSIONS

NAME_FILES = ("classes.txt", "obj.names", "classes.names", "labels.txt")
NOT_LABELS = {*NAME_FILES, "train.txt", "val.txt", "valid.txt", "test.txt", "notes.txt", "readme.txt"}


def yolo_names(folder: Path) -> Path | None:
    """Return the file with the label names if the folder is a YOLO dataset, otherwise ``None``."""
    for path in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
        if re.search(r"^\s*[\"']?names[\"']?\s*:", _text(path), re.MULTILINE):
            return path
    if any(place.is_dir() for place in _label_folders(folder)) or (folder / "obj.data").is_file():
        return next(
            (path for name in NAME_FILES for path in (folder / name, folder / "labels" / name) if path.is_file()), None
        )
    return None


def read_yolo(folder: Path, names_file: Path) -> Annotations:
    """Read a YOLO dataset.

    All labels are absent in an image with an empty file. An image without a file was not annotated.

    Raises:
        DataError: a file is damaged, or a class number has no name.
    """
    content = _yaml(names_file) if names_file.suffix in (".yaml", ".yml") else {}
    names = _names(names_file, content)
    images = list(_images(folder))
    if not images:
        raise DataError(f"{folder} (YOLO, {names_file.name}) has no images: expected them in this folder or below it")
    labels = _label_files(folder)
    parts = _parts(folder, content)
    records = []
    used = set()
    for image in images:
        file = next((key for key in _keys(image) if key in labels), None)
        part = _part(image, parts)
        if file is None:
            records.append(Record(image, annotated=False, part=part))
        else:
            used.add(file)
            numbers = _numbers(labels[file])
            strange = [n for n in numbers if n not in names]
            if strange:
                raise DataError(f"{labels[file]}: there is no name for class {strange[0]} in {names_file.name}")
            records.append(Record(image, [names[n] for n in numbers], part=part, number=len(records) + 1))
    if not used:
        raise DataError(f"none of the {counted(len(images), 'image')} in {folder} has a YOLO label file")
    notes = []
    idle = [labels[key].name for key in labels.keys() - used]
    if idle:
        notes.append(f"{counted(len(idle), 'label file')} without an image, not used: {listed(sorted(idle))}")
    form = f"YOLO ({names_file.name}), {counted(len(used), 'label file')} for {counted(len(images), 'image')}"
    return Annotations(form, records, tuple(dict.fromkeys(names.values())), notes, (folder,))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): make it readable") from None


def _yaml(path: Path) -> Mapping[str, Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        # Every scalar stays a string, because a label may be called "yes" and a class "007".
        content = yaml.load(_text(path), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not YAML ({' '.join(str(error).split())}): fix it or export it again") from None
    return content if isinstance(content, dict) else {}


def _names(path: Path, content: Mapping[str, Any]) -> dict[int, str]:
    """Return the labels by class number. They are a list or an object in YAML, or one per line in a text file."""
    told = content.get("names") if content else _text(path).splitlines()
    if isinstance(told, list):
        told = dict(enumerate(told))
    if not isinstance(told, dict) or not told:
        raise DataError(f"{path} has no list of 'names': expected the label of each class number")
    names = {}
    for key, name in told.items():
        label = " ".join(name.split()) if isinstance(name, str) else ""
        if not str(key).lstrip("-").isdigit() or (not label and content):
            raise DataError(f"{path}: 'names' has {key!r}: {name!r}: expected a class number and the name of a label")
        if label:
            names[int(key)] = label
    return names


def _numbers(path: Path) -> list[int]:
    """Return the class numbers in a label file. The other numbers on each line are coordinates."""
    numbers: dict[int, None] = {}
    for i, line in enumerate(_text(path).splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        try:
            number = float(cells[0])
            places = [float(cell) for cell in cells[1:]]
        except ValueError:
            raise DataError(f"{path}, line {i}: {line.strip()[:60]!r}: expected a class number and a box") from None
        # Boxes have four numbers, or five with a confidence. Polygons have pairs. A single number tags the whole image.
        if not number.is_integer() or len(places) in (1, 2, 3):
            raise DataError(f"{path}, line {i}: {line.strip()[:60]!r}: expected a class number and a box")
        numbers[int(number)] = None
    return list(numbers)


def _label_folders(folder: Path) -> list[Path]:
    parts = [folder / name for name in os.listdir(folder) if name.lower() in PART_NAMES]
    return [folder / "labels", *(part / "labels" for part in parts), folder / "obj_train_data"]


def _walk(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (relative path without extension, extension, name) of each file below a folder, without following links."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        relative = os.path.relpath(place, folder).replace(os.sep, "/")
        for name in sorted(files):
            stem, extension = os.path.splitext(name if relative == "." else f"{relative}/{name}")
            yield stem, extension, name


def _images(folder: Path) -> Iterator[str]:
    return (stem + extension for stem, extension, name in _walk(folder) if extension.lower() in EXTENSIONS)


def _label_files(folder: Path) -> dict[str, Path]:
    found = (
        (stem, folder / (stem + extension))
        for stem, extension, name in _walk(folder)
        if extension == ".txt" and name.lower() not in NOT_LABELS and not name.lower().startswith("readme")
    )
    return dict(found)


def _keys(image: str) -> Iterator[str]:
    """Yield possible locations of an image's label file: images/ becomes labels/, or the file is next to the image."""
    stem = os.path.splitext(image)[0]
    steps = stem.split("/")
    for i in reversed(range(len(steps) - 1)):
        if steps[i].lower() in ("images", "jpegimages", "imgs", "img"):
            yield "/".join([*steps[:i], "labels", *steps[i + 1 :]])
    yield stem
    yield "/".join([*steps[:-1], "labels", steps[-1]])
    yield "/".join(["labels", *steps])


def _parts(folder: Path, content: Mapping[str, Any]) -> dict[str, str]:
    """Return the part of each folder and of each listed image, relative to the dataset's folder."""
    parts: dict[str, str] = {}
    lists = [(key, content.get(key)) for key in content if str(key).lower() in PART_NAMES]
    lists += [(path.stem, path.name) for path in folder.glob("*.txt") if path.stem.lower() in PART_NAMES]
    for key, told in lists:
        for value in told if isinstance(told, list) else [told]:
            if not isinstance(value, str):
                continue
            file = _inside(folder, value, str(content.get("path") or ""))
            if file is None:
                continue
            if file.is_file():
                named = [line.strip() for line in _text(file).splitlines() if line.strip()]
                below = [_inside(folder, name, "") for name in named]
                for name in filter(None, below):
                    parts[name.relative_to(folder).as_posix()] = PART_NAMES[str(key).lower()]
            elif file.is_dir():
                parts[f"{file.relative_to(folder).as_posix()}/"] = PART_NAMES[str(key).lower()]
    return parts


def _inside(folder: Path, name: str, root: str) -> Path | None:
    """Find the named file or folder in the dataset. For another machine's path, use the longest suffix that exists."""
    steps = [step for step in f"{root}/{name}".replace("\\", "/").split("/") if step not in ("", ".", "..")]
    for i in range(len(steps)):
        file = folder.joinpath(*steps[i:])
        if file.exists():
            return file
    return None


def _part(image: str, parts: Mapping[str, str]) -> str:
    if image in parts:
        return parts[image]
    steps = image.split("/")
    for i in reversed(range(1, len(steps))):
        part = parts.get("/".join(steps[:i]) + "/")
        if part:
            return part
    # Without lists, the folder names decide: images/train/a.jpg, train/images/a.jpg
    named = {PART_NAMES[step.lower()] for step in steps[:-1] if step.lower() in PART_NAMES}
    return named.pop() if len(named) == 1 else ""

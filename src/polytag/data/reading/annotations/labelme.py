"""Read labelme's format: a JSON file next to each image, with image flags and labelled shapes."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polytag.data.reading.annotations.load import load_json
from polytag.data.reading.annotations.records import Annotations, Record, label_name
from polytag.errors import DataError, counted, listed
from polytag.photos.kinds import EXTENSIONS


def is_labelme(content: Any) -> bool:
    """Return whether the content of a JSON file is in labelme's format."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read_labelme(folder: Path, files: Sequence[Path]) -> Annotations:
    """Read labelme files. A label is present if its flag is true or a shape has it.

    Args:
        folder: the dataset's folder.
        files: the dataset's JSON files, at any depth.

    Raises:
        DataError: a file is damaged.
    """
    records: list[Record] = []
    flags: dict[str, None] = {}
    strange = []
    for path in sorted(files):
        content = load_json(path)
        if not is_labelme(content):
            strange.append(path.name)
            continue
        declared, present = _labels(path, content)
        flags |= dict.fromkeys(declared)
        image = _image(folder, path, str(content["imagePath"] or ""))
        records.append(Record(image, present, number=len(records) + 1, labels=frozenset(declared)))
    _unasked(records, flags)
    notes = [f"{counted(len(strange), 'JSON file')} of another kind, not used: {listed(strange)}"] if strange else []
    records += _others(folder, [one.image for one in records])
    used = dict.fromkeys(name for one in records for name in one.present)
    form = f"labelme, {counted(len(records), 'file')}"
    return Annotations(form, records, tuple({**flags, **used}), notes, (folder,))


def _labels(path: Path, content: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names of the image's flags, and the labels that are present."""
    told = content.get("flags") or {}
    if not isinstance(told, dict):
        raise DataError(f"{path}: 'flags' is not an object of names and true or false: save the file again")
    flags = {label_name(str(path), name): value is True for name, value in told.items()}
    shapes = [shape for shape in content["shapes"] if isinstance(shape, dict)]
    marked = [label_name(f"{path}: shape {i}", shape.get("label")) for i, shape in enumerate(shapes, 1)]
    present = dict.fromkeys([*(name for name, value in flags.items() if value), *marked])
    return list(flags), list(present)


def _unasked(records: Sequence[Record], flags: Mapping[str, None]) -> None:
    """Set which labels were asked for in each image. Missing flags were not, but shape labels apply to every image."""
    shapes = {name for one in records for name in one.present if name not in flags}
    for one in records:
        asked = one.labels or frozenset()
        one.labels = None if len(asked) == len(flags) else asked | shapes


def _others(folder: Path, images: Sequence[str]) -> list[Record]:
    """Return records for images in the same folders without a JSON file, which nobody annotated."""
    named = set(images)
    others = []
    for below in dict.fromkeys(image.rpartition("/")[0] for image in images):
        place = folder / below
        for name in sorted(os.listdir(place)) if place.is_dir() else ():
            image = f"{below}/{name}" if below else name
            if os.path.splitext(name)[1].lower() in EXTENSIONS and image not in named:
                others.append(Record(image, annotated=False))
    return others


def _image(folder: Path, path: Path, named: str) -> str:
    """Return the image that a file describes. Look next to the file first, then at the path given in the file.

    A renamed image is found by the name of the JSON file.
    """
    name = named.replace("\\", "/")
    base = name.rsplit("/", 1)[-1]
    beside = [path.parent / base, *(path.with_suffix(extension) for extension in sorted(EXTENSIONS))]
    if base.rsplit(".", 1)[0] != path.stem:
        beside = [*beside[1:], beside[0]]
    found = next((file for file in beside if base and os.path.isfile(file)), None)
    if found is None:
        # The path is usually ../images/a.jpg. It is used only if it stays inside the dataset.
        there = path.parent / name
        inside = os.path.isfile(there) and there.resolve().is_relative_to(folder.resolve())
        found = there.resolve() if inside else None
        if found is None:
            return base or path.stem
        return found.relative_to(folder.resolve()).as_posix()
    return found.relative_to(folder).as_posix()

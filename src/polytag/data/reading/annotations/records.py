"""Convert records, each of which holds the annotations of one image, to a table.

Annotation tools record where objects are in an image, but polytag only uses which labels an image has. A label is
present if at least one object has it. Otherwise, it is absent, unless the format says that nobody looked for it.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.reading.table import NOT_ANNOTATED, PART_NAMES, Table
from polytag.errors import DataError, counted, listed, raise_machine_error
from polytag.photos.kinds import EXTENSIONS


@dataclass(slots=True)
class Record:
    """The annotations of one image.

    Attributes:
        image: path of the image.
        present: labels that the image has.
        unknown: labels that nobody decided on.
        absent: the only labels that are known to be absent; all others are unknown. ``None`` if all others are absent.
        annotated: whether anyone annotated the image.
        part: "train", "validation" or "test", or "" if the source does not say.
        group: identifier shared by images that must stay together, or "".
        number: position of the record in its source, from 1.
        labels: all labels that the record's file asks for, if other files ask for other labels.
    """

    image: str
    present: Collection[str] = ()
    unknown: Collection[str] = ()
    absent: Collection[str] | None = None
    annotated: bool = True
    part: str = ""
    group: str = ""
    number: int = 0
    labels: frozenset[str] | None = None


@dataclass(frozen=True)
class Annotations:
    """The content of one annotation file or folder.

    Attributes:
        form: name of the format, followed by the number of annotations or images.
        records: one record per image or annotation.
        labels: labels that the source declares, in the order of the source. ``None`` if it declares none.
        notes: decisions made while reading.
        homes: folders to search for images, nearest first.
    """

    form: str
    records: list[Record]
    labels: tuple[str, ...] | None = None
    notes: Sequence[str] = ()
    homes: tuple[Path, ...] = ()


def table_of(source: str, found: Annotations) -> Table:
    """Convert annotations to a table.

    Args:
        source: name of the file or folder, used in messages.
        found: the annotations.

    Returns:
        A table with one row per annotated record. Images that were not annotated are in `Table.left_out`.

    Raises:
        DataError: there are no labels, or no image is annotated.
    """
    records = [one for one in found.records if one.annotated]
    if not records:
        raise DataError(f"none of the {counted(len(found.records), 'image')} in {source} ({found.form}) is annotated")
    labels = found.labels
    if labels is None:
        named = dict.fromkeys(name for one in found.records for names in (one.present, one.unknown) for name in names)
        labels = tuple(named)
    if not labels:
        raise DataError(f"{source} ({found.form}) has no labels: expected at least one; check the export")
    targets = _targets(records, labels)
    notes = list(found.notes)
    idle = [] if found.labels is None else [labels[j] for j in np.flatnonzero(~(targets == 1).any(axis=0))]
    if idle:
        notes.append(f"{counted(len(idle), 'label')} declared but never present: {listed(idle)}")
    parts, note = parts_of(records)
    notes += note
    annotated = {one.image for one in records}
    silent = dict.fromkeys(one.image for one in found.records if not one.annotated and one.image not in annotated)
    return Table(
        images=[one.image for one in records],
        lines=[one.number or i for i, one in enumerate(records, 1)],
        targets=targets,
        disagreements=np.broadcast_to(False, targets.shape),
        labels=labels,
        source=source,
        recognised=f"{source}: {found.form}, {counted(len(labels), 'label')}",
        parts=parts,
        groups=[one.group for one in records] if any(one.group for one in records) else None,
        place="record",
        homes=tuple(dict.fromkeys(home.resolve() for home in found.homes)),
        notes=tuple(notes),
        left_out=dict.fromkeys(silent, NOT_ANNOTATED),
    )


def _targets(records: Sequence[Record], labels: tuple[str, ...]) -> NDArray[np.int8]:
    place = {label: j for j, label in enumerate(labels)}
    targets = np.zeros((len(records), len(labels)), dtype=np.int8)
    for row, one in zip(targets, records, strict=True):
        if one.absent is not None:
            row[:] = -1
            row[[place[label] for label in one.absent if label in place]] = 0
        elif one.labels is not None and len(one.labels) < len(labels):
            row[[j for label, j in place.items() if label not in one.labels]] = -1
        row[[place[label] for label in one.unknown if label in place]] = -1
        row[[place[label] for label in one.present if label in place]] = 1
    return targets


def parts_of(records: Sequence[Record]) -> tuple[list[str] | None, list[str]]:
    """Return the split and notes about it. The split is used if every record has a part and the parts differ."""
    parts = [one.part for one in records]
    sizes = Counter(part for part in parts if part)
    if len(sizes) < 2:
        return None, []
    missing = len(parts) - sizes.total()
    if missing:
        return None, [f"the split is not used: {missing:,} of {counted(len(parts), 'image')} have no part"]
    return parts, [f"split: {', '.join(f'{n:,} {part}' for part, n in sizes.items())}"]


def part_named(name: str) -> str:
    """Return the part that a file or folder name stands for, such as "instances_train2017.json", or ""."""
    stem = name.lower().split(".")[0] if name.count(".") else name.lower()
    words = "".join(c if c.isalpha() else " " for c in stem).split()
    found = {PART_NAMES[word] for word in words if word in PART_NAMES}
    return found.pop() if len(found) == 1 else ""


def part_and_group(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the values of an entry's ``split`` and ``group`` as a part and a group, or "" if they are missing."""
    part, group = entry.get("split"), entry.get("group")
    known = PART_NAMES.get(part.lower(), "") if isinstance(part, str) else ""
    return known, group if isinstance(group, str) else ""


def join(parts: Sequence[Annotations]) -> Annotations:
    """Combine the annotations of several files.

    If a file does not declare a label that another file declares, the label is unknown in the first file's images.
    """
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    records = [one for part in parts for one in part.records]
    notes = list(dict.fromkeys(note for part in parts for note in part.notes))
    homes = tuple(dict.fromkeys(home for part in parts for home in part.homes))
    labels: tuple[str, ...] | None = None
    if all(part.labels is not None for part in parts):
        labels = tuple(dict.fromkeys(label for part in parts for label in part.labels or ()))
        for part in parts:
            own = frozenset(part.labels or ())
            lacking = [label for label in labels if label not in own]
            if lacking:
                notes.append(
                    f"{counted(len(lacking), 'label')} not declared in every file, unknown there: {listed(lacking)}"
                )
                for one in part.records:
                    one.labels = own
    form = f"{len(parts)} files of {first.form.split(',')[0]}"
    return Annotations(form, records, labels, tuple(dict.fromkeys(notes)), homes)


def placed(found: Annotations, folders: Iterable[Path], home: Path) -> Annotations:
    """Rename images relative to the dataset's folder, assuming that they are in the folder that holds most of them.

    Args:
        found: annotations whose image names are relative to an unknown folder.
        folders: candidate folders, most likely first.
        home: the dataset's folder.
    """
    sample = [one.image for one in islice(found.records, 0, None, max(1, len(found.records) // 50))]
    best, most = None, 0
    for folder in dict.fromkeys(folders):
        hits = sum(_is_below(folder, name) for name in sample)
        if hits > most:
            best, most = folder, hits
    if best is None or best == home:
        return replace(found, homes=(home,))
    prefix = best.relative_to(home).as_posix()
    for one in found.records:
        one.image = f"{prefix}/{one.image}"
    return replace(found, homes=(home,))


def _is_below(folder: Path, name: str) -> bool:
    """Return whether a folder holds the named file. The name must not lead out of it; its extension may be missing."""
    file = os.path.normpath(os.path.join(folder, name))
    if not file.startswith(f"{folder}{os.sep}"):
        return False
    if os.path.isfile(file):
        return True
    if os.path.splitext(name)[1].lower() in EXTENSIONS:
        return False
    return any(os.path.isfile(file + extension) for extension in EXTENSIONS)


def homes_of(path: Path) -> tuple[Path, ...]:
    """Return where to look for images: next to the annotation file and below, or one folder up if there are none."""
    here = path.parent.resolve()
    if here.parent == here or _holds_images(here):
        return (here,)
    return (here, here.parent)


def _holds_images(folder: Path, depth: int = 2) -> bool:
    try:
        with os.scandir(folder) as inside:
            entries = list(islice(inside, 10_000))
    except OSError as error:
        raise_machine_error(error)
        return False
    if any(os.path.splitext(entry.name)[1].lower() in EXTENSIONS for entry in entries):
        return True
    below = [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")][:50]
    return depth > 0 and any(_holds_images(one, depth - 1) for one in below)


def label_name(place: str, name: Any) -> str:
    """Return a label's name, with whitespace normalized.

    Raises:
        DataError: the name is not a string or number, or is empty.
    """
    label = " ".join(name.split()) if isinstance(name, str) else str(name) if _is_number(name) else ""
    if not label:
        came = "no name" if name is None else f"{brief(name)} for a name"
        raise DataError(f"{place} has {came}: expected the name of a label")
    return label


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def image_name(place: str, name: Any, key: str) -> str:
    """Return an image's name as it is written in the file.

    Raises:
        DataError: the name is not a single line of text.
    """
    if not isinstance(name, str) or not name.strip() or len(name.splitlines()) > 1:
        raise DataError(f"{place} has {brief(name)} for {key}: expected the name of one image")
    return name.strip()

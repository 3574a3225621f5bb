"""Records, what an annotation file says about one image each → Table.

Annotation tools say where in an image things are. Only what is in the image is kept: a label is present if at least
one thing of it is marked, and absent otherwise, unless the format says that nobody looked.
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
    """What a source says about one image.

    Attributes:
        image: its name, as a path.
        present: the labels that it carries.
        unknown: the labels that nobody decided on.
        absent: the only labels known to be absent, all others being unknown; ``None`` if all others are absent.
        annotated: whether anyone looked at the image at all.
        part: "train", "validation", "test", or "" if the source does not say.
        group: what images that must stay together share, or "".
        number: the record's place in its source, from 1.
        labels: all labels that the record's file asks for, if other files ask for others.
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
        form: the format's name, with what was counted.
        records: what is said, image by image.
        labels: the labels that the source declares, in its order; ``None`` if it only uses them.
        notes: what was decided on reading.
        homes: folders where the images are looked for, the nearest first.
    """

    form: str
    records: list[Record]
    labels: tuple[str, ...] | None = None
    notes: Sequence[str] = ()
    homes: tuple[Path, ...] = ()


def table_of(source: str, found: Annotations) -> Table:
    """Make a table of records.

    Args:
        source: the name of the file or folder, for messages.
        found: its content.

    Returns:
        One row for each record that was annotated; images that were not are in `Table.left_out`.

    Raises:
        DataError: there is no label, or no image that was annotated.
    """
    records = [one for one in found.records if one.annotated]
    if not records:
        raise DataError(f"none of the {counted(len(found.records), 'image')} of {source} ({found.form}) is annotated")
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
        notes.append(f"{counted(len(idle), 'label')} declared but never present (kept): {listed(idle)}")
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
    """The split of the records, if every one has a part and there are several; and what to say about it."""
    parts = [one.part for one in records]
    sizes = Counter(part for part in parts if part)
    if len(sizes) < 2:
        return None, []
    missing = len(parts) - sizes.total()
    if missing:
        return None, [f"the split is not used: {missing:,} of {counted(len(parts), 'image')} have no part"]
    return parts, [f"split: {', '.join(f'{n:,} {part}' for part, n in sizes.items())}"]


def part_named(name: str) -> str:
    """The part that a file's or folder's name stands for, such as "instances_train2017.json", else ""."""
    stem = name.lower().split(".")[0] if name.count(".") else name.lower()
    words = "".join(c if c.isalpha() else " " for c in stem).split()
    found = {PART_NAMES[word] for word in words if word in PART_NAMES}
    return found.pop() if len(found) == 1 else ""


def part_and_group(entry: Mapping[str, Any]) -> tuple[str, str]:
    """The part and the group that an entry names under ``split`` and ``group``, else ""."""
    part, group = entry.get("split"), entry.get("group")
    known = PART_NAMES.get(part.lower(), "") if isinstance(part, str) else ""
    return known, group if isinstance(group, str) else ""


def join(parts: Sequence[Annotations]) -> Annotations:
    """Bring the annotations of several files together.

    A label that one file declares and another does not is unknown for the images of the other.
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
    """Name the images relative to the data set's home, from the folder that holds most of them.

    Args:
        found: annotations whose images are named relative to some folder.
        folders: the folders to try, the likeliest first.
        home: the data set's folder.
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
    """Whether a folder holds a file of this name, which must not lead out of it; an ending may be missing."""
    file = os.path.normpath(os.path.join(folder, name))
    if not file.startswith(f"{folder}{os.sep}"):
        return False
    if os.path.isfile(file):
        return True
    if os.path.splitext(name)[1].lower() in EXTENSIONS:
        return False
    return any(os.path.isfile(file + ending) for ending in EXTENSIONS)


def homes_of(path: Path) -> tuple[Path, ...]:
    """Where to look for the images of an annotation file: beside it and below; one folder up if none are there."""
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
    """A label's name, with single blanks.

    Raises:
        DataError: it is not a text, or empty.
    """
    label = " ".join(name.split()) if isinstance(name, str) else str(name) if _is_number(name) else ""
    if not label:
        came = "no name" if name is None else f"{brief(name)} for a name"
        raise DataError(f"{place} has {came}: expected the name of a label")
    return label


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def image_name(place: str, name: Any, key: str) -> str:
    """An image's name, as the file has it.

    Raises:
        DataError: it is not a text of one line.
    """
    if not isinstance(name, str) or not name.strip() or len(name.splitlines()) > 1:
        raise DataError(f"{place} has {brief(name)} for {key}: expected the name of one image")
    return name.strip()

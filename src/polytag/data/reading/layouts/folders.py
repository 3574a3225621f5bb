"""Read datasets that have one folder of photos per label.

A photo with several labels is in several folders. Copies are recognized by content, and their labels are combined.
Photos next to the label folders have no label. The label folders may be inside folders for the parts of a split.
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from polytag.data.reading.layouts.keywords import sorted_by_date
from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import NOT_ANNOTATED, PART_NAMES, Table
from polytag.errors import DataError, counted
from polytag.photos.content import content_hashes
from polytag.photos.kinds import is_photo, left_out
from polytag.progress import progress_bar

NO_LABELS = {"images", "imgs", "img", "jpegimages", "annotations"}
"""Names of folders that hold photos or annotations and are never labels."""

PART_FOLDER = re.compile(r"(train|trainval|val|valid|validation|dev|test|unlabeled)[-_ ]?\d*([-_ ]?(images|imgs|set))?")
"""Names of folders that hold parts of a dataset, such as COCO's train2017."""


def label_folders(root: Path) -> list[Path]:
    """Return the folders that are named after labels, sorted by name; empty if the dataset has a different layout.

    A single folder does not count, because all photos would have its label.
    """
    found = [folder for level in _part_folders(root) or [root] for folder in _folders(level) if _holds_photos(folder)]
    return found if names_labels([_label(folder) for folder in found]) else []


def names_labels(names: Iterable[str]) -> bool:
    """Return whether folder names look like labels rather than parts of a split, dates or types of content."""
    labels = {name.lower() for name in names}
    parts = all(map(PART_FOLDER.fullmatch, labels))
    return len(labels) > 1 and not NO_LABELS & labels and not parts and not sorted_by_date(labels)


def read_folders(root: Path, options: ReadOptions) -> Table:
    """Read a folder that has one subfolder of photos per label.

    Raises:
        DataError: photos are in deeper folders, so it is unclear which folder is the label.
    """
    root = root.resolve()
    parts = _part_folders(root)
    found = label_folders(root)
    labels = tuple(sorted({_label(folder) for folder in found}))
    deeper = next((below for folder in found for below in _folders(folder) if _holds_photos(below)), None)
    if deeper is not None:
        raise DataError(
            f"{deeper.relative_to(root)} in {root} contains photos one folder too deep: expected a folder of photos "
            "for each label, or such folders below train, valid and test; move the photos up, or list them in a table"
        )
    annotated = {folder.parent for folder in found}
    places = [*found, *(level for level in parts or [root] if level in annotated)]
    first: dict[tuple[str, str], str] = {}
    labels_of: dict[str, set[str]] = {}
    seen: set[tuple[str, Path]] = set()
    n_files = copies = 0
    photos = [(place, file) for place in places for file in _photos(place)]
    with progress_bar(len(photos), "hashing photos", "photo", options.show_progress) as bar:
        contents = list(content_hashes((str(file) for _, file in photos), bar.update))
    for (place, file), read in zip(photos, contents, strict=True):
        # A file that cannot be read is identified by its path for now. It is reported and left out later.
        content = str(file) if isinstance(read, OSError) else read
        part = PART_NAMES[(place if place in parts else place.parent).name.lower()] if parts else ""
        first.setdefault((content, part), file.relative_to(root).as_posix())
        labels_of.setdefault(content, set()).update([_label(place)] if place in found else [])
        n_files += 1
        copies += (content, place) in seen
        seen.add((content, place))

    targets = np.zeros((len(first), len(labels)), dtype=np.int8)
    for row, (content, _) in enumerate(first):
        targets[row, [labels.index(label) for label in labels_of[content]]] = 1
    notes = []
    joined = n_files - len(first) - copies
    if joined:
        notes.append(f"{counted(joined, 'copy')} in several folders: labels combined")
    if copies:
        notes.append(f"{counted(copies, 'copy')} within one folder: read once")
    skipped: Counter[str] = Counter()
    for place in places:
        for entry in entries(place):
            if entry.is_file():
                is_photo(entry, skipped)
    if skipped:
        notes.append(left_out(skipped))
    silent = [photo for level in {root, *parts} - annotated for photo in _photos(level)]
    return Table(
        images=list(first.values()),
        lines=list(range(1, len(first) + 1)),
        targets=targets,
        disagreements=np.broadcast_to(False, targets.shape),
        labels=labels,
        source=root.name,
        recognised=f"{root.name}: a folder of photos for each of {counted(len(labels), 'label')}"
        + (f", below {', '.join(level.name for level in parts)}" if parts else ""),
        parts=[part for _, part in first] if parts else None,
        place="record",
        homes=(root,),
        notes=tuple(notes),
        left_out={photo.relative_to(root).as_posix(): NOT_ANNOTATED for photo in sorted(silent)},
    )


def _part_folders(root: Path) -> list[Path]:
    """Return the folders train, valid and test if they contain all photos, otherwise an empty list."""
    holders = [folder for folder in _folders(root) if any(map(_holds_photos, (folder, *_folders(folder))))]
    return holders if all(folder.name.lower() in PART_NAMES for folder in holders) else []


def entries(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted by name, without hidden ones."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__")))
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read ({error.strerror}): make it readable") from None


def _folders(place: Path) -> list[Path]:
    return [entry for entry in entries(place) if entry.is_dir()]


def _photos(place: Path) -> list[Path]:
    return [entry for entry in entries(place) if _is_photo(entry)]


def _holds_photos(place: Path) -> bool:
    return any(map(_is_photo, entries(place)))


def _is_photo(entry: Path) -> bool:
    return entry.is_file() and is_photo(entry)


def _label(folder: Path) -> str:
    return " ".join(folder.name.split())

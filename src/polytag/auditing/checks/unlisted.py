"""Report files in the photo folder that the labels do not mention."""

import os
from collections import Counter
from collections.abc import Iterator

from polytag.data.dataset import Dataset
from polytag.errors import counted, raise_machine_error
from polytag.photos.kinds import PHOTO, kind_of, left_out

LABEL_EXTENSIONS = frozenset(
    {".csv", ".tsv", ".parquet", ".pq", ".xlsx", ".json", ".jsonl", ".ndjson", ".xml"} | {".yaml", ".yml"}
)
"""Extensions of files that may hold labels. Such files are not reported."""


def unlisted_notes(dataset: Dataset) -> list[str]:
    """Report how many photos in the folder are not listed, and how many other files there are of each kind.

    Hidden files, label files, and files that belong to a photo with the same name are ignored.

    Raises:
        MachineError: the computer failed, for example because of a disk error.
    """
    if str(dataset.root) == dataset.root.anchor:
        return []  # The photos come from all over the disk, and the rest of the disk is not part of the data.
    found = Counter(_unlisted(dataset))
    photos = found.pop(PHOTO, 0)
    notes = []
    if photos:
        verb = "is" if photos == 1 else "are"
        notes.append(f"{counted(photos, 'photo')} in {dataset.root.name} {verb} not listed")
    if found and left_out(found) not in dataset.notes:
        notes.append(left_out(found))
    return notes


def _unlisted(dataset: Dataset) -> Iterator[str]:
    """Yield the kind of each file under the root folder that no row mentions."""
    listed = {*dataset.names, *dataset.left_out}
    stems = {os.path.splitext(name)[0] for name in listed}
    root = str(dataset.root)

    def check(error: OSError) -> None:
        raise_machine_error(error)

    for folder, folders, files in os.walk(root, onerror=check):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = "" if folder == root else os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        for file in files:
            name = prefix + file
            stem, extension = os.path.splitext(name)
            if name in listed or file.startswith(".") or extension.lower() in LABEL_EXTENSIONS:
                continue
            kind = kind_of(os.path.join(folder, file))
            # photo.txt (YOLO), photo.xmp and photo.jpg.xmp belong to photo.jpg.
            if kind == PHOTO or not (stem in stems or stem in listed):
                yield kind

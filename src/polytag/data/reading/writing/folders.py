"""Write a dataset as one folder of photos per label, inside folders for the parts of the split."""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from polytag.data.dataset import Dataset
from polytag.data.reading.layouts.folders import names_labels
from polytag.data.reading.table import PART_NAMES
from polytag.errors import DataError, SettingsError, counted, listed
from polytag.files import beside

PART_FOLDERS = {"train": "train", "validation": "valid", "test": "test"}


def write_folders(path: Path, dataset: Dataset, link: bool = False) -> tuple[str, ...]:
    """Write one folder of photos per label.

    Args:
        path: the folder to create, which must be new or empty.
        dataset: photos with exactly one present label each. All other labels must be absent.
        link: create links to the photos instead of copying them.

    Returns:
        Notes about what could not be written.

    Raises:
        DataError: a photo has no label, several labels or unknown labels, or a label cannot be a folder name.
        SettingsError: the folder exists and is not empty, or cannot be written to.
    """
    places, notes = plan_folders(dataset)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SettingsError(f"{path} exists and is not an empty folder: name a new one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work = beside(path)
        work.mkdir()
        try:
            for place, file in zip(places, dataset.paths.tolist(), strict=True):
                target = work / place
                target.parent.mkdir(parents=True, exist_ok=True)
                if link:
                    target.symlink_to(os.path.abspath(file))
                else:
                    shutil.copyfile(file, target)
            if path.exists():
                path.rmdir()
            work.rename(path)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror}): choose another place") from None
    return tuple(notes)


def plan_folders(dataset: Dataset) -> tuple[list[str], list[str]]:
    """Return the destination of each photo within the new folder, and notes about what is lost. Nothing is written.

    Raises:
        DataError: a photo has no label, several labels or unknown labels, or a label cannot be a folder name.
    """
    present = (dataset.targets == 1).sum(axis=1)
    reasons = {
        "without a label": int((present == 0).sum()),
        "with several labels": int((present > 1).sum()),
        "with unknown labels": int((dataset.targets < 0).any(axis=1).sum()),
    }
    if any(reasons.values()):
        said = listed([f"{counted(n, 'photo')} {why}" for why, n in reasons.items() if n])
        raise DataError(f"each photo in a folder needs exactly one label, but there are {said}: write another format")
    columns = (dataset.targets == 1).argmax(axis=1)
    used = sorted({dataset.labels[j] for j in np.unique(columns)})
    _refuse_names(used)
    parts = _parts(dataset)
    taken: set[str] = set()
    places: list[str] = []
    renamed = 0
    for j, part, name in zip(columns.tolist(), parts, dataset.names, strict=True):
        base = name.rsplit("/", 1)[-1]
        place = f"{part}{dataset.labels[j]}/{base}"
        if place.casefold() in taken:
            renamed += 1
            place = f"{part}{dataset.labels[j]}/{len(places):06d}-{base}"
        taken.add(place.casefold())
        places.append(place)
    notes = []
    idle = [label for label in dataset.labels if label not in set(used)]
    if idle:
        notes.append(f"{counted(len(idle), 'label')} without photos not written: {listed(idle)}")
    if renamed:
        notes.append(f"{counted(renamed, 'photo')} numbered because another photo has the same name")
    groups = Counter(dataset.groups.tolist())
    together = sum(n for n in groups.values() if n > 1)
    if together:
        notes.append(f"the groups of {counted(together, 'photo')} not written: folders cannot hold them")
    return places, notes


def _parts(dataset: Dataset) -> list[str]:
    if dataset.parts is None:
        return [""] * len(dataset)
    return [f"{PART_FOLDERS[part]}/" for part in dataset.parts.tolist()]


def _refuse_names(labels: Sequence[str]) -> None:
    """Raise an error if a label cannot be a folder name, or would not be read back as a label."""
    odd = [
        label
        for label in labels
        if "/" in label
        or "\\" in label
        or "\0" in label
        or label.startswith((".", "__"))
        or label.lower() in PART_NAMES
        or label != " ".join(label.split())
        or len(label.encode(errors="replace")) > 200
    ]
    twice = [label for label, n in Counter(label.casefold() for label in labels).items() if n > 1]
    if odd or twice:
        raise DataError(
            f"{listed([ascii(one) for one in odd + twice])} cannot be the name of a folder: rename the label"
        )
    if not names_labels(labels):
        raise DataError(f"folders called {listed(list(labels))} would not be read as labels: write another format")

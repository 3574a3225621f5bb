"""Split files: which photo is in which part."""

import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import PARTS, Dataset
from polytag.data.reading.table import PART_NAMES
from polytag.errors import DataError, counted, listed
from polytag.files import write_atomically


def write_split(path: str | os.PathLike[str], train: Dataset, validation: Dataset, test: Dataset) -> None:
    """Write which part each photo is in: a CSV with the columns image, part and group."""
    with write_atomically(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "part", "group"])
        for name, part in zip(PARTS, (train, validation, test), strict=True):
            writer.writerows((image, name, group) for image, group in zip(part.names, part.groups, strict=True))


def read_split(path: str | os.PathLike[str], dataset: Dataset) -> NDArray[np.str_]:
    """The part of each photo of the dataset, from a CSV with the columns image and part.

    Raises:
        DataError: it is no such file, or it does not name each photo exactly once.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows = [(reader.line_num, row) for row in reader]
            columns = set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"the split {path} cannot be read ({reason}): expected a CSV with the columns image and part"
        ) from None
    if not {"image", "part"} <= columns:
        raise DataError(f"the split {path} has no columns 'image' and 'part': write one with 'polytag split'")
    parts: dict[str, str] = {}
    for number, row in rows:
        cell = " ".join(row["part"].split())
        part = PART_NAMES.get(cell.lower())
        if part is None:
            raise DataError(f"{path}, line {number}: '{cell}' is not a part: expected train, validation or test")
        if parts.setdefault(row["image"], part) != part:
            raise DataError(f"{path}, line {number}: {row['image']} is in two parts: put it into one")
    missing = [name for name in dataset.names if name not in parts]
    if missing:
        raise DataError(
            f"the split {path} does not name {counted(len(missing), 'image')} ({listed(missing)}): add them"
        )
    return np.array([parts[name] for name in dataset.names])

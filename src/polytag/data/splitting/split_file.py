"""Read and write split files, which say which photo is in which part."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from polytag.data.dataset import PARTS, Dataset
from polytag.data.reading.photo_index import Match, PhotoIndex, folders_of, spellings_of
from polytag.data.reading.tables.cells import IMAGE_HEADERS, plain
from polytag.data.reading.tables.roles import SPLIT_HEADERS, part_of
from polytag.errors import DataError, counted, listed
from polytag.files import csv_cell, csv_text, write_atomically


def write_split(path: str | os.PathLike[str], train: Dataset, validation: Dataset, test: Dataset) -> None:
    """Write the part of each photo to a CSV file with the columns image, part and group."""
    with write_atomically(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "part", "group"])
        for name, part in zip(PARTS, (train, validation, test), strict=True):
            rows = zip(part.names, part.groups, strict=True)
            writer.writerows((csv_cell(image), name, group) for image, group in rows)


def with_split(dataset: Dataset, path: str | os.PathLike[str]) -> Dataset:
    """Assign each photo the part that a split file names.

    Photos are matched as in `polytag.read`: by path, or else by the longest matching end of the path. Photos that the
    file does not list are left out. The notes count these photos, and also the names that match no photo.

    Args:
        dataset: the photos.
        path: a CSV file with a column of images and a column of parts, such as one that `write_split` wrote.

    Raises:
        DataError: the file cannot be read, lists a photo in two parts, or lists none of the photos.
    """
    path = Path(path)
    names = dataset.names
    index = PhotoIndex.of_files(names)
    number = {f"/{name}": i for i, name in enumerate(names)}
    parts: dict[int, str] = {}
    strange: list[str] = []
    found = [(line, image, part, index.find(image)) for line, image, part in _rows(path)]
    # Where folders agree, a row with other folders is about another photo, even if the file names are the same.
    agreeing = [_agrees(image, match) for _, image, _, match in found]
    some_agree = any(agreeing)
    for (line, image, part, match), agrees in zip(found, agreeing, strict=True):
        files = match.files
        if len(files) > 1:
            shown = listed([file[1:] for file in files])
            raise DataError(f"{path}, line {line}: '{image}' could be {shown}: write the path")
        if not files or (some_agree and not agrees):
            strange.append(image)
        elif parts.setdefault(number[files[0]], part) != part:
            raise DataError(f"{path}, line {line}: {image} is in two parts: put it into one")
    if not parts:
        raise DataError(
            f"the split {path} lists none of the {counted(len(names), 'image')}"
            + (f" (first: {strange[0]}, expected names such as {names[0]})" if strange else "")
        )
    missing = [name for i, name in enumerate(names) if i not in parts]
    notes = []
    for out, said in (
        (missing, "left out because the split does not list them"),
        (strange, "listed only in the split"),
    ):
        if out:
            notes.append(f"{counted(len(out), 'image')} {said}: {listed(out)}")
    rows = np.array(sorted(parts), dtype=np.int64)
    return replace(
        dataset.take(rows),
        parts=np.array([parts[i] for i in rows.tolist()]),
        notes=(*dataset.notes, *notes),
        left_out={**dataset.left_out, **dict.fromkeys(missing, "not in the split file")},
    )


def _agrees(image: str, match: Match) -> bool:
    """Return whether a name in a split file and the photo that it matches share all folders that both state."""
    stated = len(folders_of(spellings_of(image)[-1]))
    return any(match.agreeing >= min(stated, len(folders_of(file))) for file in match.files)


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """Return the line number, image and part of each row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
        head = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=head.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        header = next(reader, [])
        rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"the split {path} cannot be read ({reason}): expected a CSV with the columns image and part"
        ) from None
    image, part = _column(header, IMAGE_HEADERS), _column(header, SPLIT_HEADERS)
    if image is None or part is None:
        raise DataError(f"the split {path} has no columns 'image' and 'part': write one with 'polytag split'")
    found = []
    for line, row in rows:
        cell = " ".join(row[part].split()) if part < len(row) else ""
        named = part_of(cell)
        if named is None:
            raise DataError(f"{path}, line {line}: '{cell}' is not a part: expected train, validation or test")
        found.append((line, csv_text(row[image]) if image < len(row) else "", named))
    return found


def _column(header: Sequence[str], names: set[str]) -> int | None:
    return next((i for i, cell in enumerate(header) if plain(cell) in names), None)

"""Which form a file or folder of labels has: each form has its reader, and every reader makes a `Table`."""

import os
from collections.abc import Iterator
from pathlib import Path

from polytag.data.reading.annotations import read_json
from polytag.data.reading.cells import PARQUET_ENDINGS
from polytag.data.reading.columns import read_table
from polytag.data.reading.folders import entries, label_folders, read_folders
from polytag.data.reading.locate import search
from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import Table
from polytag.data.reading.voc import read_voc
from polytag.errors import DataError, SettingsError, listed

TABLE_NAMES = ("labels.csv", "labels.tsv", "labels.parquet")
FILE_ENDINGS = (".csv", ".tsv", *PARQUET_ENDINGS, ".json")


def read_form(path: Path, options: ReadOptions | None = None) -> Table:
    """Recognise the form of a file or folder and read it.

    A form without columns refuses the options for columns.

    Raises:
        DataError: it has no form that is known, or it is damaged.
        SettingsError: an option for columns is set and the form has none.
    """
    options = options or ReadOptions()
    table = next((path / name for name in TABLE_NAMES if (path / name).is_file()), None) if path.is_dir() else path
    if table is not None and table.suffix.lower() not in (".json", ".xml"):
        return read_table(table, options)
    if options.column_flags:
        raise SettingsError(
            f"{options.column_flags[0]} is for the columns of a CSV, TSV or Parquet table, and {path} is not one: "
            "leave it out"
        )
    if table is not None:
        if table.suffix.lower() == ".xml":
            raise DataError(f"{path} is a single XML file: expected the folder that holds them all")
        return read_json(table)
    annotations = xml_folder(path)
    if annotations is not None:
        return read_voc(path, annotations)
    if label_folders(path):
        return read_folders(path)
    found = describe(path)
    raise DataError(
        f"the folder {path} holds no labels.csv (.tsv, .parquet), no Pascal VOC XML files in Annotations, and no "
        f"folders of photos named after labels; found: {found}: name the table itself, or rename it"
    )


def xml_folder(folder: Path) -> Path | None:
    """Where a folder's Pascal VOC XML files are: in Annotations, or beside the photos."""
    inside = [entry for entry in entries(folder) if entry.name.lower() == "annotations" and entry.is_dir()]
    return next((place for place in (*inside, folder) if any(place.glob("*.xml"))), None)


def readable(folder: Path, depth: int = 2) -> list[Path]:
    """The files and folders in or below a folder that can be read and whose photos are there, the nearest first."""

    def walk(place: Path, depth: int) -> Iterator[Path]:
        if any((place / name).is_file() for name in TABLE_NAMES) or xml_folder(place) or label_folders(place):
            yield place
            return
        for file in entries(place):
            if file.suffix.lower() in FILE_ENDINGS and file.is_file() and _has_photos(file, folder):
                yield file
        for below in entries(place) if depth else ():
            if below.is_dir():
                yield from walk(below, depth - 1)

    return list(walk(folder, depth))


def _has_photos(file: Path, folder: Path) -> bool:
    try:
        table = read_form(file)
    except DataError:
        return False
    return search(table.images, (*table.homes, folder)) is not None


def describe(folder: Path, at_most: int = 8) -> str:
    """What a folder holds, in a few words."""
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries(folder)]
    # What could be named instead comes first.
    names.sort(key=lambda name: os.path.splitext(name)[1].lower() not in FILE_ENDINGS)
    return listed(names, at_most) if names else "nothing"

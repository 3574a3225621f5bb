"""Detect the format of labels, trying the known formats in order, and read it into a `Table`."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polytag.data.reading.annotations.files import (
    annotation_files,
    labelme_files,
    read_folder,
    read_json,
    read_via_table,
    read_xml,
)
from polytag.data.reading.annotations.labelme import is_labelme, read_labelme
from polytag.data.reading.annotations.load import load_json
from polytag.data.reading.annotations.records import Annotations, table_of
from polytag.data.reading.annotations.voc import read_voc_parts, voc_folders
from polytag.data.reading.annotations.yolo import read_yolo, yolo_names
from polytag.data.reading.columns import table_of_cells
from polytag.data.reading.layouts.folders import entries, label_folders, read_folders
from polytag.data.reading.layouts.json_records import is_records, read_records
from polytag.data.reading.layouts.keywords import has_keywords, has_sidecars, read_keywords
from polytag.data.reading.layouts.tables import (
    TABLE_EXTENSIONS,
    only_table,
    own_table,
    part_tables,
    read_one,
    read_parts,
)
from polytag.data.reading.layouts.unread import named, named_project, unknown_json
from polytag.data.reading.locate import any_found
from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import Table
from polytag.errors import DataError, SettingsError, listed

FILE_EXTENSIONS = (*TABLE_EXTENSIONS, ".json", ".xml")
"""Extensions of files that can be read."""

KEYWORDS, FOLDER = "xmp", "folder"
"""Values of --label-column that make photo keywords or folder names the labels."""


@dataclass(frozen=True)
class Form:
    """A format that labels in a folder can have.

    Attributes:
        name: short description of the format.
        find: function that returns evidence that a folder has this format, such as a list of files, or a falsy value.
        read: function that makes a table from the folder and the result of ``find``. It returns ``None`` if the folder
            turns out to have another format.
        fields: whether --label-column can choose among fields. Other column options are refused.
        columns: whether the format consists of tables, which accept all column options.
    """

    name: str
    find: Callable[[Path], Any]
    read: Callable[[Path, Any, ReadOptions], Table | None]
    fields: bool = False
    columns: bool = False


def _records(read: Callable[[Path, Any], Annotations]) -> Callable[[Path, Any, ReadOptions], Table]:
    return lambda folder, found, _: table_of(folder.name, read(folder, found))


def _annotated(folder: Path, files: Any, options: ReadOptions) -> Table | None:
    found = read_folder(folder, files, options.label_column)
    return None if found is None else table_of(folder.name, found)


FORMS = (
    Form(
        "a table called labels, metadata or _classes", own_table, lambda _, table, o: read_one(table, o), columns=True
    ),
    Form("a table for each part of the split", part_tables, read_parts, columns=True),
    Form("YOLO", yolo_names, _records(read_yolo)),
    Form("labelme", labelme_files, _records(read_labelme)),
    Form("annotation files of a tool", annotation_files, _annotated, fields=True),
    Form("Pascal VOC", voc_folders, _records(read_voc_parts)),
    Form("keywords in sidecars", has_sidecars, _records(read_keywords)),
    Form("a folder of photos for each label", label_folders, lambda folder, _, o: _folders_or_keywords(folder, o)),
    Form("keywords inside photos", has_keywords, _records(read_keywords)),
    Form("one table of any name", only_table, lambda _, table, o: read_one(table, o), columns=True),
)
"""All formats that a folder can have. The first format that matches is used."""


def read_form(path: Path, options: ReadOptions | None = None) -> Table:
    """Detect the format of a file or folder and read it.

    Options for columns are refused if the format has no columns.

    Raises:
        DataError: the format is unknown, or the data are damaged.
        SettingsError: an option for columns is set, but the format has no columns.
    """
    options = options or ReadOptions()
    if not path.is_dir():
        return _read_file(path, options)
    path = path.resolve()
    if options.label_column in ((KEYWORDS,), (FOLDER,)):
        chosen = options.label_column[0]
        _refuse_columns(path, replace(options, label_column=()))
        return table_of(path.name, read_keywords(path)) if chosen == KEYWORDS else read_folders(path, options)
    for form in FORMS:
        found = form.find(path)
        if not found:
            continue
        if not form.columns:
            _refuse_columns(path, replace(options, label_column=()) if form.fields else options)
        table = form.read(path, found, options)
        if table is not None:
            return table
    inside = describe(path)
    unread = named(entries(path)) or named_project(path)
    raise DataError(
        unread
        or f"the folder {path} contains no labels that polytag reads: no labels.csv, no annotation files, no "
        f"folders of photos named after labels, no keywords; found: {inside}. Name the table or file itself"
    )


def inputs_of(path: Path) -> list[Path]:
    """Return the label files of a file or folder, without photos and without files for individual photos."""
    if not path.is_dir():
        return [path]
    folder = path.resolve()
    for form in FORMS:
        found = form.find(folder)
        files = list(_paths(found))
        # A JSON file next to photos may not hold annotations after all, so the search continues.
        if found and (form.read is not _annotated or any(file.suffix == ".xml" for file in files)):
            return files
        if files and any(file.suffix == ".json" for file in files):
            return files
    return []


def _paths(found: Any) -> Iterator[Path]:
    if isinstance(found, Path):
        yield found
    elif isinstance(found, dict):
        yield from _paths(list(found.values()))
    elif isinstance(found, list | tuple):
        for one in found:
            yield from _paths(one)


def _read_file(path: Path, options: ReadOptions) -> Table:
    extension = path.suffix.lower()
    if extension == ".json":
        return _read_json(path, options)
    if extension in (".yaml", ".yml") and path.is_file() and yolo_names(path.parent.resolve()):
        _refuse_columns(path, options)
        return table_of(path.name, read_yolo(path.parent.resolve(), path))
    if extension == ".xml":
        _refuse_columns(path, options)
        found = read_xml(path)
        if found is None:
            raise DataError(
                f"{path} is not CVAT's XML. If it is Pascal VOC, name the folder that contains all its files"
            )
        return table_of(path.name, found)
    unread = named([path])
    if unread and path.is_file():
        raise DataError(unread)
    if extension == ".csv" and path.is_file():
        via = read_via_table(path, options.label_column)
        if via is not None:
            _refuse_columns(path, replace(options, label_column=()))
            return table_of(path.name, via)
    return read_one(path, options)


def _read_json(path: Path, options: ReadOptions) -> Table:
    content = load_json(path)
    found = read_json(path, content, options.label_column)
    if found is not None:
        _refuse_columns(path, replace(options, label_column=()))
        return table_of(path.name, found)
    if is_labelme(content):
        raise DataError(f"{path} is labelme's file for one image: name the folder that contains all of them")
    if is_records(content):
        return table_of_cells(path, read_records(path, content, options.image_column), options)
    raise DataError(
        f"{path} is not in a format that polytag reads (COCO, Label Studio, VIA, Create ML, Datumaro, FiftyOne, "
        f"records with image names): it is {unknown_json(content)}"
    )


def _folders_or_keywords(folder: Path, options: ReadOptions) -> Table:
    """Read folder names as labels. Raise an error if photos have keywords, because the folders may just be albums."""
    if has_keywords(folder):
        raise DataError(
            f"{folder}: the photos have keywords and are sorted into folders, and either could be the labels: "
            f"choose with --label-column {KEYWORDS} or --label-column {FOLDER}"
        )
    return read_folders(folder, options)


def _refuse_columns(path: Path, options: ReadOptions) -> None:
    if options.column_flags:
        raise SettingsError(
            f"{options.column_flags[0]} applies to the columns of a CSV, TSV or Parquet table, and {path} is not "
            "a table: omit it"
        )


def readable(folder: Path, depth: int = 2) -> list[Path]:
    """Return the readable files and folders at or below a folder whose photos exist, nearest first."""

    def walk(place: Path, depth: int) -> Iterator[Path]:
        if any(form.find(place) for form in FORMS[:8] if form.name != "annotation files of a tool"):
            yield place
            return
        for file in entries(place):
            if file.suffix.lower() in FILE_EXTENSIONS and file.is_file() and _has_photos(file, folder):
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
    return any_found(table.images, (*table.homes, folder))


def describe(folder: Path, at_most: int = 8) -> str:
    """Describe the content of a folder in a few words."""
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries(folder)]
    # Files that the user could name instead come first.
    names.sort(key=lambda name: os.path.splitext(name)[1].lower() not in FILE_EXTENSIONS)
    return listed(names, at_most) if names else "nothing"

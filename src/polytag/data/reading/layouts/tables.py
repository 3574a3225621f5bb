"""Read tables of any file type. A dataset may have one table, or several: one for each part of the split."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from polytag.data.reading.columns import table_of_cells
from polytag.data.reading.layouts.dataset_card import with_class_names
from polytag.data.reading.layouts.folders import entries
from polytag.data.reading.layouts.json_records import cells_of, read_lines, take_unknown, with_unknown
from polytag.data.reading.layouts.parquet_images import holds_images, read_parquet_images
from polytag.data.reading.layouts.unread import tool_of
from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import PART_NAMES, Table
from polytag.data.reading.tables.cells import PARQUET_EXTENSIONS, Cells, plain, read_cells
from polytag.errors import DataError, listed

LINE_EXTENSIONS = (".jsonl", ".ndjson", ".manifest")
TABLE_EXTENSIONS = (".csv", ".tsv", ".xlsx", *PARQUET_EXTENSIONS, *LINE_EXTENSIONS)
LABEL_FILES = tuple(f"labels{extension}" for extension in TABLE_EXTENSIONS)
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Names that Hugging Face uses for the table of an image folder."""

CLASS_FILES = ("_classes.csv",)
"""Name that Roboflow uses for the table of each part."""

SHARD = re.compile(r"(?P<part>[a-z]+)(-\d{3,}-of-\d{3,}(-[0-9a-f]+)?)?")


def read_one(path: Path, options: ReadOptions) -> Table:
    """Read one table of any file type.

    In Hugging Face image folders, folders named train, validation and test define the split.
    """
    table = _read_one(path, options)
    if path.name.lower() not in METADATA_FILES or table.parts is not None:
        return table
    first = [image.replace("\\", "/").split("/")[0].lower() for image in table.images]
    if len(set(first)) < 2 or any(name not in PART_NAMES for name in first):
        return table
    return replace(table, parts=[PART_NAMES[name] for name in first])


def _read_one(path: Path, options: ReadOptions) -> Table:
    if holds_images(path):
        return read_parquet_images({"": [path]}, options)
    cells, unknown = _cells(path, options)
    return _with_unknown(table_of_cells(path, cells, options), cells, unknown)


def own_table(folder: Path) -> Path | None:
    """Return a folder's table if its name leaves no doubt, otherwise ``None``."""
    names = (*LABEL_FILES, *METADATA_FILES, *CLASS_FILES)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def only_table(folder: Path) -> Path | None:
    """Return the only table in a folder, not counting a contest's sample submission and the decisions of an audit."""
    tables = [entry for entry in entries(folder) if entry.suffix.lower() in TABLE_EXTENSIONS and entry.is_file()]
    tables = [table for table in tables if "submission" not in table.stem.lower()]
    tables = [table for table in tables if not table.stem.lower().endswith(".decisions")]  # of an audit
    return tables[0] if len(tables) == 1 else None


def part_tables(folder: Path) -> dict[str, list[Path]]:
    """Return the tables by part. Each is in a folder named train, valid or test, or is itself named after the part."""
    found: dict[str, list[Path]] = {}
    for entry in entries(folder):
        if entry.name.lower() in PART_NAMES and entry.is_dir():
            table = own_table(entry)
            if table is not None:
                found.setdefault(PART_NAMES[entry.name.lower()], []).append(table)
    if found:
        return found
    for place in (folder, folder / "data"):
        for entry in entries(place) if place.is_dir() else ():
            match = SHARD.fullmatch(entry.stem.lower())
            if match and match["part"] in PART_NAMES and entry.suffix.lower() in TABLE_EXTENSIONS and entry.is_file():
                found.setdefault(PART_NAMES[match["part"]], []).append(entry)
        # A single file with a plain name may be called "train" for another reason.
        if len(found) > 1 or any("-of-" in path.name for paths in found.values() for path in paths):
            return found
    return {}


def read_parts(folder: Path, tables: Mapping[str, Sequence[Path]], options: ReadOptions) -> Table:
    """Read the tables of several parts as one, so that the same rules apply to all of them.

    Tables that lack the label columns of the others, such as a contest's test.csv, are left out.

    Raises:
        DataError: the tables cannot be interpreted.
    """
    files = [path for paths in tables.values() for path in paths]
    if all(map(holds_images, files)):
        return read_parquet_images({part: list(paths) for part, paths in tables.items()}, options)
    opened = {path: _cells(path, options) for path in files}
    read = [(part, path, opened[path][0]) for part, paths in tables.items() for path in paths]
    widest = max((set(map(plain, cells.header)) for _, _, cells in read), key=len)
    kept = [(part, path, cells) for part, path, cells in read if len(set(map(plain, cells.header))) > 1]
    short = [path.name for _, path, cells in read if len(set(map(plain, cells.header))) < 2]
    first = kept[0][2].header
    alike = [one for one in kept if len(set(map(plain, one[2].header)) & widest) >= 2]
    short += [path.name for _, path, _ in kept if not any(path == other for _, other, _ in alike)]
    if not alike:
        raise DataError(f"{folder} has {listed([path.name for path in files])}, which have no columns in common")
    cells = _joined(folder, alike)
    parts = [part for part, _, own in alike for _ in range(len(own))]
    several = len(set(parts)) > 1
    table = table_of_cells(folder / "tables", cells, options, parts if several else None)
    told = [(opened[path][1], len(own)) for _, path, own in alike]
    if any(unknown is not None for unknown, _ in told):
        table = _with_unknown(table, cells, [names for unknown, n in told for names in unknown or [[]] * n])
    names = listed([path.relative_to(folder).as_posix() for _, path, _ in alike])
    notes = [*table.notes]
    if short:
        notes.append(f"no labels in {listed(short)}: not used")
    assert first is not None
    return replace(
        table,
        source=folder.name,
        recognised=table.recognised.replace("tables:", f"{names}:", 1),
        homes=(folder.resolve(),),
        notes=tuple(notes),
    )


def _cells(path: Path, options: ReadOptions) -> tuple[Cells, list[list[str]] | None]:
    """Return the cells of a table, and the unknown labels of each record that `polytag.write` has stored, if any."""
    if path.suffix.lower() not in LINE_EXTENSIONS:
        return with_class_names(path, read_cells(path, options)), None
    records, lines = read_lines(path)
    tool = tool_of(records[0]) if records else None
    if tool:
        raise DataError(f"{path} is {tool}")
    unknown = take_unknown(records)
    return with_class_names(path, cells_of(path, records, lines, options.image_column, "line")), unknown


def _with_unknown(table: Table, cells: Cells, unknown: Sequence[Sequence[str]] | None) -> Table:
    if unknown is None:
        return table
    column = cells.columns[cells.image_index]
    return with_unknown(table, unknown, column.spread(column.words if table.long_form else column.values))


def _joined(folder: Path, read: Sequence[tuple[str, Path, Cells]]) -> Cells:
    """Combine several tables: match columns by header, and make image paths relative to the dataset's folder."""
    header = list(read[0][2].header)
    # Headers of one table that differ only in details, such as C# and C, are different columns.
    counts = [Counter(map(plain, cells.header)) for _, _, cells in read]
    alike = {word for count in counts for word, n in count.items() if n > 1}

    def meaning(name: str) -> str:
        return name.strip() if plain(name) in alike else plain(name)

    place = {meaning(name): i for i, name in enumerate(header)}
    for _, _, cells in read[1:]:
        for name in cells.header:
            if meaning(name) not in place:
                place[meaning(name)] = len(header)
                header.append(name)
    image = read[0][2].image_index
    rows: list[list[str]] = []
    lines: list[int] = []
    for _, path, cells in read:
        column = [place[meaning(name)] for name in cells.header]
        column[cells.image_index] = image
        below = os.path.relpath(path.parent, folder).replace(os.sep, "/")
        for row in zip(*(one.spread(one.values) for one in cells.columns), strict=True):
            whole = [""] * len(header)
            for i, cell in zip(column, row, strict=True):
                whole[i] = cell
            name = whole[image].strip()
            if below != "." and name and (path.parent / name).is_file():
                whole[image] = f"{below}/{name}"
            rows.append(whole)
        lines += cells.lines.tolist()
    return replace(
        Cells.of_rows(header, rows, lines, image, read[0][2].place),
        repeats=sum(cells.repeats for _, _, cells in read),
    )

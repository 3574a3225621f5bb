"""Read Parquet files that contain images, as on the Hugging Face Hub, into cached image files and a table."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polytag.data.reading.columns import table_of_cells
from polytag.data.reading.layouts.dataset_card import class_names
from polytag.data.reading.layouts.json_records import cells_of
from polytag.data.reading.options import ReadOptions
from polytag.data.reading.table import NOT_ANNOTATED, Table
from polytag.data.reading.tables.cells import PARQUET_EXTENSIONS
from polytag.errors import DataError, counted, listed
from polytag.files import write_bytes_atomically, write_json
from polytag.photos.cache_room import cache_folder, usable
from polytag.photos.content import content_hash
from polytag.photos.kinds import EXTENSIONS

MAGIC = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)
"""The first bytes of image files, each with its file extension."""

BATCH = 256
"""Number of rows in memory at a time."""


def holds_images(path: Path) -> bool:
    """Return whether a file is Parquet with a column of images."""
    if path.suffix.lower() not in PARQUET_EXTENSIONS:
        return False
    import pyarrow
    from pyarrow import parquet

    try:
        return _image_column(parquet.read_schema(path)) is not None
    except (OSError, ValueError, pyarrow.ArrowException):
        return False  # The error is reported when the file is read as a table.


def read_parquet_images(files: Mapping[str, Sequence[Path]], options: ReadOptions) -> Table:
    """Write the images to the cache, once per distinct file content, and read the labels.

    Images are named by their ``path`` if they have one, otherwise by their row. Rows whose labels are missing or -1,
    which the Hub uses for hidden labels, count as not annotated.

    Args:
        files: the files of each part; the key is "" if there is no split.
        options: options for reading label columns.

    Raises:
        DataError: a file is damaged or contains no labels.
        SettingsError: the cache cannot be written to.
    """
    several = len(files) > 1
    every = [path for paths in files.values() for path in paths]
    digest = hashlib.sha256("".join(content_hash(path) for path in every).encode()).hexdigest()[:20]
    home = cache_folder() / "parquet" / digest
    records: list[dict[str, Any]] = []
    parts: list[str] = []
    silent: dict[str, str] = {}
    for part, paths in files.items():
        taken: dict[str, int] = {}
        for path in paths:
            for name, labels in _rows(path, home / part, taken):
                image = f"{part}/{name}" if part else name
                if labels is None:
                    silent[image] = NOT_ANNOTATED
                else:
                    records.append({**labels, "image": image})
                    parts.append(part)
    source = every[0].name if len(every) == 1 else every[0].parent.name
    if not records:
        raise DataError(f"none of the {counted(len(silent), 'image')} in {listed([str(p) for p in every])} has labels")
    cells = cells_of(every[0], records, list(range(1, len(records) + 1)), "image", place="row")
    table = table_of_cells(every[0], cells, replace(options, image_column=None), parts if several else None)
    return replace(
        table,
        source=source,
        recognised=table.recognised.replace(every[0].name, source, 1) + f"; the images inside are cached in {home}",
        homes=(home.resolve(),),
        left_out={**table.left_out, **silent},
    )


def _rows(path: Path, folder: Path, taken: dict[str, int]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the name and the labels of each row. Images that an earlier call wrote are not read again.

    Args:
        path: a Parquet file.
        folder: folder where its images are written.
        taken: image numbers by the lower-case names used in this folder. New names are added.
    """
    import pyarrow
    from pyarrow import parquet

    index = folder / f".{content_hash(path)[:20]}.json"
    written = _written(index, folder)
    names = [] if written is None else written
    try:
        with path.open("rb") as source, parquet.ParquetFile(source) as file:
            schema = file.schema_arrow
            image_column = _image_column(schema)
            classes = _class_names(schema) or class_names(path.parent)
            columns = [field.name for field in schema if field.name != image_column and _is_light(field.type)]
            number = 0
            for batch in file.iter_batches(BATCH, columns=columns if written else [image_column, *columns]):
                for row in batch.to_pylist():
                    if written is None:
                        names.append(_write(f"{path}, row {number + 1}", folder, row.pop(image_column), taken))
                    yield names[number], _named(f"{path}, row {number + 1}", row, classes)
                    number += 1
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{path} cannot be read ({reason}): expected a Parquet file with images inside") from None
    if written is None:
        write_json(index, names)
    taken |= {name.lower(): i for i, name in enumerate(names, len(taken))}


def _written(index: Path, folder: Path) -> list[str] | None:
    """Return the names of the images that an earlier call wrote, if all of them still exist."""
    with usable(folder.parent):
        folder.mkdir(parents=True, exist_ok=True)
        if not index.is_file():
            return None
        try:
            names = json.loads(index.read_text(encoding="utf-8"))
        except ValueError:
            return None
        return names if names and set(names) <= set(os.listdir(folder)) else None


def _write(place: str, folder: Path, image: Any, taken: dict[str, int]) -> str:
    content = image.get("bytes") if isinstance(image, dict) else image
    named = (image.get("path") if isinstance(image, dict) else None) or ""
    if content is None:
        raise DataError(f"{place}: the image is empty: expected its bytes; remove the row")
    number = len(taken)
    name = re.sub(r"[\x00-\x1f\x7f]", "_", named.replace("\\", "/").rsplit("/", 1)[-1]).strip(" .") or f"{number:07d}"
    if os.path.splitext(name)[1].lower() not in EXTENSIONS:
        name += _extension(content)
    if name.lower() in taken:
        stem, extension = os.path.splitext(name)
        name = f"{stem}-{number:07d}{extension}"
    taken[name.lower()] = number
    file = folder / name
    with usable(folder):
        if not file.is_file() or file.stat().st_size != len(content):
            with write_bytes_atomically(file) as out:
                out.write(content)
    return name


def _extension(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    return next((extension for magic, extension in MAGIC if content.startswith(magic)), ".jpg")


def _named(place: str, row: Mapping[str, Any], names: Mapping[str, list[str]]) -> dict[str, Any] | None:
    """Return the columns of a row, with names in place of class numbers; ``None`` if the row has no labels."""
    found: dict[str, Any] = {}
    known = False
    for key, value in row.items():
        for inner, inside in value.items() if isinstance(value, dict) else [("", value)]:
            column = f"{key}.{inner}" if inner else key
            classes = names.get(column)
            if classes is None:
                found[column] = inside
                known = known or (inside is not None and not names)
                continue
            numbers = inside if isinstance(inside, list) else [inside]
            numbers = [n for n in numbers if n is not None and n != -1]
            wrong = [n for n in numbers if not 0 <= n < len(classes)]
            if wrong:
                raise DataError(f"{place}: class {wrong[0]} of '{column}' has no name in the metadata")
            known = known or bool(numbers) or inside == []
            found[column] = [classes[n] for n in numbers]
    return found if known else None


def _image_column(schema: Any) -> str | None:
    """Return the column of images: a struct with bytes and path, or a binary column with an image-like name."""
    from pyarrow import types

    for field in schema:
        if types.is_struct(field.type) and {"bytes", "path"} <= {one.name for one in field.type}:
            return str(field.name)
    for field in schema:
        binary = types.is_binary(field.type) or types.is_large_binary(field.type)
        if binary and re.search(r"image|img|photo|picture|bytes|jpe?g|png", field.name.lower()):
            return str(field.name)
    return None


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Return the class names per column from the Hub's metadata. A nested column is called "objects.category"."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    found: dict[str, list[str]] = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        _collect(name, feature, found)
    return found


def _collect(name: str, feature: Any, found: dict[str, list[str]]) -> None:
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if not isinstance(feature, dict):
        return
    if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        found[name] = [str(one) for one in feature["names"]]
    elif "feature" in feature:
        _collect(name, feature["feature"], found)
    else:
        for inner, one in feature.items():
            if isinstance(one, dict | list) and inner != "_type":
                _collect(f"{name}.{inner}", one, found)


def _is_light(kind: Any) -> bool:
    """Return whether a column can hold labels: strings, numbers, or lists or objects of them."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        return _is_light(kind.value_type) and not types.is_floating(kind.value_type)
    if types.is_struct(kind):
        return any(_is_light(one.type) for one in kind)
    return not (types.is_binary(kind) or types.is_large_binary(kind) or types.is_nested(kind))

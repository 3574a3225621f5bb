"""Read the names of classes from a dataset card, the README.md of a dataset on the Hugging Face Hub."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from polytag.data.reading.tables.cells import Cells
from polytag.data.reading.tables.column import Column
from polytag.data.reading.tables.lists import parse_list
from polytag.data.reading.tables.parquet import list_cell
from polytag.errors import DataError

FRONT_MATTER = re.compile(r"\A\ufeff?---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)


def class_names(folder: Path) -> dict[str, list[str]]:
    """Return the class names by column, as the dataset card in a folder or in the folder above declares them."""
    for card in (folder / "README.md", folder.parent / "README.md"):
        try:
            head = FRONT_MATTER.match(card.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if head:
            return _declared(head[1])
    return {}


def _declared(front_matter: str) -> dict[str, list[str]]:
    import yaml  # type: ignore[import-untyped]

    try:
        # Every scalar stays a string, because a class may be called "no".
        content = yaml.load(front_matter, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}  # Cards are written for people, and most have no class names.
    info = content.get("dataset_info") if isinstance(content, dict) else None
    found: dict[str, list[str]] = {}
    for config in info if isinstance(info, list) else [info]:
        features = config.get("features") if isinstance(config, dict) else None
        for feature in features if isinstance(features, list) else ():
            names = _names_in(feature)
            if names and isinstance(feature.get("name"), str):
                found.setdefault(feature["name"], names)
    return found


def _names_in(feature: Any) -> list[str]:
    """Return the class names in a feature. They may be below the keys dtype, sequence or list."""
    if not isinstance(feature, Mapping):
        return []
    declared = feature.get("class_label")
    if declared is None:
        inside = (_names_in(feature.get(key)) for key in ("dtype", "sequence", "list", "feature"))
        return next(filter(None, inside), [])
    names = declared.get("names") if isinstance(declared, Mapping) else None
    if isinstance(names, Mapping) and all(str(key).isdecimal() for key in names):
        names = [names[key] for key in sorted(names, key=int)]
    return [str(name) for name in names] if isinstance(names, list) else []


def with_class_names(path: Path, cells: Cells) -> Cells:
    """Replace class numbers by the names that the dataset card declares for their column.

    Raises:
        DataError: a number has no name.
    """
    declared = class_names(path.parent)
    if not declared:
        return cells
    columns = list(cells.columns)
    named = []
    for i, header in enumerate(cells.header):
        if header in declared and i != cells.image_index and _holds_numbers(columns[i]):
            columns[i] = columns[i].map(partial(_named, path, declared[header]))
            named.append(header)
    if not named:
        return cells
    note = f"README.md names the classes of column '{named[0]}'"
    return replace(cells, columns=columns, notes=(*cells.notes, note))


def _numbers(cell: str) -> list[str] | None:
    """Return the class numbers in a cell, which may be a list, or ``None`` if it contains anything else."""
    items = parse_list(cell) if cell[:1] in "[(" and cell else [cell] if cell else []
    return items if items is not None and all(re.fullmatch(r"-?\d+", item) for item in items) else None


def _holds_numbers(column: Column) -> bool:
    return all(_numbers(word) is not None for word in column.words)


def _named(path: Path, names: list[str], cell: str) -> str:
    numbers = _numbers(cell.strip()) or []
    wrong = [number for number in numbers if int(number) >= len(names)]
    if wrong:
        raise DataError(f"{path} has class {wrong[0]}, and README.md names {len(names)} classes: add its name there")
    # The Hub writes -1 for hidden labels.
    return list_cell([names[int(number)] for number in numbers if int(number) >= 0]) if numbers else cell

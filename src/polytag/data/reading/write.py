"""Write a dataset as a CSV, TSV or Parquet table that `read` reads back without loss."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.data.reading.locate import finds_again
from polytag.data.reading.tables.cells import PARQUET_EXTENSIONS, plain, reads_as_header
from polytag.data.reading.tables.roles import FLAG_HEADERS
from polytag.errors import DataError, SettingsError, counted, listed
from polytag.files import csv_cell, write_atomically, write_bytes_atomically

DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLE_EXTENSIONS = (*DELIMITERS, *PARQUET_EXTENSIONS)
"""Extensions of tables that can be written."""


def write_table(
    path: str | os.PathLike[str], dataset: Dataset, reasons: Mapping[str, str] | None = None
) -> Path | None:
    """Write photos and labels as a table with one 0/1 column per label. Unknown labels are left empty.

    If the dataset has a split or groups of several photos, they are written to the columns ``split`` and ``group``.

    Args:
        path: path of the table: .csv, .tsv or .parquet.
        dataset: the photos. The column ``image`` holds their names relative to the dataset's root. If the root could
            not be found from the table, they are relative to the table's folder.
        reasons: explanation of the decisions about each photo, by name. If given, it is written to ``reasons``.

    Returns:
        The folder to pass as ``images`` when reading the table, or ``None`` if the photos are found automatically
        because they are in the table's folder or below it.

    Raises:
        SettingsError: the file has another extension, or cannot be written.
        DataError: there is nothing to write, or a name would change when it is read back.
    """
    path = Path(path).expanduser()
    extension = path.suffix.lower()
    if extension not in TABLE_EXTENSIONS:
        raise SettingsError(f"{path} has the extension '{path.suffix}': expected .csv, .tsv or .parquet")
    names, folder = names_from(path, dataset)
    check_names(names, dataset.labels)
    for label in dataset.labels:
        if plain(label) in FLAG_HEADERS:
            raise DataError(
                f"the label {label!r} cannot be written: a column with this name describes photos, not labels. "
                "Rename the label"
            )
    extra: list[tuple[str, Sequence[str | None]]] = []
    if dataset.parts is not None:
        extra.append(("split", dataset.parts.tolist()))
    numbers, sizes = np.unique(dataset.groups, return_counts=True)
    several = set(numbers[sizes > 1].tolist())
    if several:
        extra.append(("group", [f"g{group}" if group in several else None for group in dataset.groups.tolist()]))
    if reasons is not None:
        extra.append(("reasons", [_in_words(reasons.get(name, "")) for name in dataset.names]))
    if extension in DELIMITERS:
        _write_text(path, names, dataset, extra, DELIMITERS[extension])
    else:
        _write_parquet(path, names, dataset, extra)
    return folder


def names_from(path: Path, dataset: Dataset) -> tuple[list[str], Path | None]:
    """Return the names of the photos in a table at this path, and the folder to pass when reading it, if needed."""
    if not len(dataset) or not dataset.labels:
        raise DataError(f"nothing to write to {path}: expected images and labels, got {dataset}")
    home = path.parent.resolve()
    root = dataset.root.resolve()
    names = dataset.names
    files = [Path(os.path.normpath(root / name)) for name in names]
    if finds_again(names, home, files):
        return names, None
    if all(file.is_relative_to(home) for file in files):
        return [file.relative_to(home).as_posix() for file in files], None
    return names, root


def check_names(names: Sequence[str], labels: Sequence[str]) -> None:
    """Raise an error if a name would change when it is read back."""
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise DataError(f"more than one label is called {listed(twice)}: label names must differ")
    for label in labels:
        if not label or " ".join(label.split()) != label or not _writable(label):
            raise DataError(
                f"the label {label!r} cannot be written: expected a name without line breaks, outer spaces or repeated "
                "spaces. Rename it"
            )
    odd = [
        name
        for name in names
        if name != name.strip()
        or len(name.splitlines()) > 1
        or name.startswith("../")
        or reads_as_header(name)
        or not _writable(name)
    ]
    if odd:
        raise DataError(
            f"{counted(len(odd), 'image')} cannot be named in a table ({listed([ascii(name) for name in odd])}): "
            "expected names inside the dataset's root that have no line breaks or outer spaces and do not look like "
            "headers; rename the files"
        )


def _writable(name: str) -> bool:
    """Return whether a name is valid UTF-8 without NUL. Names from old archives may be invalid."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def _in_words(reason: str) -> str | None:
    """Return a reason as one line of valid UTF-8. A reason is meant for people and may quote names in any encoding."""
    return " ".join(reason.replace("\0", " ").encode(errors="replace").decode().split()) or None


def _write_text(
    path: Path, names: Sequence[str], dataset: Dataset, extra: Sequence[tuple[str, Sequence[str | None]]], mark: str
) -> None:
    # If a column contains only ones and blanks, `read` takes the blanks as absent, so unknown cells get "?" there.
    unknown = ["?" if zeros == 0 else None for zeros in (dataset.targets == 0).sum(axis=0)]
    with write_atomically(path) as file:
        writer = csv.writer(file, delimiter=mark, lineterminator="\n")
        writer.writerow(["image", *map(csv_cell, dataset.labels), *(header for header, _ in extra)])
        for i, name in enumerate(names):
            row = dataset.targets[i].tolist()
            cells = [value if value >= 0 else nothing for value, nothing in zip(row, unknown, strict=True)]
            words = (values[i] for _, values in extra)
            writer.writerow([csv_cell(name), *cells, *(word and csv_cell(word) for word in words)])


def _write_parquet(
    path: Path, names: Sequence[str], dataset: Dataset, extra: Sequence[tuple[str, Sequence[str | None]]]
) -> None:
    import pyarrow
    from pyarrow import parquet

    # This builds arrays rather than a data frame because a label may be called "split" and pandas refuses duplicates.
    labels = [_parquet_label(column) for column in dataset.targets.T]
    texts = [pyarrow.array(values, pyarrow.string()) for _, values in extra]
    headers = ["image", *dataset.labels, *(header for header, _ in extra)]
    table = pyarrow.Table.from_arrays([pyarrow.array(names, pyarrow.string()), *labels, *texts], headers)
    with write_bytes_atomically(path) as file:
        parquet.write_table(table, file)


def _parquet_label(column: NDArray[np.int8]) -> Any:
    """Return a label's column as numbers, or as strings if it has no 0, because `read` would take blanks as absent."""
    import pyarrow

    if (column < 0).any() and not (column == 0).any():
        return pyarrow.array(["?" if value < 0 else str(value) for value in column.tolist()], pyarrow.string())
    return pyarrow.array(column, pyarrow.int8(), mask=column < 0)

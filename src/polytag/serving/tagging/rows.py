"""Tagging results, one row per photo, and the output formats."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from polytag.errors import ImageError, SettingsError, printable
from polytag.files import csv_cell
from polytag.models.bundle.bundle import assigned_labels

DIGITS = 6
"""Number of decimal places of a probability in the output."""

ROWS_AT_ONCE, VALUES_AT_ONCE = 4096, 400_000
"""Maximum number of rows, and of probabilities, in a row group of a Parquet file."""


CSV_SEPARATOR = "|"
"""Text between the labels in a CSV file."""


class Form(StrEnum):
    """A format for tagging results."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


@dataclass(frozen=True)
class Row:
    """The result for one photo.

    Attributes:
        image: name of the photo, as given.
        labels: assigned labels, most probable first.
        probabilities: probability by label, in the bundle's order; empty if the photo cannot be read.
        error: error message, or "".
    """

    image: str
    labels: tuple[str, ...]
    probabilities: dict[str, float]
    error: str = ""

    @classmethod
    def of(
        cls,
        image: str,
        found: NDArray[np.float32] | ImageError,
        labels: Sequence[str],
        thresholds: NDArray[np.float32],
        top: int | None = None,
    ) -> "Row":
        """Create the row of a photo.

        Args:
            image: name of the photo.
            found: probabilities, float32 (k,), or the error if the photo cannot be read.
            labels: names of the k labels.
            thresholds: minimum probability for assigning each label, float32 (k,).
            top: maximum number of assigned labels; ``None`` for no limit.
        """
        if isinstance(found, ImageError):
            return cls(image, (), {}, str(found))
        chosen = [labels[j] for j in assigned_labels(found, thresholds)[:top]]
        return cls(image, tuple(chosen), dict(zip(labels, found.tolist(), strict=True)))

    def named(self, name: str) -> "Row":
        """Return the row with the photo's "path", file "name" or "stem" as the image name."""
        if name == "path":
            return self
        path = Path(self.image)
        return replace(self, image=path.name if name == "name" else path.stem)

    def to_json(self) -> str:
        """Return the row as one line of JSON."""
        row: dict[str, object] = {"image": self.image}
        if self.probabilities:
            row["labels"] = self.labels
            row["probabilities"] = {label: round(p, DIGITS) for label, p in self.probabilities.items()}
        if self.error:
            row["error"] = self.error
        return json.dumps(row, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> "Row":
        """Parse a line created by `to_json`."""
        row = json.loads(line)
        return cls(row["image"], tuple(row.get("labels", ())), row.get("probabilities", {}), row.get("error", ""))

    def in_words(self) -> str:
        """Return the row as one line of readable text. Only this format escapes control characters in names."""
        assigned = ", ".join(f"{printable(x)} {self.probabilities[x]:.2f}" for x in self.labels)
        parts = [assigned or "(no label)"] if self.probabilities else []
        return f"{printable(self.image)}: {'; '.join([*parts, printable(self.error)] if self.error else parts)}"


def write_table(rows: Iterable[Row], labels: Sequence[str], file: TextIO) -> None:
    """Write one line of readable text per photo."""
    for row in rows:
        file.write(row.in_words() + "\n")


def write_jsonl(rows: Iterable[Row], labels: Sequence[str], file: TextIO) -> None:
    """Write one JSON object per photo, each on its own line."""
    for row in rows:
        file.write(row.to_json() + "\n")


def write_json(rows: Iterable[Row], labels: Sequence[str], file: TextIO) -> None:
    """Write a JSON array."""
    before = "[\n"
    for row in rows:
        file.write(before + row.to_json())
        before = ",\n"
    file.write("[]\n" if before == "[\n" else "\n]\n")


def write_csv(rows: Iterable[Row], labels: Sequence[str], file: TextIO) -> None:
    """Write CSV with the columns image, labels (joined by |) and error, and a column of probabilities per label."""
    writer = csv.writer(file)  # Lines end in CR LF, so that a CR in a name does not end a line.
    writer.writerow(["image", "labels", "error", *map(csv_cell, labels)])
    for row in rows:
        probabilities = (
            [f"{row.probabilities[x]:.{DIGITS}f}" for x in labels] if row.probabilities else [""] * len(labels)
        )
        writer.writerow(
            [csv_cell(row.image), csv_cell(CSV_SEPARATOR.join(row.labels)), csv_cell(row.error), *probabilities]
        )


def submission_writer(labels: Sequence[str], separator: str) -> Callable[[Iterable[Row], Sequence[str], TextIO], None]:
    """Return a function that writes CSV for competitions, with the columns image and labels.

    Args:
        labels: all labels of the bundle.
        separator: text that joins the labels of an image.

    Raises:
        SettingsError: a label contains the separator.
    """
    for label in labels:
        if separator in label:
            raise SettingsError(
                f"the label '{printable(label)}' contains the separator '{printable(separator)}': "
                "choose another --separator"
            )

    def write_submission(rows: Iterable[Row], labels: Sequence[str], file: TextIO) -> None:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "labels"])
        for row in rows:
            writer.writerow([csv_cell(row.image), csv_cell(separator.join(row.labels))])

    return write_submission


def write_parquet(rows: Iterable[Row], labels: Sequence[str], file: BinaryIO) -> None:
    """Write Parquet with the columns image, labels (list), error (nullable) and probabilities (struct of floats)."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema(
        [
            ("image", pa.string()),
            ("labels", pa.list_(pa.string())),
            ("error", pa.string()),
            ("probabilities", pa.struct([pa.field(label, pa.float32()) for label in labels])),
        ]
    )
    remaining = iter(rows)
    with ParquetWriter(file, schema) as writer:
        while some := list(islice(remaining, max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // max(1, len(labels)))))):
            columns = [
                [_in_utf8(row.image) for row in some],
                [list(row.labels) for row in some],
                [_in_utf8(row.error) or None for row in some],
                # As rounded as in the text formats, so that all ways to the same row give the same numbers.
                [{label: round(p, DIGITS) for label, p in row.probabilities.items()} or None for row in some],
            ]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _in_utf8(text: str) -> str:
    """Return a text as Parquet requires it. File names may contain other bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


TEXT_FORMATS: dict[Form, Callable[[Iterable[Row], Sequence[str], TextIO], None]] = {
    Form.table: write_table,
    Form.json: write_json,
    Form.jsonl: write_jsonl,
    Form.csv: write_csv,
}
"""Functions that write the text formats. These formats can be written while photos are being tagged."""

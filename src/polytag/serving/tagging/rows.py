"""What tagging says of each photo, and the forms in which it is written: one row for each photo."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from polytag.errors import ImageError, printable
from polytag.models.bundle.bundle import given

DIGITS = 6
"""Of a written probability."""

ROWS_AT_ONCE = 4096
"""Rows of one group of a Parquet file."""


class Form(StrEnum):
    """How rows are written."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


@dataclass(frozen=True)
class Row:
    """One photo.

    Attributes:
        photo: its name, as it was given.
        labels: those that it is given, the most probable first.
        probabilities: of every label, in the bundle's order; none where the photo cannot be read.
        error: why it cannot be read, or "".
    """

    photo: str
    labels: tuple[str, ...]
    probabilities: dict[str, float]
    error: str = ""

    @classmethod
    def of(
        cls,
        photo: str,
        found: NDArray[np.float32] | ImageError,
        labels: Sequence[str],
        thresholds: NDArray[np.float32],
        top: int | None = None,
    ) -> "Row":
        """The row of a photo, of which ``found`` are the probabilities (k,), or the error.

        Args:
            photo: its name.
            found: float32 (k,), or why there are none.
            labels: k names.
            thresholds: a label is given from this probability on, float32 (k,).
            top: the most labels that a photo is given; ``None`` for no limit.
        """
        if isinstance(found, ImageError):
            return cls(photo, (), {}, str(found))
        chosen = [labels[j] for j in given(found, thresholds)[:top]]
        return cls(photo, tuple(chosen), dict(zip(labels, found.tolist(), strict=True)))

    def to_json(self) -> str:
        """One line of JSON."""
        if self.error:
            return json.dumps({"photo": self.photo, "error": self.error}, ensure_ascii=False)
        rounded = {label: round(p, DIGITS) for label, p in self.probabilities.items()}
        row = {"photo": self.photo, "labels": self.labels, "probabilities": rounded}
        return json.dumps(row, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> "Row":
        """The row of a line that `to_json` wrote."""
        row = json.loads(line)
        return cls(row["photo"], tuple(row.get("labels", ())), row.get("probabilities", {}), row.get("error", ""))

    def in_words(self) -> str:
        """Return one line for people; unlike in the other forms, odd characters of names are escaped."""
        photo = printable(self.photo)
        if self.error:
            return f"{photo}: {self.error}"
        return f"{photo}: " + (
            ", ".join(f"{printable(x)} {self.probabilities[x]:.2f}" for x in self.labels) or "(no label)"
        )


def write_table(rows: Iterable[Row], labels: Sequence[str], file: TextIO) -> None:
    """A line for each photo, for people."""
    for row in rows:
        file.write(row.in_words() + "\n")


def write_jsonl(rows: Iterable[Row], labels: Sequence[str], file: TextIO) -> None:
    """A JSON object in each line."""
    for row in rows:
        file.write(row.to_json() + "\n")


def write_json(rows: Iterable[Row], labels: Sequence[str], file: TextIO) -> None:
    """One JSON array."""
    before = "[\n"
    for row in rows:
        file.write(before + row.to_json())
        before = ",\n"
    file.write("[]\n" if before == "[\n" else "\n]\n")


def write_csv(rows: Iterable[Row], labels: Sequence[str], file: TextIO) -> None:
    """Columns image, labels (with | between them), error, and the probability of each label under its name."""
    writer = csv.writer(file)  # with lines that end in CR LF, or a CR in a name would end one
    writer.writerow(["image", "labels", "error", *labels])
    for row in rows:
        probabilities = (
            [f"{row.probabilities[x]:.{DIGITS}f}" for x in labels] if row.probabilities else [""] * len(labels)
        )
        writer.writerow([row.photo, "|".join(row.labels), row.error, *probabilities])


def write_parquet(rows: Iterable[Row], labels: Sequence[str], file: BinaryIO) -> None:
    """Columns photo, labels (a list), error (null where there is none), and each label's probability (float)."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema = pa.schema(
        [
            ("photo", pa.string()),
            ("labels", pa.list_(pa.string())),
            ("error", pa.string()),
            ("probabilities", pa.struct([pa.field(label, pa.float32()) for label in labels])),
        ]
    )
    remaining = iter(rows)
    with ParquetWriter(file, schema) as writer:
        while some := list(islice(remaining, ROWS_AT_ONCE)):
            columns = [
                # Parquet's text is UTF-8, which a name in another encoding is not.
                [row.photo.encode("utf-8", "backslashreplace").decode() for row in some],
                [list(row.labels) for row in some],
                [row.error or None for row in some],
                [row.probabilities or None for row in some],
            ]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


TEXT_FORMATS: dict[Form, Callable[[Iterable[Row], Sequence[str], TextIO], None]] = {
    Form.table: write_table,
    Form.json: write_json,
    Form.jsonl: write_jsonl,
    Form.csv: write_csv,
}
"""Forms of a text file, all written while photos are being tagged."""

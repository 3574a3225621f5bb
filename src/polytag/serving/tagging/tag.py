"""Tag any number of photos. Each row is yielded immediately, so memory use does not depend on the number of photos."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from polytag.errors import SettingsError, listed, printable
from polytag.files import write_atomically, write_bytes_atomically
from polytag.models.bundle.bundle import Bundle
from polytag.models.runtimes.photos import named_stream
from polytag.serving.tagging.options import TagOptions
from polytag.serving.tagging.rows import CSV_SEPARATOR, TEXT_FORMATS, Form, Row, submission_writer, write_parquet
from polytag.serving.tagging.unfinished import UnfinishedRows


def tag_photos(
    bundle: Bundle, photos: Iterable[str], thresholds: NDArray[np.float32] | None = None, top: int | None = None
) -> Iterator[Row]:
    """Yield a row per photo, in order. The row of an unreadable photo contains the error message.

    Args:
        bundle: the model.
        photos: paths of the photos; an iterator of any length.
        thresholds: minimum probability per label, float32 (k,); ``None`` for the bundle's thresholds.
        top: maximum number of labels per photo; ``None`` for no limit.
    """
    thresholds = bundle.thresholds if thresholds is None else thresholds
    for name, found in named_stream(bundle.stream, ((photo, photo) for photo in photos)):
        yield Row.of(name, found, bundle.labels, thresholds, top)


class TagFile:
    """An output file, which is written completely or not at all, in one run or in several.

    Args:
        options: options for the output, such as its path and format.
        bundle: the model. A run with another bundle cannot continue the file.
        thresholds: minimum probability per label, float32 (k,). A run with other thresholds cannot continue the file.

    Raises:
        SettingsError: the file already exists, cannot be written, was started with another bundle or other settings, or
            another process is writing it.
    """

    def __init__(self, options: TagOptions, bundle: Bundle, thresholds: NDArray[np.float32]) -> None:
        assert options.out is not None
        self.path, self.form, self.name, self.labels = options.out, options.form, options.name, bundle.labels
        self._write_text = text_writer(options, bundle.labels)
        settings = settings_of(bundle, thresholds, options.top)
        self._rows = UnfinishedRows(self.path, settings, "bundle", options.resume, options.overwrite)
        self.part = self._rows.path

    @property
    def done(self) -> int:
        """Number of rows from earlier runs."""
        return self._rows.done

    def earlier(self) -> Iterator[Row]:
        """Yield the rows of earlier runs."""
        with self._rows.lines() as lines:
            yield from map(Row.from_json, lines)

    def write(self, rows: Iterable[Row], errors: Mapping[str, str] | None = None) -> None:
        """Add the remaining rows, then write the output file.

        Args:
            rows: the rows.
            errors: errors of this run by photo, such as of sidecars, which are complete when the rows are. They appear
                in the output file only, because the next run may mend them.
        """
        self._rows.add(row.to_json() for row in rows)
        errors = errors or {}
        with self._rows.lines() as lines:
            found = map(Row.from_json, lines)
            kept = (replace(row, error=errors.get(row.image, row.error)).named(self.name) for row in found)
            if self.form is Form.parquet:
                with write_bytes_atomically(self.path) as binary:
                    write_parquet(kept, self.labels, binary)
            else:
                with write_atomically(self.path) as text:
                    text.reconfigure(errors="backslashreplace")
                    if self.form is Form.jsonl and self.name == "path" and not errors:
                        shutil.copyfileobj(lines, text)
                    else:
                        self._write_text(kept, self.labels, text)
        self._rows.remove()


def settings_of(bundle: Bundle, thresholds: NDArray[np.float32], top: int | None) -> dict[str, Any]:
    """Return everything that decides the rows, as JSON, to recognise the output of a run that can be continued."""
    return {
        "rows": 2,  # Version of the row format. In version 1, the image was called "photo".
        "bundle": hashlib.sha256(json.dumps(bundle.manifest["files"], sort_keys=True).encode()).hexdigest(),
        "engine": bundle.engine,
        "thresholds": [round(float(t), 6) for t in thresholds],
        "top": top,
    }


def text_writer(options: TagOptions, labels: Sequence[str]) -> Callable[[Iterable[Row], Sequence[str], TextIO], None]:
    """Return the function that writes rows as text in the format given by the options.

    Raises:
        SettingsError: a label contains the separator.
    """
    if options.separator is not None:
        return submission_writer(labels, options.separator)
    if options.form is Form.csv and (label := next((one for one in labels if CSV_SEPARATOR in one), None)):
        raise SettingsError(
            f"the label '{printable(label)}' contains {CSV_SEPARATOR}, which separates labels in CSV files: "
            "write .jsonl or .parquet"
        )
    return TEXT_FORMATS.get(options.form, TEXT_FORMATS[Form.table])


def thresholds_of(bundle: Bundle, given: Iterable[str]) -> NDArray[np.float32]:
    """Return the bundle's thresholds with some of them replaced, float32 (k,).

    Args:
        bundle: the model.
        given: thresholds such as "0.4" for all labels or "boat=0.4" for one label. Later values override earlier ones.

    Raises:
        SettingsError: a threshold is not a number from 0 to 1, or a label is not in the bundle.
    """
    thresholds = bundle.thresholds.copy()
    for one in given:
        label, _, number = one.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise SettingsError(f"a threshold must be a number from 0 to 1, or LABEL=NUMBER, not '{printable(one)}'")
        if label and label not in bundle.labels:
            raise SettingsError(
                f"the bundle has no label '{printable(label)}': choose from {listed(list(bundle.labels), 30)}"
            )
        if label:
            thresholds[bundle.labels.index(label)] = value
        else:
            thresholds[:] = value
    return thresholds

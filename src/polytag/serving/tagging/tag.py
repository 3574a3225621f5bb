"""Tagging many photos: a row for each as soon as it is known, so memory does not grow with their number.

What goes into a file is first kept beside it, as lines of JSON in ``FILE.part``; the file itself appears when it is
complete. So a run that was stopped goes on where it was, whatever the form of its file.
"""

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from polytag.errors import SettingsError
from polytag.files import write_atomically, write_bytes_atomically
from polytag.models.bundle.bundle import Bundle
from polytag.serving.tagging.rows import TEXT_FORMATS, Form, Row, write_parquet

FLUSHED_EVERY = 64
"""Rows after which those so far are handed to the system, and so survive the end of this process."""


def tag_photos(
    bundle: Bundle, photos: Iterable[str], thresholds: NDArray[np.float32] | None = None, top: int | None = None
) -> Iterator[Row]:
    """A row for each photo, in order; a photo that cannot be read gives a row as well, with the reason.

    Args:
        bundle: what tags them.
        photos: their files, as many as there are.
        thresholds: float32 (k,); ``None`` for the bundle's own.
        top: the most labels that a photo is given; ``None`` for no limit.
    """
    thresholds = bundle.thresholds if thresholds is None else thresholds
    names: deque[str] = deque()

    def noted() -> Iterator[str]:
        for photo in photos:
            names.append(photo)
            yield photo

    for found in bundle.stream(noted()):
        yield Row.of(names.popleft(), found, bundle.labels, thresholds, top)


class TagFile:
    """A file of rows that is written once and completely, by one run or by several.

    Args:
        path: where it will be.
        form: how it is written, or its name.
        bundle, thresholds, top: what its rows depend on; a run with others cannot go on with it.
        resume: go on with what an earlier run has left.
        overwrite: replace what is there.

    Raises:
        SettingsError: there is something already and neither is said, or it was made with other settings.
    """

    def __init__(
        self,
        path: Path,
        form: Form | str,
        bundle: Bundle,
        thresholds: NDArray[np.float32],
        top: int | None,
        resume: bool = False,
        overwrite: bool = False,
    ):
        self.path, self.form, self.labels = path, Form(form), bundle.labels
        self.part = path.with_name(f"{path.name}.part")
        files = hashlib.sha256(json.dumps(bundle.manifest["files"], sort_keys=True).encode()).hexdigest()
        self._settings = {
            "bundle": files,
            "engine": bundle.engine,
            "thresholds": [round(float(t), 6) for t in thresholds],
            "top": top,
        }
        self.done = 0
        """How many rows earlier runs have written."""
        if path.is_dir():
            raise SettingsError(f"{path} is a folder: name a file with --out")
        if path.exists() and not overwrite:
            raise SettingsError(f"{path} exists already: name another file with --out, or add --overwrite")
        if self.part.exists() and not (resume or overwrite):
            raise SettingsError(f"{self.part} is what a stopped run has left: add --resume to go on, or --overwrite")
        try:
            if self.part.exists() and resume:
                self._go_on()
            else:
                self.part.write_text(json.dumps(self._settings) + "\n", encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"{self.part} cannot be written ({error.strerror}): name another place") from None

    def _go_on(self) -> None:
        """Take in what is there, without a last line that was not finished."""
        with self.part.open("r+b") as file:
            try:
                settings = json.loads(file.readline())
            except ValueError:
                settings = None
            if settings != self._settings:
                raise SettingsError(
                    f"{self.part} was made by another bundle or with other settings: --overwrite begins anew"
                )
            whole = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                self.done += 1
            file.truncate(whole)

    def earlier(self) -> Iterator[Row]:
        """The rows that earlier runs have written."""
        with self._kept() as lines:
            yield from map(Row.from_json, lines)

    @contextmanager
    def _kept(self) -> Iterator[TextIO]:
        """All rows so far, a line each."""
        with self.part.open(encoding="utf-8") as lines:
            lines.readline()  # the settings
            yield lines

    def write(self, rows: Iterable[Row]) -> None:
        """Add the rows that are not yet there, and then make the file of all."""
        kept = self.done
        try:
            with self.part.open("a", encoding="utf-8", errors="backslashreplace") as file:
                for row in rows:
                    file.write(row.to_json() + "\n")
                    kept += 1
                    if kept % FLUSHED_EVERY == 0:
                        file.flush()
        except BaseException:
            if not kept:
                self.part.unlink()  # nothing to go on with
            raise
        with self._kept() as lines:
            kept_rows = map(Row.from_json, lines)
            if self.form is Form.parquet:
                with write_bytes_atomically(self.path) as binary:
                    write_parquet(kept_rows, self.labels, binary)
            else:
                with write_atomically(self.path) as text:
                    text.reconfigure(errors="backslashreplace")
                    if self.form is Form.jsonl:
                        shutil.copyfileobj(lines, text)
                    else:
                        TEXT_FORMATS[self.form](kept_rows, self.labels, text)
        self.part.unlink()


def thresholds_of(bundle: Bundle, given: Iterable[str]) -> NDArray[np.float32]:
    """The bundle's thresholds, float32 (k,), changed as ``given`` says.

    Args:
        bundle: has thresholds of its own.
        given: "0.4" for all labels, "boat=0.4" for one; later ones count.

    Raises:
        SettingsError: a threshold is no number from 0 to 1, or the bundle has no such label.
    """
    thresholds = bundle.thresholds.copy()
    for one in given:
        label, _, number = one.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise SettingsError(f"a threshold is a number from 0 to 1, or LABEL=NUMBER for one label; got '{one}'")
        if label and label not in bundle.labels:
            raise SettingsError(f"the bundle has no label '{label}': choose from {', '.join(bundle.labels)}")
        if label:
            thresholds[bundle.labels.index(label)] = value
        else:
            thresholds[:] = value
    return thresholds

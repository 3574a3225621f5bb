"""The rows of a run that may be interrupted, as lines of text in ``FILE.part`` beside the output file.

The first line holds the settings that decide the rows. Every row is handed to the operating system at once, so a killed
process loses only the photos it was working on. The output file is written from these rows, and appears only when it is
complete. Therefore, an interrupted run can be continued with every output format.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from polytag.errors import SettingsError
from polytag.files import lock, remove_leftovers, unfinished


def check_output(out: Path, resume: bool, overwrite: bool) -> None:
    """Check that a run can write or continue this output file.

    Raises:
        SettingsError: the output exists, or an interrupted run left its rows and nothing says what to do with them.
    """
    part = unfinished(out)
    if out.is_dir():
        raise SettingsError(f"{out} is a folder: name a file with --out")
    # If both files exist, the run was killed after its last row.
    if out.exists() and not (overwrite or (resume and _is_started(part))):
        raise SettingsError(f"{out} exists already: choose another --out, or add --overwrite")
    if part.exists() and not (resume or overwrite):
        raise SettingsError(
            f"{part} was left by an interrupted run: add --resume to continue, or --overwrite to start again"
        )


def _is_started(part: Path) -> bool:
    """Return whether the settings were written completely, which a kill may have prevented."""
    try:
        with part.open("rb") as file:
            return file.readline().endswith(b"\n")
    except FileNotFoundError:
        return False


class UnfinishedRows:
    """The rows of an output file that is not complete yet, written in one run or in several.

    Args:
        out: the output file.
        settings: everything that decides the rows, as JSON. A run with other settings cannot continue.
        what: what such a run was started with, for the error message, such as "bundle".
        resume: continue an interrupted run.
        overwrite: start again.

    Raises:
        SettingsError: as in `check_output`, or the file cannot be written, was started with other settings, or another
            process is writing it.
    """

    def __init__(self, out: Path, settings: dict[str, Any], what: str, resume: bool, overwrite: bool) -> None:
        check_output(out, resume, overwrite)
        self.path = unfinished(out)
        self.done = 0
        """Number of rows."""
        self._out = out
        continuing = resume and _is_started(self.path)
        try:
            self._lock = lock(self.path)
            if continuing:
                self._continue(settings, what)
            else:
                self.path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be written ({error.strerror}): choose another --out") from None

    def _continue(self, settings: dict[str, Any], what: str) -> None:
        """Count the rows of earlier runs, and cut off an incomplete last line."""
        with self.path.open("rb") as file:
            try:
                written = json.loads(file.readline())
            except ValueError:
                written = None
            if written != settings:
                raise SettingsError(
                    f"{self.path} was written with another {what} or with other settings: add --overwrite to restart"
                )
            self.done = sum(line.endswith(b"\n") for line in file)
        self.keep(self.done)

    def keep(self, rows: int) -> None:
        """Keep only the first rows."""
        with self.path.open("r+b") as file:
            for _ in range(1 + rows):
                file.readline()
            file.truncate(file.tell())
        self.done = rows

    @contextmanager
    def lines(self) -> Iterator[TextIO]:
        """Open the rows, one per line."""
        with self.path.open(encoding="utf-8") as lines:
            lines.readline()  # the settings
            yield lines

    def add(self, lines: Iterable[str]) -> None:
        """Add rows. If there are none when this fails, the file is removed, because there is nothing to continue."""
        try:
            with self.path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as file:
                for line in lines:
                    file.write(line + "\n")
                    self.done += 1
        except BaseException:
            if not self.done:
                self.remove()
            raise

    def remove(self) -> None:
        """Remove the rows, because the output file is complete or because there will be none."""
        remove_leftovers(self._out)
        self.path.unlink()
        self._lock.close()

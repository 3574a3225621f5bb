"""Decisions about photos and labels: a plain CSV that a person can read, edit and delete rows from.

The audit suggests decisions and the review takes them; once the file exists it alone says what cleaning does.
Deleting a row undoes it, since cleaning starts from the table of labels each time and never changes it.
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from polytag.errors import DataError
from polytag.files import write_atomically

ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "drop": (("image",), ()),
    "unknown": (("image",), ("label",)),
    "present": (("image", "label"), ()),
    "absent": (("image", "label"), ()),
    "keep": ((), ("image", "label")),
    "merge": (("label", "into"), ()),
}
"""What a decision can do, with the columns that must be filled for it and those that may be."""

COLUMNS = ("image", "label", "action", "into", "reason", "by")
AUTHORS = ("audit", "review")

VALUES = {"present": 1, "absent": 0, "unknown": -1}
"""The actions that set a label, and what they set it to."""

Key = tuple[str, str]
"""Image and label: what a decision is about. Of two decisions about the same the later counts."""


@dataclass(frozen=True)
class Decision:
    """What becomes of one photo, of one of its labels, or of a label throughout the table.

    Attributes:
        image: the photo's name relative to the dataset's root; "" where the label of the whole table is meant.
        label: "" where the whole photo is meant.
        action: "drop" leaves the photo out; "unknown", "present" and "absent" set the label ("unknown" without
            a label sets all labels of the photo); "keep" leaves everything as it is, and protects a label from
            an "unknown" of its whole photo; "merge" folds the label into another.
        reason: why, in words.
        by: who decided, "audit" or "review".
        into: for "merge" the label that takes over, else "".

    Raises:
        DataError: image, label and ``into`` do not suit the action.
    """

    image: str
    label: str
    action: str
    reason: str
    by: str = "audit"
    into: str = ""

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise DataError(f"the action must be one of {', '.join(ACTIONS)}, not '{self.action}'")
        if self.by not in AUTHORS:
            raise DataError(f"'by' must be {' or '.join(AUTHORS)}, not '{self.by}'")
        needed, allowed = ACTIONS[self.action]
        for name in ("image", "label", "into"):
            cell = getattr(self, name)
            if name in needed and not cell:
                raise DataError(f"'{self.action}' needs the column {name}, but it is empty")
            if cell and name not in needed + allowed:
                raise DataError(f"'{self.action}' leaves the column {name} empty, but got '{cell}'")
        if not self.image and not self.label:
            raise DataError(f"'{self.action}' needs an image or a label, but both are empty")
        if self.action == "merge" and self.into == self.label:
            raise DataError(f"'{self.label}' cannot be merged into itself: name another label under 'into'")

    @property
    def key(self) -> Key:
        """What the decision is about."""
        return self.image, self.label


def read_decisions(path: str | os.PathLike[str]) -> list[Decision]:
    """Read a decisions file: CSV (UTF-8) with the columns image, label, action, into, reason, by, in any order.

    Returns:
        One decision for each row, in the file's order.

    Raises:
        DataError: it cannot be read, or a row is no decision; the message names the line.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            # Strict: otherwise one lost quotation mark would swallow the rows below it without a word.
            reader = csv.reader(file, strict=True)
            try:
                rows = [(reader.line_num, row) for row in reader if row]
            except csv.Error as error:
                raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}): mend or delete that row") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataError(
            f"the decisions {path} cannot be read ({reason}): expected a CSV with the columns {', '.join(COLUMNS)}"
        ) from None
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if sorted(header) != sorted(COLUMNS):
        raise DataError(
            f"the decisions {path} must have the columns {', '.join(COLUMNS)}, "
            f"but the first line has {', '.join(header) or 'none'}: mend that line"
        )
    decisions = []
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: expected {len(header)} cells, got {len(row)} "
                "(a comma inside a cell needs quotation marks): mend or delete that row"
            )
        cells = dict(zip(header, row, strict=True))
        cells["action"], cells["by"] = cells["action"].strip().lower(), cells["by"].strip().lower()
        try:
            decisions.append(Decision(**cells))
        except DataError as error:
            raise DataError(f"{path}, line {line}: {error}; mend or delete that row") from None
    return decisions


def write_decisions(path: str | os.PathLike[str], decisions: Iterable[Decision]) -> None:
    """Write decisions, one row each; the file is there as a whole or as it was before.

    Raises:
        SettingsError: the file cannot be written.
        DataError: a photo's name is not valid UTF-8.
    """
    _write(path, map(_line, decisions))


def _line(decision: Decision) -> str:
    cells = [getattr(decision, column) for column in COLUMNS]
    line = io.StringIO()
    # Left to itself the writer does not quote a carriage return, and the reader would take it for the row's end.
    odd = any("\r" in cell for cell in cells)
    csv.writer(line, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL).writerow(cells)
    try:
        line.getvalue().encode()
    except UnicodeEncodeError:
        raise DataError(f"the name {decision.image!a} is not valid UTF-8: rename the photo") from None
    return line.getvalue()


def _write(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    with write_atomically(path) as file:
        file.write(",".join(COLUMNS) + "\n")
        file.writelines(lines)


class DecisionFile:
    """A decisions file that decisions are saved to one by one, while a person may edit it too.

    Each save writes the whole file under another name and renames it, so being killed loses nothing that was
    saved. The file on disk is the truth: it is read again whenever it has changed, and a row that somebody
    deleted does not come back. Threads that share one must take turns.

    Args:
        path: the file; it need not exist before the first decision.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._state: tuple[int, ...] | None = None
        self._decisions: dict[Key, Decision] = {}
        self._lines: dict[Key, str] = {}

    def read(self) -> Mapping[Key, Decision]:
        """The decisions that count, by what they are about.

        Raises:
            DataError: the file cannot be read, or a row is no decision.
        """
        state = self._look()
        if state != self._state:
            self._decisions = {d.key: d for d in read_decisions(self.path)} if state else {}
            self._lines = {key: _line(decision) for key, decision in self._decisions.items()}
            self._state = state
        return self._decisions

    def save(self, decision: Decision) -> None:
        """Add a decision, in place of an earlier one about the same.

        Raises:
            SettingsError: the file cannot be written.
            DataError: the file has become unreadable, and is left as it is, or the photo's name is not valid UTF-8.
        """
        self.read()
        self._replace({**self._decisions, decision.key: decision}, {**self._lines, decision.key: _line(decision)})

    def remove(self, key: Key) -> None:
        """Delete the decision about this image and label, if there is one; errors as for `save`."""
        if key in self.read():
            self._replace(
                {k: v for k, v in self._decisions.items() if k != key},
                {k: v for k, v in self._lines.items() if k != key},
            )

    def _replace(self, decisions: dict[Key, Decision], lines: dict[Key, str]) -> None:
        _write(self.path, lines.values())
        # Only now: if writing failed, what is known must stay what is on disk.
        self._decisions, self._lines, self._state = decisions, lines, self._look()

    def _look(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"the decisions {self.path} cannot be read ({error.strerror}): name another file") from None
        return status.st_mtime_ns, status.st_size, status.st_ino

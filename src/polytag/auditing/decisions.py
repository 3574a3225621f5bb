"""Decisions about photos and labels, stored in a CSV file that people can read and edit.

The audit proposes decisions, and the review records a person's decisions. Once the file exists, it alone determines
what cleaning does. Cleaning always starts from the original table, so deleting a row of the file undoes that decision.
"""

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from polytag.errors import DataError
from polytag.files import csv_cell, csv_text, write_atomically

ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "drop": (("image",), ()),
    "unknown": (("image",), ("label",)),
    "present": (("image", "label"), ()),
    "absent": (("image", "label"), ()),
    "keep": ((), ("image", "label")),
    "merge": (("label", "into"), ()),
}
"""Required and optional columns of each action."""

COLUMNS = ("image", "label", "action", "into", "reason", "by")
AUTHORS = ("audit", "review")

VALUES = {"present": 1, "absent": 0, "unknown": -1}
"""The target value that an action assigns to a label."""

Key = tuple[str, str]
"""Image and label that a decision concerns. If two decisions have the same key, the later one counts."""


@dataclass(frozen=True)
class Decision:
    """A decision about one photo, one of its labels, or a label of the whole table.

    Attributes:
        image: name of the photo relative to the dataset's root, or "" for a label of the whole table.
        label: name of the label, or "" for the whole photo.
        action: "drop" leaves the photo out. "unknown", "present" and "absent" set the label. Without a label,
            "unknown" sets all labels of the photo. "keep" changes nothing, but it protects a label from an "unknown"
            decision for the whole photo. "merge" replaces the label with another.
        reason: why the decision was made.
        by: who made the decision: "audit" or "review".
        into: for "merge", the label that remains; otherwise "".

    Raises:
        DataError: ``image``, ``label`` or ``into`` does not fit the action.
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
                raise DataError(f"'{self.action}' needs an empty column {name}, but got '{cell}'")
        if not self.image and not self.label:
            raise DataError(f"'{self.action}' needs an image or a label, but both are empty")
        if self.action == "merge" and self.into == self.label:
            raise DataError(f"'{self.label}' cannot be merged into itself. Name another label in the column into")

    @property
    def key(self) -> Key:
        """The image and label that the decision concerns."""
        return self.image, self.label


def default_decisions(data: str | os.PathLike[str]) -> Path:
    """Return the default path of the decisions file for the given data, which the review and cleaning share.

    Args:
        data: the file or folder that the labels are read from, or ``kaggle:OWNER/NAME``.

    Returns:
        ``NAME.decisions.csv`` next to the file or folder. If the data are not on disk, the file is in the current
        folder.
    """
    text = os.fspath(data)
    if re.match(r"\w\w+:", text):
        return Path(f"{re.split(r'[/:]', text.rstrip('/'))[-1]}.decisions.csv")
    path = Path(text).expanduser()
    whole = path.resolve()
    if not whole.name:  # The root folder has no name and no parent.
        return Path("decisions.csv")
    folder = whole.parent if path.name in ("", "..") else path.parent
    return folder / f"{whole.name if whole.is_dir() else path.stem}.decisions.csv"


def read_decisions(path: str | os.PathLike[str]) -> list[Decision]:
    """Read a decisions file.

    Args:
        path: a UTF-8 CSV file with the columns image, label, action, into, reason and by, in any order.

    Returns:
        One decision per row, in the order of the file.

    Raises:
        DataError: the file cannot be read, or a row is not a valid decision. The message names the line.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            # Without strict mode, a missing quotation mark would silently swallow the following rows.
            reader = csv.reader(file, strict=True)
            try:
                rows = [(reader.line_num, row) for row in reader if row]
            except csv.Error as error:
                raise DataError(
                    f"{path}, line {reader.line_num}: not valid CSV ({error}). Fix or delete that row"
                ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataError(
            f"the decisions file {path} cannot be read ({reason}). Expected a CSV with the columns {', '.join(COLUMNS)}"
        ) from None
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if sorted(header) != sorted(COLUMNS):
        raise DataError(
            f"the decisions file {path} needs the columns {', '.join(COLUMNS)}, "
            f"but its first line has {', '.join(header) or 'none'}. Fix that line"
        )
    decisions = []
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: expected {len(header)} cells, got {len(row)} "
                "(a cell with a comma needs quotation marks). Fix or delete that row"
            )
        cells = dict(zip(header, map(csv_text, row), strict=True))
        cells["action"], cells["by"] = cells["action"].strip().lower(), cells["by"].strip().lower()
        try:
            decisions.append(Decision(**cells))
        except DataError as error:
            raise DataError(f"{path}, line {line}: {error}. Fix or delete that row") from None
    return decisions


def write_decisions(path: str | os.PathLike[str], decisions: Iterable[Decision]) -> None:
    """Write decisions, one per row. If writing fails, an existing file stays unchanged.

    Raises:
        SettingsError: the file cannot be written.
        DataError: the name of a photo is not valid UTF-8.
    """
    _write(path, map(_line, decisions))


def _line(decision: Decision) -> str:
    cells = [csv_cell(getattr(decision, column)) for column in COLUMNS]
    line = io.StringIO()
    # The CSV writer does not quote carriage returns, but the reader ends a row at each of them.
    odd = any("\r" in cell for cell in cells)
    csv.writer(line, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL).writerow(cells)
    try:
        line.getvalue().encode()
    except UnicodeEncodeError:
        raise DataError(f"the name {decision.image!a} is not valid UTF-8. Rename the photo") from None
    return line.getvalue()


def _write(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    with write_atomically(path) as file:
        file.write(",".join(COLUMNS) + "\n")
        file.writelines(lines)


class DecisionFile:
    """A decisions file that records decisions one at a time, and that people may edit at the same time.

    Each save writes a temporary file and renames it, so saved decisions cannot be lost. The file is read again whenever
    it has changed on disk, so rows that someone deleted stay deleted. This class is not thread-safe.

    Args:
        path: path of the file, which is created with the first decision.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._state: tuple[int, ...] | None = None
        self._decisions: dict[Key, Decision] = {}
        self._lines: dict[Key, str] = {}

    def read(self) -> Mapping[Key, Decision]:
        """Read the current decisions, by key.

        Raises:
            DataError: the file cannot be read, or a row is not a valid decision.
        """
        state = self._look()
        if state != self._state:
            self._decisions = {d.key: d for d in read_decisions(self.path)} if state else {}
            self._lines = {key: _line(decision) for key, decision in self._decisions.items()}
            self._state = state
        return self._decisions

    def save(self, decision: Decision) -> None:
        """Add a decision. It replaces an earlier decision with the same key.

        Raises:
            SettingsError: the file cannot be written.
            DataError: the photo's name is not valid UTF-8, or the file on disk is no longer valid. An invalid file
                stays unchanged.
        """
        self.read()
        self._replace({**self._decisions, decision.key: decision}, {**self._lines, decision.key: _line(decision)})

    def remove(self, key: Key) -> None:
        """Delete the decision with this key if it exists. Raises the same errors as `save`."""
        if key in self.read():
            self._replace(
                {k: v for k, v in self._decisions.items() if k != key},
                {k: v for k, v in self._lines.items() if k != key},
            )

    def _replace(self, decisions: dict[Key, Decision], lines: dict[Key, str]) -> None:
        _write(self.path, lines.values())
        # Update only after writing, so that a failed write leaves the state in sync with the file.
        self._decisions, self._lines, self._state = decisions, lines, self._look()

    def _look(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(
                f"the decisions file {self.path} cannot be read ({error.strerror}). Name another file"
            ) from None
        return status.st_mtime_ns, status.st_size, status.st_ino

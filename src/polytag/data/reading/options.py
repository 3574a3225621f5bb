"""Options of `polytag.read` and of every command that takes DATA."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from polytag.errors import SettingsError, listed

CONFLICTS = ("unknown", "union", "drop")
"""Ways to resolve contradictions between rows for the same image."""

BLANKS = ("absent", "unknown")


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for reading labels. Each annotation is the help text of the command-line option.

    Everything that is not set is detected, and what was detected is reported. Where a wrong guess could spoil labels,
    reading stops with an error that names the option to set.

    Raises:
        SettingsError: a value is out of range, or two options contradict each other.
    """

    images: Annotated[Path | None, "Folder with the images. Default: detected."] = None
    image_column: Annotated[str | None, "Column with the image names. Default: detected."] = None
    label_column: Annotated[
        Sequence[str], "Column with labels, may be repeated. Put a name that contains a comma in double quotes."
    ] = ()
    label_separator: Annotated[str | None, "Text between the labels in a cell. Default: detected."] = None
    group_column: Annotated[
        str | None, "Column of groups, such as patients, whose photos must stay in one part of the split."
    ] = None
    slice: Sequence[str] = ()
    """Columns to keep in `Dataset.columns` instead of reading them as labels. Only `evaluate` and `compare` have the
    option."""
    split_column: Annotated[str | None, "Column with the split (train, validation, test). Default: detected."] = None
    blank: Annotated[Literal["absent", "unknown"] | None, "Meaning of blank cells in 0/1 columns."] = None
    at_least: Annotated[
        float | None, "Minimum value for a label to count as present, in columns of values from 0 to 1."
    ] = None
    labels: Annotated[Sequence[str], "Label names for the entries of a multi-hot vector."] = ()
    conflicts: Annotated[
        Literal["unknown", "union", "drop"] | None,
        "What to do when rows for the same image disagree. Default: refuse.",
    ] = None

    show_progress: bool = False
    """Draw a progress bar on stderr while photos are hashed. Commands always do."""

    def __post_init__(self) -> None:
        """Convert paths and sequences to one type, and refuse invalid values."""
        if self.images is not None:
            object.__setattr__(self, "images", Path(self.images).expanduser())
        columns = (self.label_column,) if isinstance(self.label_column, str) else tuple(self.label_column)
        names = self.labels.split(",") if isinstance(self.labels, str) else list(self.labels)
        labels = tuple(" ".join(str(name).split()) for name in names)
        object.__setattr__(self, "label_column", columns)
        object.__setattr__(self, "slice", (self.slice,) if isinstance(self.slice, str) else tuple(self.slice))
        object.__setattr__(self, "labels", labels)
        if self.conflicts is not None and self.conflicts not in CONFLICTS:
            raise SettingsError(f"--conflicts must be one of {', '.join(CONFLICTS)}, not '{self.conflicts}'")
        if self.blank is not None and self.blank not in BLANKS:
            raise SettingsError(f"--blank must be absent or unknown, not '{self.blank}'")
        if self.at_least is not None and not (math.isfinite(self.at_least) and 0 < self.at_least <= 1):
            raise SettingsError(f"--at-least must be above 0 and at most 1, not {self.at_least}")
        if self.label_separator == "":
            raise SettingsError("--label-separator must not be empty. Omit it if each cell has one label")
        for name in ("image_column", "group_column", "split_column"):
            if getattr(self, name) is not None and not getattr(self, name).strip():
                raise SettingsError(f"--{name.replace('_', '-')} must not be empty")
        if any(not column.strip() for column in columns):
            raise SettingsError("--label-column must not be empty")
        if any(not column.strip() for column in self.slice):
            raise SettingsError("--slice must not be empty")
        if not all(labels):
            raise SettingsError(f"--labels has an empty name among {listed(list(labels), 20)}: name every entry")
        twice = sorted({name for name in labels if labels.count(name) > 1})
        if twice:
            raise SettingsError(f"--labels names {listed(twice)} more than once: label names must differ")

    def override(self, settings: dict[str, Any]) -> "ReadOptions":
        """Return a copy with some fields replaced.

        Raises:
            SettingsError: a setting is not a field, or its value is out of range.
        """
        known = [one.name for one in fields(self)]
        strange = [name for name in settings if name not in known]
        if strange:
            raise SettingsError(f"unknown reading option {listed(strange)}: expected one of {', '.join(known)}")
        return replace(self, **settings)

    @property
    def column_flags(self) -> list[str]:
        """Return the flags of options in use that apply only to the columns of a table."""
        return [f"--{name.replace('_', '-')}" for name in COLUMN_OPTIONS if getattr(self, name) not in (None, ())]


COLUMN_OPTIONS = (
    "image_column",
    "label_column",
    "label_separator",
    "group_column",
    "slice",
    "split_column",
    "blank",
    "at_least",
    "labels",
)
"""Options for the columns of a table. Formats without columns refuse these options."""

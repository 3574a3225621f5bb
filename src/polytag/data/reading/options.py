"""How labels are read: the options of `polytag.read` and of every command that takes DATA."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options for reading labels. Each annotation is the help text of the command-line option.

    Everything that is not set is detected, and what was detected is reported. Where a wrong guess could spoil labels,
    reading stops with an error that names the option to set.
    """

    images: Annotated[Path | None, "Folder with the images. Default: detected."] = None
    image_column: Annotated[str | None, "Column with the image names. Default: detected."] = None
    label_column: Annotated[Sequence[str], "Column with labels. Repeat it for several; only these are labels."] = ()
    label_separator: Annotated[str | None, "Text between the labels in a cell. Default: detected."] = None
    group_column: Annotated[str | None, "Column whose equal values must stay in one part, such as a patient."] = None
    split_column: Annotated[str | None, "Column with the split (train, validation, test). Default: detected."] = None
    blank: Annotated[Literal["absent", "unknown"] | None, "Meaning of blank cells in 0/1 columns."] = None
    at_least: Annotated[float | None, "Share from which a label counts as present, for columns of shares."] = None
    labels: Annotated[Sequence[str], "Label names for the entries of a multi-hot vector."] = ()
    conflicts: Annotated[
        Literal["unknown", "union", "drop"] | None,
        "What to do when rows for the same image disagree. Default: refuse.",
    ] = None

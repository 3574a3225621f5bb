"""How photos are tagged and results are written: the options of `polytag tag`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from polytag.errors import SettingsError
from polytag.serving.tagging.rows import Form


@dataclass(frozen=True, kw_only=True)
class TagOptions:
    """Options for tagging. Each annotation is the help text of the command-line option.

    Raises:
        SettingsError: two options contradict each other, or one is out of range.
    """

    out: Annotated[Path | None, "File to write. Default: print the results.", "-o"] = None
    format: Annotated[Form | None, "Output format. Default: the ending of --out, or table."] = None
    top: Annotated[int | None, "Maximum number of labels per photo, most probable first. Default: no limit."] = None
    threshold: Annotated[
        Sequence[str], "Minimum probability for assigning labels: 0.4 for all, boat=0.4 for one. Default: the bundle's."
    ] = ()
    name: Annotated[
        Literal["path", "name", "stem"], "How images are named: path as given, file name, or file name without ending."
    ] = "path"
    separator: Annotated[
        str | None, "Write a submission: CSV with image and labels, with this text between labels."
    ] = None
    write_metadata: Annotated[bool, "Write labels as keywords into an XMP sidecar beside each photo."] = False
    dry_run: Annotated[bool, "With --write-metadata: print the changes and write nothing."] = False
    engine: Annotated[str, "What runs the model: float32, or int8 if the bundle has it."] = "float32"
    resume: Annotated[bool, "Continue an interrupted run with the same --out."] = False
    overwrite: Annotated[bool, "Replace earlier output."] = False

    def __post_init__(self) -> None:
        form = self.form  # refuses an unknown ending
        if self.top is not None and self.top < 1:
            raise SettingsError(f"--top must be at least 1, not {self.top}")
        if self.out is None and (form == Form.parquet or self.resume):
            raise SettingsError(f"{'--resume' if self.resume else '--format parquet'} needs a file: name it with --out")
        if self.separator is not None and form != Form.csv:
            raise SettingsError("--separator is for CSV: name --out FILE.csv, or add --format csv")
        if self.separator == "":
            raise SettingsError("--separator must not be empty: labels could not be told apart")
        if self.dry_run and not self.write_metadata:
            raise SettingsError("--dry-run shows what --write-metadata would change: add --write-metadata")
        if self.dry_run and self.out is not None:
            raise SettingsError("--dry-run writes nothing: leave out --out")

    @property
    def form(self) -> Form:
        """The output format: ``format``, or else what the ending of ``out`` says."""
        if self.format is not None:
            return Form(self.format)
        if self.out is None:
            return Form.csv if self.separator is not None else Form.table
        ending = self.out.suffix.lower().lstrip(".")
        if ending not in set(Form):
            endings = ", ".join(f".{form}" for form in Form if form != Form.table)
            raise SettingsError(f"--out {self.out} has no known ending: use {endings}, or add --format")
        return Form(ending)

"""The options of `polytag tag`, which define how photos are tagged and how the results are written."""

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
        SettingsError: two options contradict each other, or an option is out of range.
    """

    labels: Annotated[
        Sequence[str],
        "Tag with these labels without training, such as 'boat,sunset,two people'. Needs --encoder, and no BUNDLE.",
    ] = ()
    encoder: Annotated[
        str | None, "CLIP or SigLIP for --labels, in ONNX with its text encoder: a folder or hf:OWNER/REPO."
    ] = None
    save_bundle: Annotated[Path | None, "With --labels: new folder for a bundle, for serve, explain and convert."] = (
        None
    )
    out: Annotated[Path | None, "File to write, or folder with --engine ray. Default: print the results.", "-o"] = None
    format: Annotated[
        Form | None, "Output format. Default: given by the file extension of --out, or table without --out."
    ] = None
    top: Annotated[int | None, "Maximum number of labels per photo, most probable first. Default: no limit."] = None
    threshold: Annotated[
        Sequence[str],
        "Minimum probability for assigning a label: 0.4 for all labels, boat=0.4 for one. Default: the bundle's.",
    ] = ()
    name: Annotated[
        Literal["path", "name", "stem"],
        "Name of each image in the output: path as given, file name, or file name without extension.",
    ] = "path"
    separator: Annotated[
        str | None,
        "Write a CSV file for a competition, with the columns image and labels and this text between labels.",
    ] = None
    write_metadata: Annotated[bool, "Write the labels as keywords into an XMP sidecar next to each photo."] = False
    dry_run: Annotated[bool, "With --write-metadata: print the changes without writing them."] = False
    engine: Annotated[
        str,
        "Engine that runs the model: float32, int8 (if the bundle has it), ray for float32 on a cluster, or ray-int8.",
    ] = "float32"
    address: Annotated[
        str | None, "With --engine ray: address of a Ray cluster, or auto. Default: start one on this machine."
    ] = None
    resume: Annotated[bool, "Continue an interrupted run with the same --out."] = False
    overwrite: Annotated[bool, "Replace existing output."] = False

    def __post_init__(self) -> None:
        if self.on_ray:
            self._check_ray()
        elif self.address is not None:
            raise SettingsError("--address is the address of a Ray cluster: add --engine ray")
        if bool(self.labels) != (self.encoder is not None):
            raise SettingsError("--labels and --encoder belong together: name both, or give a bundle instead")
        if self.labels and self.bundle_engine != "float32":
            raise SettingsError(f"--labels run in float32: omit --engine {self.engine}")
        if self.save_bundle is not None and not self.labels:
            raise SettingsError("--save-bundle is for --labels: omit it")
        form = self.form  # Computing the format refuses an unknown file extension.
        if self.top is not None and self.top < 1:
            raise SettingsError(f"--top must be at least 1, not {self.top}")
        if self.out is None and (form == Form.parquet or self.resume):
            raise SettingsError(f"{'--resume' if self.resume else '--format parquet'} needs a file: name it with --out")
        if self.separator is not None and form != Form.csv:
            raise SettingsError("--separator needs CSV output: use --out FILE.csv, or add --format csv")
        if self.separator == "":
            raise SettingsError("--separator must not be empty, because labels would run together")
        if self.dry_run and not self.write_metadata:
            raise SettingsError("--dry-run shows what --write-metadata would change: add --write-metadata")
        if self.dry_run and self.out is not None:
            raise SettingsError("--dry-run does not write any files: remove --out")

    def _check_ray(self) -> None:
        if self.out is None:
            raise SettingsError("--engine ray writes a folder of Parquet files: name it with --out")
        if self.form is not Form.parquet or self.separator is not None:
            raise SettingsError("--engine ray writes Parquet files: remove --format and --separator")
        if self.write_metadata:
            raise SettingsError("--engine ray does not write sidecars: remove --write-metadata")

    @property
    def on_ray(self) -> bool:
        """Whether the photos are tagged on a Ray cluster."""
        return self.engine in ("ray", "ray-int8")

    @property
    def bundle_engine(self) -> str:
        """The bundle's engine."""
        return {"ray": "float32", "ray-int8": "int8"}.get(self.engine, self.engine)

    @property
    def form(self) -> Form:
        """The output format, given by ``format`` or by the file extension of ``out``."""
        if self.format is not None:
            return Form(self.format)
        if self.on_ray:
            return Form.parquet
        if self.out is None:
            return Form.csv if self.separator is not None else Form.table
        ending = self.out.suffix.lower().lstrip(".")
        if ending not in set(Form):
            endings = ", ".join(f".{form}" for form in Form if form != Form.table)
            raise SettingsError(f"--out {self.out} has no known file extension: use {endings}, or add --format")
        return Form(ending)

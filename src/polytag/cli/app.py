"""The application: options that commands share, reading data, and errors as one line with exit code 2."""

import sys
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import polytag as pt
from polytag.data.reading.options import ReadOptions
from polytag.errors import PolytagError
from polytag.evaluation.objectives import OBJECTIVES
from polytag.models.recipe import LOSS_NAMES

if TYPE_CHECKING:
    from polytag.data.dataset import Dataset

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Tag photos that carry several labels at once, and know how well it works.",
)


class Conflicts(StrEnum):
    """What becomes of labels on which two rows of one photo disagree."""

    unknown = "unknown"
    union = "union"
    drop = "drop"


Data = Annotated[
    str,
    typer.Argument(
        help="A CSV, TSV or Parquet table; a folder with labels.csv, with a subfolder for each label, or in Pascal "
        "VOC's form; a COCO or Create ML JSON file; or kaggle:OWNER/NAME[/FILE]."
    ),
]
Images = Annotated[Path | None, typer.Option(help="Folder of the photos; found by itself otherwise.")]
ImageColumn = Annotated[str | None, typer.Option(help="Column that names the photos; found by itself otherwise.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of label names; found by itself otherwise.")]
ConflictsOption = Annotated[
    Conflicts | None,
    typer.Option(help="What becomes of labels on which rows of one photo disagree; without it they are refused."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there from an earlier call.")]
SplitFile = Annotated[Path | None, typer.Option("--split", help="Use the split of this file (columns image and part).")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the split and of all training.")]
ImageSize = Annotated[int, typer.Option(min=32, max=1024, help="Side that photos are brought to, in pixels.")]
Epochs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Passes over the training photos, at most; by default 15 for the baseline, 60 for others. For transfer "
        "they are those of its head; --fine-tune says how many follow.",
    ),
]
Trials = Annotated[
    int | None,
    typer.Option(min=1, help="Trials of each search for hyperparameters; 20 where --timeout is not given either."),
]
Timeout = Annotated[
    float | None,
    typer.Option(help="Minutes after which each search begins no other trial, those before a stop included."),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that try hyperparameters at the same time.")]
FineTune = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Epochs in which transfer trains its backbone too; by default as many as see 12,000 photos, 1 to 8.",
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Network that transfer builds on: mobilenet_v2 (the default), efficientnet_lite0, or one of "
        "keras.applications, such as EfficientNetB0."
    ),
]
Loss = Annotated[str | None, typer.Option(help=f"Loss of all training: {', '.join(LOSS_NAMES)}; by default the first.")]
Weights = Annotated[
    Path | None, typer.Option(help="File of the backbone's pretrained weights; found by itself otherwise.")
]
BundleFolder = Annotated[Path, typer.Argument(help="Folder of a bundle.")]
Int8 = Annotated[
    bool, typer.Option("--int8", help="Make a twin in 8 bits too, which tags faster; kept if it loses next to nothing.")
]
Engine = Annotated[str, typer.Option(help="What runs the model: float32, or int8 where the bundle has it.")]
Objective = Annotated[str, typer.Option(help=f"What thresholds are for: {OBJECTIVES}.")]


def one_line_errors(command: Callable) -> Callable:
    """Print an expected error as one line and leave with exit code 2."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except PolytagError as error:
            print(f"polytag: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except BrokenPipeError:
            raise  # whoever reads the output has enough of it: Typer ends without a word
        except OSError as error:
            # A full disk, a folder that vanished: what polytag did not foresee but the system can name.
            place = f" ({error.filename})" if error.filename else ""
            print(f"polytag: {error.strerror or error}{place}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("polytag: stopped", file=sys.stderr)
            raise typer.Exit(130) from None

    return wrapped


def read(
    source: str, images: Path | None, image_column: str | None, label_column: str | None, conflicts: Conflicts | None
) -> "Dataset":
    """Read the data and say what was recognised."""
    options = ReadOptions(
        images=images,
        image_column=image_column,
        label_column=() if label_column is None else (label_column,),
        conflicts=None if conflicts is None else conflicts.value,
    )
    data = pt.read(source, options)
    print(f"{data}", *data.notes, sep="\n  ", flush=True)
    return data

"""The command line: each command parses, calls the library and prints; an error is one line and exit code 2."""

import io
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

import polytag as pt
from polytag.data.dataset import Dataset
from polytag.data.split import PARTS
from polytag.errors import PolytagError, SettingsError, counted
from polytag.evaluation.contest import table
from polytag.models.recipe import MODEL_NAMES

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


Data = Annotated[Path, typer.Argument(help="A CSV or TSV file, or a folder that holds labels.csv.")]
Images = Annotated[Path | None, typer.Option(help="Folder of the photos; found by itself otherwise.")]
ImageColumn = Annotated[str | None, typer.Option(help="Column that names the photos; found by itself otherwise.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of label names; found by itself otherwise.")]
ConflictsOption = Annotated[
    Conflicts | None,
    typer.Option(help="What becomes of labels on which rows of one photo disagree; without it they are refused."),
]
SplitFile = Annotated[Path | None, typer.Option("--split", help="Use the split of this file (columns image and part).")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the split and of all training.")]
ImageSize = Annotated[int, typer.Option(min=32, max=1024, help="Side that photos are brought to, in pixels.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over the training photos, at most.")]
Trials = Annotated[int | None, typer.Option(min=1, help="Trials of the search for the tuned model.")]
FineTune = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Epochs in which transfer trains its backbone too; by default as many as see 6,000 photos, at most 4.",
    ),
]
Weights = Annotated[Path | None, typer.Option(help="File of pretrained MobileNetV2 weights for transfer.")]


def one_line_errors(command: Callable) -> Callable:
    """Print an expected error as one line and leave with exit code 2."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except PolytagError as error:
            print(f"polytag: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
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
    path: Path, images: Path | None, image_column: str | None, label_column: str | None, conflicts: Conflicts | None
) -> Dataset:
    """Read the data and say what was recognised."""
    data = pt.read_csv(
        path,
        images,
        image_column=image_column,
        label_column=label_column,
        conflicts=None if conflicts is None else conflicts.value,
    )
    print(f"{data}", *data.notes, sep="\n  ", flush=True)
    return data


@app.command()
@one_line_errors
def sample(
    folder: Annotated[Path, typer.Argument(help="Folder to make; it must not hold anything yet.")],
    images: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 1000,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Side of a scene, in pixels.")] = 192,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same scenes.")] = 0,
) -> None:
    """Write the built-in data set: drawn scenes of ten labels."""
    from tqdm import tqdm

    with tqdm(total=images, desc="drawing scenes", unit="scene", delay=0.5) as bar:
        pt.write_sample(folder, images, size, seed, bar.update)
    print(f"{counted(images, 'scene')} in {folder}")


@app.command()
@one_line_errors
def split(
    data: Data,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("split.csv"),
    images: Images = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    conflicts: ConflictsOption = None,
    split_file: SplitFile = None,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Split into train, validation and test, 70/15/15, keeping identical photos together."""
    if out.exists() and not overwrite:
        raise SettingsError(f"{out} exists already: name another file with --out, or add --overwrite")
    dataset = read(data, images, image_column, label_column, conflicts)
    parts = pt.split(dataset, seed=seed, given=split_file)
    pt.write_split(out, *parts)
    width = max(map(len, dataset.labels))
    print(f"\n{'':{width}}  " + "  ".join(f"{name:>17}" for name in PARTS))
    print(f"{'images':{width}}  " + "  ".join(_share(len(part), len(dataset)) for part in parts))
    for j, label in enumerate(dataset.labels):
        total = int((dataset.targets[:, j] == 1).sum())
        print(f"{label:{width}}  " + "  ".join(_share(int((p.targets[:, j] == 1).sum()), total) for p in parts))
    straddling = pt.leaks(parts)
    print(f"\n{counted(straddling, 'picture')} in more than one part; written to {out}")


def _share(count: int, total: int) -> str:
    return f"{count:>8,} ({count / max(1, total):6.1%})"


@app.command()
@one_line_errors
def train(
    data: Data,
    model: Annotated[str, typer.Option(help=f"One of {', '.join(MODEL_NAMES)}.")] = "transfer",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the bundle; otherwise named after data and model.")
    ] = None,
    images: Images = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    conflicts: ConflictsOption = None,
    split_file: SplitFile = None,
    image_size: ImageSize = 224,
    epochs: Epochs = None,
    trials: Trials = None,
    fine_tune: FineTune = None,
    weights: Weights = None,
    seed: Seed = 0,
) -> None:
    """Train one model on the data's training part; its test part stays unseen, for `evaluate`."""
    out = out or Path(f"{data.resolve().stem}-{model}")
    settings = _settings(image_size, epochs, trials, fine_tune, weights)
    recipe = pt.Recipe.of(model, seed=seed, **settings)
    if out.exists():
        raise SettingsError(f"{out} exists already: name another folder with --out")
    dataset = read(data, images, image_column, label_column, conflicts)
    parts = pt.split(dataset, seed=seed, given=split_file)
    bundle = pt.fit(parts[0], parts[1], model, out=out, seed=seed, **settings)
    score = bundle.manifest["validation"]
    print(
        f"{recipe.model}: validation mAP {score['mean_average_precision']:.3f}, samples-F1 {score['samples_f1']:.3f}, "
        f"fit in {bundle.manifest['fit_seconds']:.0f} s\n{out}"
    )


@app.command()
@one_line_errors
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    data: Data,
    images: Images = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    conflicts: ConflictsOption = None,
) -> None:
    """Judge a bundle on photos that it has not seen; those that it has seen are left out."""
    opened = pt.Bundle(bundle)
    print(pt.evaluate(opened, read(data, images, image_column, label_column, conflicts)))


@app.command()
@one_line_errors
def tag(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    images: Annotated[list[str], typer.Argument(help="Photos.")],
) -> None:
    """Print the labels of photos, with their probabilities."""
    opened = pt.Bundle(bundle)
    failed = 0
    for image in images:
        try:
            labels = opened.tag(image)
        except pt.ImageError as error:
            failed += 1
            print(f"{image}: {error}", file=sys.stderr)
        else:
            print(f"{image}: " + (", ".join(f"{name} {p:.2f}" for name, p in labels.items()) or "(no label)"))
    if failed == len(images):
        raise PolytagError(f"none of {counted(failed, 'photo')} could be read")


@app.command()
@one_line_errors
def compare(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    models: Annotated[str, typer.Option(help="Which to compare, separated by commas.")] = ",".join(MODEL_NAMES),
    images: Images = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    conflicts: ConflictsOption = None,
    split_file: SplitFile = None,
    image_size: ImageSize = 224,
    epochs: Epochs = None,
    trials: Trials = None,
    fine_tune: FineTune = None,
    weights: Weights = None,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
) -> None:
    """Train several models and compare them on the same unseen photos: the main job."""
    comparison = pt.compare(
        read(data, images, image_column, label_column, conflicts),
        out,
        [name.strip() for name in models.split(",") if name.strip()],
        seed=seed,
        given_split=split_file,
        resume=resume,
        overwrite=overwrite,
        say=lambda line: print(line, flush=True),
        **_settings(image_size, epochs, trials, fine_tune, weights),
    )
    rows = table(comparison.contest)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\n{comparison.contest.answer()}\n")
    for pair in comparison.contest.pairs:
        for d in pair.differences:
            print(f"{pair.a} − {pair.b}: {d.metric} {d.difference:+.3f} (95 % interval {d.low:+.3f} to {d.high:+.3f})")
    print(f"\n{comparison.report}")


def _settings(
    image_size: int, epochs: int | None, trials: int | None, fine_tune: int | None, weights: Path | None
) -> dict[str, Any]:
    return {
        "image_size": image_size,
        "epochs": epochs,
        "trials": trials,
        "fine_tune": fine_tune,
        "weights": None if weights is None else str(weights),
    }


def main() -> None:
    """Entry point of the command `polytag`."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a sign must not end a run after hours of training.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()

"""Commands that train, judge and use models."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import polytag as pt
from polytag.cli.app import (
    ConflictsOption,
    Data,
    Epochs,
    FineTune,
    ImageColumn,
    Images,
    ImageSize,
    LabelColumn,
    Overwrite,
    Seed,
    SplitFile,
    Trials,
    Weights,
    app,
    one_line_errors,
    read,
)
from polytag.data.progress import progress_bar
from polytag.errors import PolytagError, SettingsError, counted
from polytag.evaluation.contest import table
from polytag.models.recipe import ALL_MODELS, MODEL_NAMES


@app.command()
@one_line_errors
def train(
    data: Data,
    model: Annotated[str, typer.Option(help=f"One of {', '.join(ALL_MODELS)}.")] = "transfer",
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
    out = out or Path(f"{Path(data).resolve().stem}-{model}")
    settings = _settings(image_size, epochs, trials, fine_tune, weights)
    recipe = pt.Recipe.of(model, seed=seed, **settings)
    if out.exists():
        raise SettingsError(f"{out} exists already: name another folder with --out")
    dataset = read(data, images, image_column, label_column, conflicts)
    with progress_bar(len(dataset), "looking for copies", "photo") as bar:
        parts = pt.split(dataset, seed=seed, given=split_file, on_progress=bar.update)
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
    models: Annotated[
        str, typer.Option(help=f"Which to compare, separated by commas: of {', '.join(ALL_MODELS)}.")
    ] = ",".join(MODEL_NAMES),
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
    overwrite: Overwrite = False,
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

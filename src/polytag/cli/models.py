"""Commands that train models and test them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import polytag as pt
from polytag.cli.app import BundleFolder, Data, Overwrite, SplitFile, command, load, note
from polytag.data.reading.options import ReadOptions
from polytag.evaluation.min_photos import MIN_PHOTOS
from polytag.evaluation.objectives import aim
from polytag.extras import require
from polytag.models.options import TrainOptions, check_training
from polytag.models.recipe import ALL_MODELS, MODEL_NAMES, SEARCHED
from polytag.progress import progress_bar

if TYPE_CHECKING:
    from polytag.comparison.compare import Comparison
    from polytag.models.bundle.bundle import Bundle

MinPhotos = Annotated[int, typer.Option(min=1, help="Minimum test photos for a label to count in mAP and macro-F1.")]


@command("Models")
def train(
    data: Data,
    read: ReadOptions,
    options: TrainOptions,
    model: Annotated[str, typer.Option("--model", "-m", help=f"One of {', '.join(ALL_MODELS)}.")] = "transfer",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the bundle. Default: DATA-MODEL in the current folder."),
    ] = None,
    split_file: SplitFile = None,
) -> None:
    """Train one model without using the test set."""
    out = out or Path(f"{Path(data).resolve().stem}-{model}")
    check_training(model, options)
    from polytag.data.splitting.split import split_facts
    from polytag.models.bundle.bundle import check_unused

    check_unused(out)
    dataset = load(data, read)
    with progress_bar(len(dataset), "looking for duplicates", "photo") as bar:
        parts = pt.split(dataset, seed=options.seed, given=split_file, on_progress=bar.update)
    note(*(f"  {one}" for one in parts[0].notes[len(dataset.notes) :]))
    bundle = pt.fit(parts[0], parts[1], model, options, out=out)
    bundle.record(split=split_facts(dataset, parts, options.seed, split_file) | {"notes": list(parts[0].notes)})
    _print_training(bundle, options)
    print(out)


def _print_training(bundle: "Bundle", options: TrainOptions) -> None:
    from polytag.data.dataset import describe_left_out
    from polytag.evaluation.calibration import in_words
    from polytag.models.bundle.card import quantization_summary

    facts = bundle.manifest
    score = facts["validation"]
    if facts["data"]["labels_left_out"]:
        note(f"  {describe_left_out(facts['data']['labels_left_out'])}")
    print(
        f"{facts['recipe']['model']}: validation mAP {score['mean_average_precision']:.3f}, "
        f"samples-F1 {score['samples_f1']:.3f}, trained in {facts['fit_seconds']:.0f} s\n"
        f"{in_words(**facts['calibration'])}\n"
        f"thresholds: for {aim(options.objective, facts['out_of_reach'])}"
    )
    if options.int8:
        print(quantization_summary(facts["int8"]))


@command("Models")
def evaluate(bundle: BundleFolder, data: Data, read: ReadOptions, min_photos: MinPhotos = MIN_PHOTOS) -> None:
    """Test a bundle on photos it has not seen."""
    require("sklearn", "train", "Evaluation")
    opened = pt.Bundle(bundle)
    print(pt.evaluate(opened, load(data, read), min_photos))


@command("Models")
def compare(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    read: ReadOptions,
    options: TrainOptions,
    models: Annotated[
        list[str], typer.Option("--models", "-m", metavar="<str,...>", help=f"Models, from {', '.join(ALL_MODELS)}.")
    ] = list(MODEL_NAMES),  # noqa: B006
    tune: Annotated[
        list[str],
        typer.Option(
            metavar="<str,...>",
            help=f"Models whose hyperparameters are searched, of {', '.join(SEARCHED)}. Always includes tuned.",
        ),
    ] = ["tuned"],  # noqa: B006
    split_file: SplitFile = None,
    min_photos: MinPhotos = MIN_PHOTOS,
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", show_default=False, help="Continue an interrupted run.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train several models and compare them on unseen photos."""
    require("keras", "train", "Training")
    from polytag.comparison.compare import check_comparison

    check_comparison(out, models, options, tune=tune, resume=resume, overwrite=overwrite)
    comparison = pt.compare(
        load(data, read),
        out,
        models,
        options,
        given_split=split_file,
        tune=tune,
        min_photos=min_photos,
        resume=resume,
        overwrite=overwrite,
        say=note,
    )
    _print_comparison(comparison)


def _print_comparison(comparison: "Comparison") -> None:
    from polytag.comparison.contest import table

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

"""Commands that train and test models."""

import math
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import polytag as pt
from polytag.cli.app import (
    BundleFolder,
    Data,
    Deterministic,
    Device,
    Overwrite,
    SplitFile,
    check_outputs,
    command,
    load,
    note,
)
from polytag.cli.stopping import AGAIN, when_stopped
from polytag.comparison.time_share import LEAST_MINUTES
from polytag.data.reading.options import ReadOptions
from polytag.errors import SettingsError, counted
from polytag.evaluation.min_photos import MIN_PHOTOS
from polytag.evaluation.objectives import OBJECTIVES, aim, parse_objective
from polytag.extras import require
from polytag.files import unfinished
from polytag.models.options import TrainOptions, check_training
from polytag.models.recipe import ALL_MODELS, MODEL_NAMES, SEARCHED
from polytag.models.runtimes.device import use_device
from polytag.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from polytag.comparison.contest import Contest
    from polytag.models.bundle.bundle import Bundle

MinPhotos = Annotated[int, typer.Option(min=1, help="Minimum test photos for a label to count in mAP and macro-F1.")]

Slices = Annotated[
    list[str],
    typer.Option("--slice", metavar="<str,...>", help="Columns, such as camera, whose values are scored separately."),
]


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
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", show_default=False, help="Continue an interrupted training.")
    ] = False,
    device: Device = None,
    deterministic: Deterministic = False,
) -> None:
    """Train one model without using the test set."""
    use_device(device, deterministic)
    start = time.monotonic()
    out = out or Path(f"{Path(data).resolve().stem}-{model}")
    progress = unfinished(out)
    recipe, pretrained = check_training(model, options)
    if advice := options.advice(model):
        note(advice)
    from polytag.data.splitting.split import split_facts
    from polytag.models.bundle.bundle import check_unused
    from polytag.models.encoders.encoder import Encoder
    from polytag.photos.measure import SIDE, measure

    if isinstance(pretrained, Encoder):
        note(pretrained.summary)
    if progress.exists() and not resume:
        raise SettingsError(f"{progress} was left by an interrupted training. Add --resume to continue, or delete it.")
    if progress.exists() and out.exists():
        bundle = pt.Bundle(out)  # The training was killed after its last step.
    else:
        check_unused(out)
        when_stopped(lambda: "Add --resume to continue." if progress.exists() else AGAIN)
        dataset = load(data, read)
        with progress_bar(len(dataset), "looking for duplicates", "photo") as bar:
            # At the usual size, decoding once serves both measuring and training.
            measure(dataset.paths, bar.update, keep_pixels=recipe.image_size == SIDE)
            parts = pt.split(dataset, seed=options.seed, given=split_file)
        note(*(f"  {one}" for one in parts[0].notes[len(dataset.notes) :]))
        bundle = pt.fit(parts[0], parts[1], model, _within(options, start), checkpoints=progress, say=note)
        bundle.record(split=split_facts(dataset, parts, options.seed, split_file) | {"notes": list(parts[0].notes)})
        bundle = bundle.save(out)
    shutil.rmtree(progress)
    _print_training(bundle, options)
    print(out)


def _within(options: TrainOptions, start: float) -> TrainOptions:
    """Return the options without the minutes that have passed since ``start``, a value of `time.monotonic`."""
    if options.minutes is None:
        return options
    return options.override({"minutes": max(options.minutes - (time.monotonic() - start) / 60, LEAST_MINUTES)})


def _print_training(bundle: "Bundle", options: TrainOptions) -> None:
    from polytag.data.dataset import describe_left_out
    from polytag.evaluation.reliability import in_words
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
def evaluate(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="Folders of bundles. Several are compared.")],
    data: Data,
    read: ReadOptions,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="New folder for report, results and predictions.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the results, as JSON.")] = None,
    split_file: SplitFile = None,
    part: Annotated[
        Literal["train", "validation", "test"] | None,
        typer.Option(metavar="<str>", help="Part to test on: train, validation or test. Default: all photos."),
    ] = None,
    engine: Annotated[
        list[str], typer.Option(metavar="<str,...>", help="What runs the models: float32, int8 or both.")
    ] = ["float32"],  # noqa: B006
    min_photos: MinPhotos = MIN_PHOTOS,
    slices: Slices = [],  # noqa: B006
) -> None:
    """Test bundles on photos they have not seen."""
    require("sklearn", "train", "Evaluation")
    from polytag.comparison.contest import results
    from polytag.comparison.retest import open_bundles, part_of, retest, write_evaluation
    from polytag.files import write_json
    from polytag.models.bundle.bundle import check_unused

    opened = open_bundles(bundles, engine)
    check_outputs([json_file], [data, split_file, *bundles], overwrite=False)
    if out is not None:
        check_unused(out)
    dataset = part_of(load(data, read.override({"slice": slices})), part, split_file)
    contest = retest(opened, dataset, min_photos)
    if json_file is not None:
        write_json(json_file, results(contest))
    report = None if out is None else write_evaluation(out, contest, dataset)
    if len(opened) == 1:
        print(contest.contestants[0].evaluation)
    else:
        _print_contest(contest)
        for line in contest.contestants[0].evaluation.notes:
            print(line)
    _print_slices(contest)
    if report is not None:
        print(f"\n{report}")


@command("Models")
def thresholds(
    bundle: BundleFolder,
    read: ReadOptions,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="Photos to choose on: the data that the model was trained on, or any for labels without training.",
        ),
    ] = None,
    objective: Annotated[str | None, typer.Option(help=f"What to choose for: {OBJECTIVES}.")] = None,
    by_hand: Annotated[
        list[str], typer.Option("--set", metavar="<label=value,...>", help="Threshold of a label, such as dog=0.4.")
    ] = [],  # noqa: B006
    split_file: SplitFile = None,
    part: Annotated[
        Literal["validation", "test"] | None,
        typer.Option(metavar="<str>", help="Part to choose on: validation or test. Default: the bundle's validation."),
    ] = None,
) -> None:
    """Change the thresholds of a bundle without training."""
    require("sklearn", "train", "Choosing thresholds")
    from polytag.comparison.retest import part_of
    from polytag.models.bundle import rethreshold

    if objective is not None:
        parse_objective(objective)
    if (data is None) != (objective is None) or (data is None and not by_hand):
        raise SettingsError("Name DATA and --objective to choose thresholds, or --set to set some by hand.")
    opened = pt.Bundle(bundle)
    chosen = rethreshold.by_hand(opened.labels, by_hand)
    before, tested = opened.thresholds, "test" in opened.manifest
    if data is not None and objective is not None:
        dataset = load(data, read)
        if split_file is None and part is None:
            photos = rethreshold.validation_photos(opened, dataset)
            which = "the validation set" if opened.is_trained else f"all photos of {dataset.title}"
        else:
            part = part or "validation"
            photos, which = part_of(dataset, part, split_file), f"the {part} part of {dataset.title}"
        note(*(f"  {one}" for one in rethreshold.choose_anew(opened, photos, objective, which)))
    if chosen:
        rethreshold.set_thresholds(opened, chosen)
    _print_thresholds(opened, before)
    removed = "Test scores of the old thresholds were removed from the bundle. Test it again" if tested else "Test it"
    note(f"{removed} with polytag evaluate.")


def _print_thresholds(bundle: "Bundle", before: "NDArray[np.float32]") -> None:
    width = max(map(len, bundle.labels))
    print(f"{'label':{width}}  before  now")
    for label, old, new in zip(bundle.labels, before, bundle.thresholds, strict=True):
        print(f"{label:{width}}  {old:6.3f}  {new:.3f}")
    facts = bundle.manifest
    if "objective" in facts:
        print(f"\nthresholds: for {aim(facts['objective'], facts.get('out_of_reach', ()))}")


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
    slices: Slices = [],  # noqa: B006
    repeats: Annotated[
        int, typer.Option(help="Number of splits and trainings. Scores become means, with their spread.")
    ] = 1,
    fewer_repeats: Annotated[
        list[str], typer.Option(metavar="<str,...>", help="Models with fewer repeats, such as tuned=1,baseline=2.")
    ] = [],  # noqa: B006
    resume: Annotated[
        bool,
        typer.Option("--resume", metavar="", show_default=False, help="Continue an interrupted run, or add repeats."),
    ] = False,
    overwrite: Overwrite = False,
    device: Device = None,
    deterministic: Deterministic = False,
) -> None:
    """Train several models and compare them on unseen photos."""
    use_device(device, deterministic)
    start = time.monotonic()
    require("keras", "train", "Training")
    from polytag.comparison.plan import check_comparison
    from polytag.comparison.run_folder import RUN_FILE
    from polytag.models.encoders.encoder import Encoder

    how: dict[str, Any] = {
        "tune": tune,
        "repeats": repeats,
        "fewer_repeats": dict(map(_number_of_repeats, fewer_repeats)),
        "resume": resume,
        "overwrite": overwrite,
    }
    plan = check_comparison(out, models, options, **how)
    note(*dict.fromkeys(one.summary for one in plan.weights.values() if isinstance(one, Encoder)))
    when_stopped(lambda: "Add --resume to continue." if (out / RUN_FILE).exists() else AGAIN)
    dataset = load(data, read.override({"slice": slices}))
    comparison = pt.compare(
        dataset, out, models, _within(options, start), given_split=split_file, say=note, min_photos=min_photos, **how
    )
    _print_contest(comparison.contest)
    _print_slices(comparison.contest)
    print(f"\n{comparison.report}")


def _number_of_repeats(text: str) -> tuple[str, int]:
    """Parse an entry such as "tuned=1" into a model and its number of repeats."""
    model, _, number = text.partition("=")
    if not number.isdecimal():
        raise pt.SettingsError(f"fewer repeats must be like tuned=1, not '{text}'")
    return model, int(number)


def _print_contest(contest: "Contest") -> None:
    from polytag.comparison.contest import table

    rows = table(contest)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\n{contest.answer()}\n")
    for pair in contest.pairs:
        for d in pair.differences:
            if math.isnan(d.difference):
                continue
            ends = f" (95% interval {d.low:+.3f} to {d.high:+.3f})" if math.isfinite(d.low) else ""
            print(f"{pair.a} − {pair.b}: {d.metric} {d.difference:+.3f}{ends}")


def _print_slices(contest: "Contest") -> None:
    """Print the slices that differ by more than chance."""
    for one in contest.slice_scores():
        if one.beyond_chance:
            print(
                f"{one.column} {one.value} ({counted(one.photos, 'photo')}): samples-F1 {one.score:.3f}, "
                f"{one.difference:+.3f} from the other photos (95% interval {one.low:+.3f} to {one.high:+.3f})"
            )

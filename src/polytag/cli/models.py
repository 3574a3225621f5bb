"""Commands that train and judge models."""

from pathlib import Path
from typing import Annotated, Any

import typer

import polytag as pt
from polytag.cli.app import (
    Backbone,
    BundleFolder,
    ConflictsOption,
    Data,
    Epochs,
    FineTune,
    ImageColumn,
    Images,
    ImageSize,
    Int8,
    LabelColumn,
    Loss,
    Objective,
    Overwrite,
    Seed,
    SplitFile,
    Timeout,
    Trials,
    Weights,
    Workers,
    app,
    one_line_errors,
    read,
)
from polytag.errors import SettingsError
from polytag.evaluation.objectives import aim, parse_objective
from polytag.models.recipe import ALL_MODELS, MODEL_NAMES, SEARCHED, takes
from polytag.progress import progress_bar


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
    timeout: Timeout = None,
    workers: Workers = 1,
    backbone: Backbone = None,
    fine_tune: FineTune = None,
    loss: Loss = None,
    weights: Weights = None,
    objective: Objective = "f1",
    int8: Int8 = False,
    seed: Seed = 0,
) -> None:
    """Train one model on the data's training part; its test part stays unseen, for `evaluate`."""
    from polytag.data.splitting.split import split_facts
    from polytag.evaluation.calibration import in_words
    from polytag.models.backbones.weights import find_weights
    from polytag.models.quantization.onnx import in_8_bits
    from polytag.models.runtimes.openvino import check_openvino
    from polytag.models.search.search import check_effort

    out = out or Path(f"{Path(data).resolve().stem}-{model}")
    settings = _settings(image_size, epochs, backbone, fine_tune, loss)
    recipe = pt.Recipe.of(model, seed=seed, **settings)
    parse_objective(objective)
    check_effort(trials, _seconds(timeout), workers)
    if int8:
        check_openvino()
    if takes(model, "backbone"):
        find_weights(weights, recipe.backbone)
    if out.exists():
        raise SettingsError(f"{out} exists already: name another folder with --out")
    dataset = read(data, images, image_column, label_column, conflicts)
    with progress_bar(len(dataset), "looking for copies", "photo") as bar:
        parts = pt.split(dataset, seed=seed, given=split_file, on_progress=bar.update)
    bundle = pt.fit(
        parts[0],
        parts[1],
        model,
        weights=weights,
        int8=int8,
        trials=trials,
        timeout=_seconds(timeout),
        workers=workers,
        objective=objective,
        out=out,
        seed=seed,
        **settings,
    )
    bundle.record(split=split_facts(dataset, parts, seed, split_file) | {"notes": list(parts[0].notes)})
    score = bundle.manifest["validation"]
    print(
        f"{recipe.model}: validation mAP {score['mean_average_precision']:.3f}, samples-F1 {score['samples_f1']:.3f}, "
        f"fit in {bundle.manifest['fit_seconds']:.0f} s\n"
        f"{in_words(**bundle.manifest['calibration'])}\n"
        f"thresholds: for {aim(objective, bundle.manifest['out_of_reach'])}"
    )
    if int8:
        print(in_8_bits(bundle.manifest["int8"]))
    print(out)


@app.command()
@one_line_errors
def evaluate(
    bundle: BundleFolder,
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
def compare(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    models: Annotated[
        str, typer.Option(help=f"Which to compare, separated by commas: of {', '.join(ALL_MODELS)}.")
    ] = ",".join(MODEL_NAMES),
    tune: Annotated[
        str, typer.Option(help=f"Whose hyperparameters to search, of {', '.join(SEARCHED)}; tuned always is.")
    ] = "tuned",
    images: Images = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    conflicts: ConflictsOption = None,
    split_file: SplitFile = None,
    image_size: ImageSize = 224,
    epochs: Epochs = None,
    trials: Trials = None,
    timeout: Timeout = None,
    workers: Workers = 1,
    backbone: Backbone = None,
    fine_tune: FineTune = None,
    loss: Loss = None,
    weights: Weights = None,
    objective: Objective = "f1",
    int8: Int8 = False,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train several models and compare them on the same unseen photos: the main job."""
    from polytag.comparison.contest import table

    comparison = pt.compare(
        read(data, images, image_column, label_column, conflicts),
        out,
        _names(models),
        objective=objective,
        seed=seed,
        given_split=split_file,
        tune=_names(tune),
        trials=trials,
        timeout=_seconds(timeout),
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        say=lambda line: print(line, flush=True),
        weights=weights,
        int8=int8,
        **_settings(image_size, epochs, backbone, fine_tune, loss),
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


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else 60 * minutes


def _settings(
    image_size: int, epochs: int | None, backbone: str | None, fine_tune: int | None, loss: str | None
) -> dict[str, Any]:
    return {"image_size": image_size, "epochs": epochs, "backbone": backbone, "fine_tune": fine_tune, "loss": loss}

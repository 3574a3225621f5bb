"""Commands that train and judge models."""

from pathlib import Path
from typing import Annotated, Any

import typer

import polytag as pt
from polytag.cli.app import BundleFolder, Data, Overwrite, Seed, SplitFile, command, load, note
from polytag.data.reading.options import ReadOptions
from polytag.errors import SettingsError
from polytag.evaluation.objectives import OBJECTIVES, aim, parse_objective
from polytag.models.recipe import ALL_MODELS, LOSS_NAMES, MODEL_NAMES, SEARCHED, takes
from polytag.progress import progress_bar

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
Int8 = Annotated[
    bool, typer.Option("--int8", help="Make a twin in 8 bits too, which tags faster; kept if it loses next to nothing.")
]
Objective = Annotated[str, typer.Option(help=f"What thresholds are for: {OBJECTIVES}.")]


@command("Models")
def train(
    data: Data,
    read: ReadOptions,
    model: Annotated[str, typer.Option(help=f"One of {', '.join(ALL_MODELS)}.")] = "transfer",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the bundle; otherwise named after data and model.")
    ] = None,
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
    """Train one model. The test set stays unseen."""
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
    dataset = load(data, read)
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


@command("Models")
def evaluate(
    bundle: BundleFolder,
    data: Data,
    read: ReadOptions,
) -> None:
    """Test a bundle on photos it has not seen."""
    opened = pt.Bundle(bundle)
    print(pt.evaluate(opened, load(data, read)))


@command("Models")
def compare(
    data: Data,
    read: ReadOptions,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    models: Annotated[
        str, typer.Option(help=f"Which to compare, separated by commas: of {', '.join(ALL_MODELS)}.")
    ] = ",".join(MODEL_NAMES),
    tune: Annotated[
        str, typer.Option(help=f"Whose hyperparameters to search, of {', '.join(SEARCHED)}; tuned always is.")
    ] = "tuned",
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
    """Train several models and compare them on unseen photos."""
    from polytag.comparison.contest import table

    comparison = pt.compare(
        load(data, read),
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
        say=note,
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

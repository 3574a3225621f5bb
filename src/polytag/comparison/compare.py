"""The main job: split once, train several models, test each once on the same photos, write a report.

The run's folder fills step by step (``split.csv``, one bundle per model, then results and report), so an interrupted
run continues with what is missing.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from polytag.comparison.contest import Contest, Contestant, pairs, results
from polytag.comparison.report import write_report
from polytag.data.dataset import PARTS, Dataset, describe_left_out
from polytag.data.splitting.groups import leaks
from polytag.data.splitting.learnable import check_learnable, learnable
from polytag.data.splitting.split import split, split_facts
from polytag.data.splitting.split_file import with_split, write_split
from polytag.errors import DataError, SettingsError, counted, raise_machine_error
from polytag.evaluation.evaluate import evaluate
from polytag.evaluation.min_photos import MIN_PHOTOS, check_min_photos
from polytag.evaluation.slices import automatic_slices
from polytag.files import write_json
from polytag.models.backbones.weights import Weights
from polytag.models.bundle.bundle import Bundle, check_unused
from polytag.models.bundle.card import quantization_summary
from polytag.models.options import DEFAULT_TRIALS, TrainOptions, check_training
from polytag.models.recipe import ALL_MODELS, MODEL_NAMES, SEARCHED, takes
from polytag.photos.measure import measure
from polytag.photos.pixels import pixels
from polytag.progress import progress_bar

RUN_FILE = "run.json"
"""The settings of a run. The file marks a folder as written by polytag."""


@dataclass(frozen=True)
class Comparison:
    """A finished run: its folder and its results."""

    folder: Path
    contest: Contest

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / "report.html"

    def bundle(self, model: str) -> Bundle:
        """The bundle of one model."""
        return Bundle(self.folder / model)


def compare(
    data: Dataset,
    out: str | os.PathLike[str],
    models: Sequence[str] = MODEL_NAMES,
    options: TrainOptions | None = None,
    *,
    given_split: str | os.PathLike[str] | None = None,
    tune: Sequence[str] = ("tuned",),
    min_photos: int = MIN_PHOTOS,
    resume: bool = False,
    overwrite: bool = False,
    show_progress: bool = True,
    say: Callable[[str], object] = lambda line: None,
    **settings: Any,
) -> Comparison:
    """Train models and compare them on the same unseen photos.

    Labels that are too rare to learn are left out and named.

    Args:
        data: the photos.
        out: the run's folder. It must not exist, unless ``resume`` or ``overwrite`` is set.
        models: names of the models, in the order of the table.
        options: how to train; each model takes the options that mean something to it. Default: ``TrainOptions()``.
        given_split: a file such as ``split.csv``, to use its split.
        tune: models whose hyperparameters are searched; "tuned" always is.
        min_photos: test photos that a label needs to count in mAP and macro-F1. Labels with fewer are reported apart.
        resume: continue an interrupted run. The data and the settings must be the same.
        overwrite: replace an earlier run.
        show_progress: draw progress bars on stderr.
        say: called with one line of plain text per step.
        settings: fields of `TrainOptions` that override ``options``: ``epochs=5``, ``timeout="10m"``, …

    Raises:
        SettingsError: a setting or the folder cannot be used.
        DataError: no label can be learned from the data.
        WeightsError: pretrained weights are missing (transfer and the classical methods).
    """
    check_min_photos(min_photos)
    options = (options or TrainOptions()).override(settings)
    folder = Path(out)
    plan, weights, started = check_comparison(folder, models, options, tune=tune, resume=resume, overwrite=overwrite)
    check_learnable(data)
    if given_split is not None:
        with_split(data, given_split)
    _check_backbone(plan, weights, folder, resume)
    data = _read(data, options.image_size, show_progress, say)
    with progress_bar(len(data), "looking for duplicates", "photo", show_progress) as bar:
        parts, notes = _parts(data, options.seed, given_split, bar.update)
    train, validation, test = parts
    if train.labels_left_out:
        say(describe_left_out(train.labels_left_out))
    request = _request(data, parts, models, tune, options, weights) | {"min_photos": min_photos}
    _prepare(folder, request, started if resume else None)
    write_split(folder / "split.csv", *parts)
    say("split: " + ", ".join(f"{len(part):,} {name}" for name, part in zip(PARTS, parts, strict=True)))

    contestants = []
    for model in models:
        bundle = _train(train, validation, model, plan[model], folder, show_progress, say)
        split_record = split_facts(data, parts, options.seed, given_split) | {"notes": notes}
        contestants.append(_test(bundle, test, model, split_record, min_photos))
        say(f"{model}: test samples-F1 {contestants[-1].evaluation.scores['samples_f1']:.3f}")
    if rarity := contestants[0].evaluation.rarity:
        say(rarity)
    contest = _contest(data, parts, notes, contestants, options.seed)
    write_json(folder / "results.json", results(contest))
    write_report(folder, contest, dict(zip(test.names, test.paths, strict=True)))
    return Comparison(folder, contest)


def check_comparison(
    out: str | os.PathLike[str],
    models: Sequence[str],
    options: TrainOptions,
    *,
    tune: Sequence[str] = ("tuned",),
    resume: bool = False,
    overwrite: bool = False,
) -> tuple[dict[str, TrainOptions], Weights | None, dict[str, Any] | None]:
    """Refuse a comparison that cannot work, before any photo is read. Arguments are those of `compare`.

    Returns:
        The options of each model, the weights of the backbone if a model has one, and the settings of the run that
        the folder already holds, if there is one.

    Raises:
        SettingsError: a setting or the folder cannot be used, or a package is missing.
        WeightsError: the weights file is missing or of another kind.
    """
    unknown = [model for model in models if model not in ALL_MODELS]
    if unknown:
        raise SettingsError(f"each model must be one of {', '.join(ALL_MODELS)}, not '{unknown[0]}'")
    if not models or len(set(models)) < len(models):
        raise SettingsError(f"name each model once, of {', '.join(ALL_MODELS)}; got {', '.join(models) or 'none'}")
    _check_use(models, tune, options)
    plan = {model: _options_for(model, options, tune) for model in models}
    weights = [check_training(model, plan[model])[1] for model in models]
    return plan, next(filter(None, weights), None), _started(Path(out), resume, overwrite)


def _options_for(model: str, options: TrainOptions, tune: Sequence[str]) -> TrainOptions:
    """The options for one model: what it can use, and a search only if it was asked for."""
    options = options.of_use_to(model)
    if model not in (*tune, "tuned"):
        return options.override({"trials": None, "timeout": None})
    return options if options.searches else options.override({"trials": DEFAULT_TRIALS})


def _check_use(models: Sequence[str], tune: Sequence[str], options: TrainOptions) -> None:
    """Refuse names, and options that no model can use."""
    for model in tune:
        if model not in SEARCHED:
            raise SettingsError(f"only {' and '.join(SEARCHED)} can be searched, not '{model}'")
    idle = [model for model in tune if model not in models and model != "tuned"]
    if idle:
        raise SettingsError(f"{idle[0]} cannot be searched without being compared. Add it to the models.")
    if options.searches and not {"tuned", *tune} & set(models):
        raise SettingsError(
            "trials and timeout are for a search, but none of the models is searched. Name one to tune."
        )
    used = {name for model in models for name in options.of_use_to(model).settings}
    useless = [name for name in options.settings if name not in used]
    if options.weights is not None and not any(takes(model, "backbone") for model in models):
        useless.append("weights")
    if useless:
        raise SettingsError(f"{useless[0].replace('_', ' ')} means nothing to {', '.join(models)}. Leave it out.")


def _check_backbone(plan: Mapping[str, TrainOptions], weights: Weights | None, folder: Path, resume: bool) -> None:
    """Find out now whether the weights fit: before an earlier run is replaced and before hours of training."""
    # Imported late, because it loads Keras.
    from polytag.models.backbones.backbone import backbone

    embedding = [model for model in plan if takes(model, "backbone")]
    if weights is not None and not (resume and all((folder / model).exists() for model in embedding)):
        recipe = plan[embedding[0]].recipe(embedding[0])
        backbone(recipe.backbone, recipe.image_size, weights)


def _read(data: Dataset, image_size: int, show_progress: bool, say: Callable[[str], object]) -> Dataset:
    """Measure the photos and cache their pixels. Leave out photos that cannot be read, and say which."""
    with progress_bar(2 * len(data), "reading photos", "photo", show_progress) as bar:
        # The split compares measurements, and measuring also caches pixels of the usual size.
        measure(data.paths, bar.update)
        readable = data.without(pixels(data.paths, image_size, bar.update)[2])
    for line in readable.notes[len(data.notes) :]:
        say(line)
    return readable


def _request(
    data: Dataset,
    parts: Sequence[Dataset],
    models: Sequence[str],
    tune: Sequence[str],
    options: TrainOptions,
    weights: Weights | None,
) -> dict[str, Any]:
    """What a run is asked for: a resumed run must be asked for the same."""
    return {
        "polytag": version("polytag"),
        "models": list(models),
        "objective": options.objective,
        "seed": options.seed,
        "data": data.fingerprint,
        "split": hashlib.sha256(repr([part.names for part in parts]).encode()).hexdigest()[:16],
        "weights": None if weights is None else weights.name,
        "int8": options.int8,
        "tune": sorted({"tuned", *tune} & set(models)),
        "settings": {name: value for name, value in options.settings.items() if name != "seed"},
    }


def _train(
    train: Dataset,
    validation: Dataset,
    model: str,
    options: TrainOptions,
    folder: Path,
    show_progress: bool,
    say: Callable[[str], object],
) -> Bundle:
    """Train a model, or open its bundle if an interrupted run already trained it."""
    from polytag.models.fit import fit

    out = folder / model
    if out.exists():
        say(f"{model}: already trained")
        bundle = Bundle(out)
    else:
        bundle = fit(
            train,
            validation,
            model,
            options,
            out=out,
            search_log=folder / "search.log",
            show_progress=show_progress,
        )
    if options.int8:
        say(quantization_summary(bundle.manifest["int8"]))
    return bundle


def _test(bundle: Bundle, test: Dataset, model: str, split_record: Mapping[str, Any], min_photos: int) -> Contestant:
    """Evaluate a model on the test photos, record the result in its bundle, and return what the report needs."""
    evaluation = evaluate(bundle, test, min_photos)
    bundle.record(
        test={name: value for name, value in evaluation.scores.items() if value == value},
        tested=evaluation.recorded(),
        split=split_record,
    )
    facts = bundle.manifest
    return Contestant(
        name=model,
        evaluation=evaluation,
        validation_accuracy=facts["validation_accuracy"],
        trainable_parameters=facts["trainable_parameters"],
        parameters=facts["parameters"],
        fit_seconds=facts["fit_seconds"],
        validation_score=facts["validation"]["mean_average_precision"] or 0.0,
        history=facts["history"],
        kept_epoch=facts.get("kept_epoch"),
        trials=facts.get("trials", ()),
        recipe=facts["recipe"],
        importance=facts.get("importance", {}),
        calibration=facts["calibration"],
        objective=facts["objective"],
        out_of_reach=facts["out_of_reach"],
    )


def _contest(
    data: Dataset, parts: Sequence[Dataset], notes: Sequence[str], contestants: Sequence[Contestant], seed: int
) -> Contest:
    # Photos may have become unreadable since the split.
    judged = parts[2].take(np.isin(parts[2].names, contestants[0].evaluation.names))
    return Contest(
        data_name=data.title,
        images=len(data),
        labels=parts[0].labels,
        fingerprint=data.fingerprint,
        parts={name: len(part) for name, part in zip(PARTS, parts, strict=True)},
        notes=tuple(notes),
        left_out=data.left_out,
        labels_left_out=parts[0].labels_left_out,
        contestants=tuple(contestants),
        pairs=pairs(contestants),
        version=version("polytag"),
        seed=seed,
        slices=automatic_slices(measure(judged.paths).records, judged.targets),
    )


def _parts(
    data: Dataset, seed: int, given_split: str | os.PathLike[str] | None, on_progress: Callable[[int], object]
) -> tuple[tuple[Dataset, Dataset, Dataset], list[str]]:
    """Split, and return train, validation and test with notes about them."""
    from polytag.models.fit import check_validation

    train, validation, test = split(data, seed=seed, given=given_split, on_progress=on_progress)
    notes = list(train.notes)
    if given_split is not None:
        notes.append(f"split taken from {Path(given_split).name}")
    straddling = leaks((train, validation, test))
    if straddling:
        seen = np.isin(test.groups, np.concatenate([train.groups, validation.groups]))
        notes.append(
            f"{counted(straddling.groups, 'group')} of photos in more than one part of the given split: "
            f"{counted(int(seen.sum()), 'test image')} of these groups left out"
        )
        test = test.take(~seen)
        if not len(test):
            raise DataError(
                "every test image of the given split belongs to a group with photos in another part. Split without it."
            )
    train, validation = learnable(train, validation)
    test = test.without_labels(train.labels_left_out)
    check_validation(validation)
    return (train, validation, test), notes


def _started(folder: Path, resume: bool, overwrite: bool) -> dict[str, Any] | None:
    """Return what the run in this folder was asked for, ``None`` if there is no run. Nothing is changed."""
    if resume and overwrite:
        raise SettingsError("--resume and --overwrite exclude each other. Choose one.")
    if not folder.exists():
        check_unused(folder)
        return None
    try:
        if folder.is_dir() and not any(folder.iterdir()):
            return None
        started = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise_machine_error(error)
        started = None
    if not isinstance(started, dict) or not {"polytag", "models", "data", "split"} <= started.keys():
        raise SettingsError(f"{folder} exists and is not a run of polytag. Name another folder with --out.")
    if not resume and not overwrite:
        raise SettingsError(f"{folder} already holds a run. Add --resume to continue it, or --overwrite to replace it.")
    return started


def _prepare(folder: Path, request: dict[str, Any], started: dict[str, Any] | None) -> None:
    """Check that a resumed run is the same, or make room for a new one. Only files of polytag are removed."""
    if started is not None:
        changed = [name for name in request if started.get(name) != request[name]]
        if changed:
            raise SettingsError(
                f"{folder} was started with other {', '.join(changed)}. Repeat its settings, or add --overwrite."
            )
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for model in ALL_MODELS:
            for leftover in (folder / model, *folder.glob(f".{model}.*")):
                if (leftover / "bundle.json").exists() or leftover.name.startswith("."):
                    shutil.rmtree(leftover)
        for name in ("results.json", "report.html", "report.md", "search.log", "split.csv"):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written ({error.strerror}). Name another place with --out.") from None
    write_json(folder / RUN_FILE, request)

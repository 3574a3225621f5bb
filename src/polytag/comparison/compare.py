"""The main job: split once, train several models, judge each once on the same test photos, report.

The run's folder fills as it goes (``split.csv``, a bundle for each model, then results and report), so a
run that was stopped goes on with what is missing.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from polytag.comparison.contest import Contest, Contestant, pairs, results
from polytag.comparison.report import write_report
from polytag.data.dataset import Dataset
from polytag.data.splitting.groups import leaks
from polytag.data.splitting.split import check_learnable, split, split_facts
from polytag.data.splitting.split_file import read_split, write_split
from polytag.data.splitting.stratify import PARTS
from polytag.errors import DataError, SettingsError, counted
from polytag.evaluation.evaluate import evaluate
from polytag.evaluation.objectives import parse_objective
from polytag.files import write_json
from polytag.models.backbones.weights import find_weights
from polytag.models.bundle.bundle import Bundle, free
from polytag.models.quantization.onnx import in_8_bits
from polytag.models.recipe import ALL_MODELS, MODEL_NAMES, SEARCHED, Recipe, takes
from polytag.models.runtimes.openvino import check_openvino
from polytag.models.search.search import DEFAULT_TRIALS, check_effort
from polytag.photos.measure import measure
from polytag.photos.pixels import pixels
from polytag.progress import progress_bar

RUN_FILE = "run.json"
"""What a run was asked for; its presence marks a folder as polytag's own."""


@dataclass(frozen=True)
class Comparison:
    """A finished run: its folder and what came out of it."""

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
    *,
    objective: str = "f1",
    seed: int = 0,
    given_split: str | os.PathLike[str] | None = None,
    tune: Sequence[str] = ("tuned",),
    trials: int | None = None,
    timeout: float | None = None,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    weights: str | Path | None = None,
    int8: bool = False,
    show_progress: bool = True,
    say=lambda line: None,
    **settings: Any,
) -> Comparison:
    """Train models and compare them on the same unseen photos.

    Args:
        data: the photos.
        out: the run's folder; it must not exist, or ``resume`` or ``overwrite`` says what to do.
        models: which approaches, in the order of the table.
        objective: what thresholds are for: "f1", "subset", "precision=0.9" or "recall=0.9".
        seed: of the split and of all training.
        given_split: a file such as ``split.csv``, to use its split.
        tune: models whose hyperparameters are searched; "tuned" always is.
        trials, timeout, workers: of each search, as in `fit`.
        resume: go on with a run that was stopped; the data and the settings must be the same.
        overwrite: replace an earlier run.
        weights: a file of pretrained weights; ``None`` to find them.
        int8: make twins in 8 bits too, as in `fit`.
        show_progress: draw progress bars on stderr.
        say: called with a line of plain words now and then.
        settings: fields of `Recipe` for every model that has them: image_size, epochs, …

    Raises:
        SettingsError: a setting or the folder cannot be used.
        DataError: the data cannot be learned from.
        WeightsError: there are no pretrained weights (transfer and the classical methods).
    """
    if not models or len(set(models)) < len(models):
        raise SettingsError(f"name each model once, of {', '.join(ALL_MODELS)}; got {', '.join(models) or 'none'}")
    parse_objective(objective)
    recipes = {model: Recipe.of(model, seed=seed, **_for_model(model, settings)) for model in models}
    check_effort(trials, timeout, workers)
    if int8:
        check_openvino()
    _check_use(models, tune, trials is not None or timeout is not None, weights, settings)
    folder = Path(out)
    started = _started(folder, resume, overwrite)
    check_learnable(data)
    embedding = [model for model in models if takes(model, "backbone")]
    found = find_weights(weights, recipes[embedding[0]].backbone) if embedding else None
    if given_split is not None:
        read_split(given_split, data)

    # Imported late, since it brings Keras. What cannot work must come to light here, before an earlier run is
    # overwritten and before hours of training.
    from polytag.models.backbones.backbone import backbone
    from polytag.models.fit import check_validation, fit

    image_size = next(iter(recipes.values())).image_size
    if found is not None and not (resume and all((folder / model).exists() for model in embedding)):
        backbone(found.backbone, image_size, found)
    with progress_bar(2 * len(data), "reading photos", "photo", show_progress) as bar:
        # The split compares measurements, and measuring leaves pixels of the usual size in the cache.
        measure(data.paths, bar.update)
        data = data.without(pixels(data.paths, image_size, bar.update)[2])
    with progress_bar(len(data), "looking for copies", "photo", show_progress) as bar:
        train, validation, test, notes = _parts(data, seed, given_split, bar.update)
    check_learnable(train)
    check_validation(validation)
    parts = (train, validation, test)
    request = {
        "polytag": version("polytag"),
        "models": list(models),
        "objective": objective,
        "seed": seed,
        "data": data.fingerprint,
        "split": hashlib.sha256(repr([part.names for part in parts]).encode()).hexdigest()[:16],
        "weights": None if found is None else found.name,
        "int8": int8,
        "tune": sorted({"tuned", *tune} & set(models)),
        "settings": {name: value for name, value in settings.items() if value is not None},
    }
    _prepare(folder, request, started if resume else None)
    write_split(folder / "split.csv", *parts)
    say("split: " + ", ".join(f"{len(part):,} {name}" for name, part in zip(PARTS, parts, strict=True)))

    contestants = []
    for model in models:
        where = folder / model
        if where.exists():
            say(f"{model}: already trained")
            bundle = Bundle(where)
        else:
            bundle = fit(
                train,
                validation,
                model,
                objective=objective,
                out=where,
                weights=weights,
                int8=int8,
                **_effort(model, tune, trials=trials, timeout=timeout, workers=workers),
                search_log=folder / "search.log",
                show_progress=show_progress,
                seed=seed,
                **_for_model(model, settings),
            )
        if int8:
            say(in_8_bits(bundle.manifest["int8"]))
        evaluation = evaluate(bundle, test)
        bundle.record(
            test={name: value for name, value in evaluation.scores.items() if value == value},
            tested=evaluation.recorded(),
            split=split_facts(data, parts, seed, given_split) | {"notes": notes},
        )
        facts = bundle.manifest
        contestants.append(
            Contestant(
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
        )
        say(f"{model}: test samples-F1 {evaluation.scores['samples_f1']:.3f}")

    contest = Contest(
        data_name=data.title,
        images=len(data),
        labels=data.labels,
        fingerprint=data.fingerprint,
        parts={name: len(part) for name, part in zip(PARTS, parts, strict=True)},
        notes=tuple(notes),
        left_out=data.left_out,
        contestants=tuple(contestants),
        pairs=pairs(contestants),
        version=version("polytag"),
        seed=seed,
    )
    write_json(folder / "results.json", results(contest))
    write_report(folder, contest, dict(zip(test.names, test.paths, strict=True)))
    return Comparison(folder, contest)


def _for_model(model: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that mean something to a model."""
    return {name: value for name, value in settings.items() if takes(model, name)}


def _check_use(models: Sequence[str], tune: Sequence[str], searching: bool, weights: Any, settings: dict) -> None:
    """Refuse what would have no effect on any of the models."""
    for model in tune:
        if model not in SEARCHED:
            raise SettingsError(f"only {' and '.join(SEARCHED)} can be searched, not '{model}'")
    idle = [model for model in tune if model not in models and model != "tuned"]
    if idle:
        raise SettingsError(f"{idle[0]} cannot be searched without being compared: add it to the models")
    if searching and not {"tuned", *tune} & set(models):
        raise SettingsError("trials and timeout are for a search, and none of the models is searched: name one to tune")
    given = [name for name, value in settings.items() if value is not None]
    for name in [*given, *([] if weights is None else ["backbone"])]:
        if not any(takes(model, name) for model in models):
            what = name.replace("_", " ") if name in given else "weights"
            raise SettingsError(f"{what} means nothing to {', '.join(models)}: leave it out")


def _effort(model: str, tune: Sequence[str], **effort: Any) -> dict[str, Any]:
    """How long the hyperparameters of a model are searched: not at all where nobody asked for it."""
    if model not in (*tune, "tuned"):
        return {}
    if effort["trials"] is None and effort["timeout"] is None:
        effort["trials"] = DEFAULT_TRIALS
    return effort


def _parts(
    data: Dataset, seed: int, given_split: str | os.PathLike[str] | None, on_progress: Callable[[int], object]
) -> tuple[Dataset, Dataset, Dataset, list[str]]:
    """Train, validation and test, and what there is to say about them."""
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
                "every test image of the given split belongs to a group with photos in another part: split without it"
            )
    return train, validation, test, notes


def _started(folder: Path, resume: bool, overwrite: bool) -> dict[str, Any] | None:
    """What the run that is already in the folder was asked for, ``None`` where there is none; nothing is changed."""
    if resume and overwrite:
        raise SettingsError("--resume and --overwrite exclude each other: choose one")
    if not folder.exists():
        free(folder)
        return None
    try:
        if folder.is_dir() and not any(folder.iterdir()):
            return None
        started = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        started = None
    if not isinstance(started, dict) or not {"polytag", "models", "data", "split"} <= started.keys():
        raise SettingsError(f"{folder} exists and is not a run of polytag: name another folder with --out")
    if not resume and not overwrite:
        raise SettingsError(f"{folder} holds a run already: add --resume to go on with it or --overwrite to replace it")
    return started


def _prepare(folder: Path, request: dict[str, Any], started: dict[str, Any] | None) -> None:
    """Go on with the run that was started, or make room for a new one: only what polytag wrote is removed."""
    if started is not None:
        changed = [name for name in request if started.get(name) != request[name]]
        if changed:
            raise SettingsError(
                f"{folder} was started with other {', '.join(changed)}: repeat its settings, or add --overwrite"
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
        raise SettingsError(f"{folder} cannot be written ({error.strerror}): name another place with --out") from None
    write_json(folder / RUN_FILE, request)

"""Training: train and validation data in, a bundle out. Test data never comes here."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from polytag.data.dataset import Dataset
from polytag.data.splitting.split import check_learnable
from polytag.errors import DataError, SettingsError, counted
from polytag.evaluation.calibration import choose_calibration
from polytag.evaluation.metrics import argmax_accuracy, scores
from polytag.evaluation.objectives import parse_objective
from polytag.evaluation.thresholds import choose_thresholds, out_of_reach
from polytag.models.backbones.backbone import backbone
from polytag.models.backbones.weights import find_weights
from polytag.models.bundle.bundle import CORES, INT8_FILE, Bundle, free, write_bundle
from polytag.models.classical.methods import fit_classical
from polytag.models.networks.calibrated import calibrated
from polytag.models.quantization.onnx import CALIBRATION_PHOTOS, MOST_LOST, write_int8
from polytag.models.recipe import SEARCHED, Recipe, takes
from polytag.models.runtimes.openvino import BATCH_SIZE, OpenvinoModel, check_openvino
from polytag.models.search.search import Found, check_effort, search
from polytag.models.search.spaces import SPACES, cnn_score, transfer_score
from polytag.models.training.cnn import fit_cnn
from polytag.models.training.loop import mean_average_precision
from polytag.models.training.transfer import fit_transfer, head_batches
from polytag.photos.content import content_hash
from polytag.photos.decode import each
from polytag.photos.pixels import photo_view, pixels
from polytag.progress import progress_bar


def fit(
    train: Dataset,
    validation: Dataset,
    model: str = "transfer",
    *,
    weights: str | Path | None = None,
    objective: str = "f1",
    out: str | Path | None = None,
    trials: int | None = None,
    timeout: float | None = None,
    workers: int = 1,
    search_log: str | Path | None = None,
    int8: bool = False,
    show_progress: bool = True,
    **settings: Any,
) -> Bundle:
    """Train a model.

    Early stopping, the search for hyperparameters, calibration and thresholds use the validation data; nothing
    else is ever seen. Photos that cannot be read are left out and named in the bundle.

    Args:
        train, validation: photos with the same labels; `polytag.split` makes them.
        model: "baseline", "tuned", "transfer" or a classical method, of `polytag.models.recipe.CLASSICAL`.
        weights: a file of pretrained weights; ``None`` to find them (transfer and the classical methods).
        objective: what thresholds are for: "f1", "subset", "precision=0.9" or "recall=0.9", as
            `polytag.evaluation.thresholds.choose_thresholds` explains.
        out: the bundle's folder, which must not exist; ``None`` for one that lives as long as the object.
        trials, timeout: how many trials to search hyperparameters by, and for how many seconds; with neither,
            "tuned" is searched by `polytag.models.search.search.DEFAULT_TRIALS` and other models are not.
        workers: processes that search at the same time.
        search_log: file in which a search keeps its trials, so that one that was stopped goes on; ``None`` to
            keep none.
        int8: make a twin in 8 bits too, calibrated on training photos; it is kept if its validation mAP is less than
            `polytag.models.quantization.onnx.MOST_LOST` lower, and the bundle's description says so either way.
        show_progress: draw progress bars on stderr.
        settings: fields of `Recipe`: image_size, epochs, fine_tune, seed, …

    Raises:
        SettingsError: a setting is unknown or out of range, ``out`` cannot be written, or 8 bits lack OpenVINO.
        DataError: the data cannot be learned from.
        WeightsError: there are no pretrained weights (transfer and the classical methods).
    """
    recipe = Recipe.of(model, **settings)
    searched = model == "tuned" or trials is not None or timeout is not None
    check_effort(trials, timeout, workers)
    if searched and model not in SEARCHED:
        raise SettingsError(f"{model} is not searched: leave out trials and timeout, or choose {' or '.join(SEARCHED)}")
    if searched and recipe.hyperparameters:
        raise SettingsError(f"hyperparameters are what the search of {model} chooses: leave them out")
    parse_objective(objective)
    if int8:
        check_openvino()
    if out is not None:
        free(out)
    if train.labels != validation.labels:
        raise DataError("train and validation must have the same labels in the same order")
    check_learnable(train)
    check_validation(validation)
    start = time.perf_counter()
    pretrained = find_weights(weights, recipe.backbone) if takes(model, "backbone") else None
    if pretrained is not None:
        # What does not fit must come to light before hours of work.
        backbone(recipe.backbone, recipe.image_size, pretrained)
    elif weights is not None:
        raise SettingsError(f"weights mean nothing to {model}: leave them out")
    with progress_bar(len(train) + len(validation), f"{model} · reading photos", "photo", show_progress) as bar:
        train = train.without(pixels(train.paths, recipe.image_size, bar.update)[2])
        validation = validation.without(pixels(validation.paths, recipe.image_size, bar.update)[2])
    check_learnable(train)
    check_validation(validation)
    # Of what is trained on, whatever becomes of the files meanwhile.
    fingerprint, hashes = train.fingerprint, [content_hash(path) for path in (*train.paths, *validation.paths)]

    found: Found | None = None
    if searched:
        space, first = SPACES[model]
        if pretrained is not None:
            head_batches(train, validation, recipe, pretrained, show_progress)  # embeds, which workers would all do
        found = search(
            train,
            validation,
            recipe,
            space,
            cnn_score if pretrained is None else partial(transfer_score, weights=pretrained),
            first=first,
            asked=[name for name, value in settings.items() if value is not None],
            trials=trials,
            timeout=timeout,
            workers=workers,
            storage=search_log,
            show_progress=show_progress,
        )
        recipe = found.recipe
        start -= found.earlier_seconds
    if pretrained is None:
        trained = fit_cnn(train, validation, recipe, show_progress)
    else:
        fitted = fit_transfer if model == "transfer" else fit_classical
        trained = fitted(train, validation, recipe, pretrained, show_progress)
    if found is not None:
        trained.facts |= {"trials": found.trials, "importance": found.importance}
    calibration, log_losses = choose_calibration(
        validation.targets, trained.probabilities, validation.groups, recipe.seed
    )
    network = calibrated(trained.model, calibration)
    seconds = time.perf_counter() - start
    bundle = write_bundle(
        network,
        {
            "labels": list(train.labels),
            "recipe": trained.recipe.to_json(),
            "data": {
                "train": len(train),
                "validation": len(validation),
                "fingerprint": fingerprint,
                "left_out": dict(train.left_out) | dict(validation.left_out),
                "labels": {
                    label: {
                        "train": int((train.targets[:, j] == 1).sum()),
                        "validation": int((validation.targets[:, j] == 1).sum()),
                        "unknown": int((train.targets[:, j] < 0).sum() + (validation.targets[:, j] < 0).sum()),
                    }
                    for j, label in enumerate(train.labels)
                },
            },
            "trainable_parameters": count(network.trainable_weights),
            "parameters": count(network.weights),
            "fit_seconds": round(seconds, 1),
            "history": trained.history,
            "kept_epoch": trained.kept,
            "calibration": {"kind": calibration.kind, "log_loss": log_losses},
            "objective": objective,
            **trained.facts,
        },
        hashes,
    )
    # Through the bundle, so that thresholds are chosen on the very probabilities that tagging will give.
    probabilities, gone = bundle.predict(validation.paths)
    if gone:
        validation = validation.without({path: f"since training began: {reason}" for path, reason in gone.items()})
        probabilities = probabilities[np.isfinite(probabilities).all(axis=1)]
        left_out = bundle.manifest["data"]["left_out"] | dict(validation.left_out)
        bundle.record(data=bundle.manifest["data"] | {"left_out": left_out})
    thresholds = choose_thresholds(validation.targets, probabilities, objective)
    beyond = out_of_reach(validation.targets, probabilities, objective)
    judged = scores(validation.targets, probabilities, thresholds)
    bundle.thresholds = thresholds
    bundle.record(
        thresholds=[float(t) for t in thresholds],
        out_of_reach=[label for label, no in zip(train.labels, beyond, strict=True) if no],
        validation={name: float(value[0]) if np.isfinite(value[0]) else None for name, value in judged.items()},
        validation_accuracy=argmax_accuracy(validation.targets, probabilities),
    )
    if int8:
        _add_int8(bundle, train, validation, recipe)
    # Saved last and at once, so that a bundle that exists is a bundle that is complete.
    return bundle if out is None else bundle.save(out)


def _add_int8(bundle: Bundle, train: Dataset, validation: Dataset, recipe: Recipe) -> None:
    """Give a bundle a twin in 8 bits, unless it loses too much; record which."""
    path = bundle.path / INT8_FILE
    rows = np.random.default_rng(recipe.seed).permutation(len(train))[:CALIBRATION_PHOTOS]
    try:
        if "model.onnx" not in bundle.manifest["files"]:
            raise ValueError("it has no ONNX twin, which is what would be rounded")
        write_int8(bundle.path / "model.onnx", photo_view(train.paths[rows], recipe.image_size).read(), path)
        twin, photos = OpenvinoModel(path, calls=CORES), photo_view(validation.paths, recipe.image_size)
        starts = range(0, len(photos), BATCH_SIZE)
        parts = each(lambda start: twin(photos.read(slice(start, start + BATCH_SIZE))), starts)
        probabilities = np.concatenate(list(parts))
    except Exception as error:
        # Runtimes raise what they like; a training that took hours must not be lost for the want of a twin.
        reason = next(iter(str(error).splitlines()), type(error).__name__).replace(f"{path}", path.name)
        path.unlink(missing_ok=True)
        bundle.record(int8={"kept": False, "reason": f"that failed ({reason[:120]})"})
        return
    score = mean_average_precision(validation.targets, probabilities)
    lost = (bundle.manifest["validation"]["mean_average_precision"] or 0.0) - score
    facts = {"kept": lost < MOST_LOST, "validation_mean_average_precision": score, "lost": lost}
    if facts["kept"]:
        bundle.adopt(INT8_FILE)
    else:
        path.unlink()
    bundle.record(int8=facts)


def check_validation(validation: Dataset) -> None:
    """Refuse validation data by which no epoch could be told from another.

    Raises:
        DataError: there are no images, or none of them has a label.
    """
    if not (validation.targets == 1).any():
        raise DataError(
            f"{counted(len(validation), 'validation image')} without any label: expected images with labels, "
            "to stop early and choose thresholds by"
        )


def count(weights: list) -> int:
    """How many numbers these weights hold."""
    return int(sum(np.prod(weight.shape) for weight in weights))

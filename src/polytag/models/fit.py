"""Train a model on training and validation data, and return a bundle. Test data is never used here."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.data.splitting.learnable import learnable
from polytag.errors import DataError, counted, listed
from polytag.evaluation.calibration import choose_calibration
from polytag.evaluation.metrics import argmax_accuracy, scores
from polytag.evaluation.selection import VALIDATION_SCORE, selection_score
from polytag.evaluation.thresholds import choose_thresholds, out_of_reach
from polytag.models.backbones.backbone import backbone
from polytag.models.backbones.weights import Weights
from polytag.models.backend import check_device, keras
from polytag.models.budget.budget import Budget, end_of, plan_budget
from polytag.models.bundle.bundle import Bundle, check_unused
from polytag.models.bundle.seen import same_files, seen_photos
from polytag.models.bundle.write import write_bundle
from polytag.models.encoders.encoder import Encoder
from polytag.models.networks.calibrated import calibrated
from polytag.models.options import TrainOptions, check_training, is_searched
from polytag.models.quantization.quantize import quantize
from polytag.models.recipe import Recipe
from polytag.models.search.search import Found, search
from polytag.models.search.spaces import SPACES, cnn_score, transfer_score
from polytag.models.training.checkpoint import Checkpoints, recorded_budget
from polytag.models.training.cnn import fit_cnn
from polytag.models.training.loop import Trained
from polytag.models.training.time_limit import end_of_training, ending_at
from polytag.models.training.transfer import fit_transfer, head_batches
from polytag.photos.pixels import pixels
from polytag.progress import progress_bar

SEARCH_SHARE, LEAST_SECONDS = 0.4, 0.1
"""Share of a time limit for a hyperparameter search, and the least time, in which one trial begins and is completed."""

_log = logging.getLogger(__name__)


def fit(
    train: Dataset,
    validation: Dataset,
    model: str = "transfer",
    options: TrainOptions | None = None,
    *,
    out: str | Path | None = None,
    checkpoints: str | Path | None = None,
    show_progress: bool = True,
    say: Callable[[str], object] = lambda line: None,
    **settings: Any,
) -> Bundle:
    """Train a model.

    The validation data controls early stopping, the hyperparameter search, calibration and thresholds. No other data is
    used. Photos that cannot be read and labels that cannot be learned are left out and listed in the bundle.

    Args:
        train: training set.
        validation: validation set with the same labels in the same order. `polytag.split` creates both sets.
        model: "baseline", "tuned", "transfer", "best" or one of `polytag.models.recipe.CLASSICAL`.
        options: training options. Default: ``TrainOptions()``.
        out: folder for the bundle, which must not exist. With ``None``, the bundle is deleted together with the object.
        checkpoints: folder for the progress. A training that was interrupted continues from there, at most about a
            minute earlier, and gives the same model. Delete the folder after the bundle has been saved.
        show_progress: whether to draw progress bars on stderr.
        say: called with a line that says what was chosen for ``minutes``.
        settings: fields of `TrainOptions` that override ``options``: ``epochs=5``, ``timeout="10m"``, …

    Raises:
        SettingsError: a setting is unknown or out of range, ``out`` cannot be written, or a package is missing.
        DataError: no label can be learned from the data.
        WeightsError: pretrained weights are missing (transfer and the classical methods).
    """
    start = time.monotonic()
    options = (options or TrainOptions()).override(settings)
    recipe, pretrained = check_training(model, options)
    check_device()
    if out is not None:
        check_unused(out)
    train, validation = _checked(train, validation)
    budget, end, facts = None, math.inf, {}
    if options.minutes is not None:
        recorded = None if checkpoints is None else recorded_budget(Path(checkpoints))
        budget = Budget(**recorded) if recorded else plan_budget(model, options, pretrained, (train, validation), start)
        say(f"as it was planned before: {budget.words}" if recorded else budget.words)
        end = end_of(budget, options.minutes, start)
        facts = {"budget": budget.words, "minutes": options.minutes}
        options = options.override({n: value for n, value in budget.changes.items() if n not in options.settings})
        recipe, pretrained = check_training(model, options)
    with ending_at(end):
        bundle = _fit(train, validation, recipe, pretrained, options, checkpoints, show_progress, start, facts, budget)
    # The bundle is saved last and in one step, so that an existing bundle is always complete.
    return bundle if out is None else bundle.save(out)


def _fit(
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    pretrained: Weights | None,
    options: TrainOptions,
    checkpoints: str | Path | None,
    show_progress: bool,
    start: float,
    more_facts: dict[str, Any],
    budget: Budget | None,
) -> Bundle:
    """Train a model on checked data. The time of training counts from ``start``. The facts go into the manifest."""
    model, features = recipe.model, None
    encoder = pretrained if isinstance(pretrained, Encoder) else None
    if encoder is not None:
        _log.info("%s", encoder.summary)
    elif pretrained is not None:
        # The backbone is built now to detect unsuitable weights before hours of work.
        features = backbone(recipe.backbone, recipe.image_size, pretrained)
        pretrained = pretrained.identified(features.get_weights())
    train, validation = _read(train, validation, recipe, show_progress)
    # Recorded now, for the photos as they are used, because files may change during training.
    fingerprint, seen = train.fingerprint, _seen(train, validation)
    progress = _progress(checkpoints, train, validation, recipe, options, pretrained, budget)
    found = None
    if is_searched(model, options):
        found = _search(train, validation, recipe, options, pretrained, progress, show_progress)
        recipe, start = found.recipe, start - found.earlier_seconds
    _log.info("%s: training on %d photos, validating on %d: %s", model, len(train), len(validation), recipe.to_json())
    trained = _train(train, validation, recipe, pretrained, features, show_progress, progress)
    start -= 0 if progress is None else progress.seconds
    calibration, log_losses = choose_calibration(
        validation.targets, trained.probabilities, validation.groups, recipe.seed
    )
    network = calibrated(trained.model, calibration)
    facts = {
        "labels": list(train.labels),
        "recipe": trained.recipe.to_json(),
        "data": _data_facts(train, validation, fingerprint),
        "trainable_parameters": count(network.trainable_weights),
        "parameters": count(network.weights) + (0 if encoder is None else encoder.facts["parameters"]),
        "fit_seconds": round(time.monotonic() - start, 1),
        "history": trained.history,
        "kept_epoch": trained.kept,
        "calibration": {"kind": calibration.kind, "log_loss": log_losses},
        "objective": options.objective,
        **trained.facts,
        **more_facts,
        **({} if (advice := options.advice(model)) is None else {"notes": [advice]}),
        **({} if encoder is None else {"encoder": dict(encoder.facts)}),
        **({} if found is None else {"trials": found.trials, "importance": found.importance}),
    }
    _log.info("%s: trained in %.1f s; calibration %s", model, facts["fit_seconds"], calibration.kind)
    bundle = write_bundle(network, facts, seen, None if encoder is None else encoder.path)
    validation = _choose_thresholds(bundle, validation, options.objective)
    if options.int8:
        quantize(bundle, train, validation, objective=options.objective, seed=recipe.seed)
    return bundle


def _checked(train: Dataset, validation: Dataset) -> tuple[Dataset, Dataset]:
    """Leave out labels that cannot be learned, and refuse data that cannot be used."""
    if train.labels != validation.labels:
        raise DataError("train and validation must have the same labels in the same order")
    before = len(train.notes)
    train, validation = learnable(train, validation)
    for note in train.notes[before:]:
        _log.info("%s", note)
    check_validation(validation)
    return train, validation


def _read(train: Dataset, validation: Dataset, recipe: Recipe, show_progress: bool) -> tuple[Dataset, Dataset]:
    """Cache the pixels of all photos. Leave out photos that cannot be read, and labels that only those showed."""
    total = len(train) + len(validation)
    with progress_bar(total, f"{recipe.model} · reading photos", "photo", show_progress) as bar:
        train = train.without(pixels(train.paths, recipe.image_size, bar.update)[2])
        validation = validation.without(pixels(validation.paths, recipe.image_size, bar.update)[2])
    return _checked(train, validation)


def _seen(train: Dataset, validation: Dataset) -> NDArray[np.void]:
    """Record the photos for the bundle.

    Raises:
        DataError: photos are in both sets.
    """
    records = seen_photos(train, "train"), seen_photos(validation, "validation")
    both = np.flatnonzero(same_files(validation, records[0]))
    if len(both):
        raise DataError(
            f"The training set also contains {counted(len(both), 'validation image')} "
            f"({listed([validation.names[i] for i in both])}). Remove them from one of the sets, or split again."
        )
    return np.concatenate(records)


def _progress(
    checkpoints: str | Path | None,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    options: TrainOptions,
    pretrained: Weights | None,
    budget: Budget | None,
) -> Checkpoints | None:
    """Open the folder for the progress."""
    if checkpoints is None:
        return None
    request = {
        "recipe": recipe.to_json(),
        "settings": sorted(options.settings),
        "weights": None if pretrained is None else pretrained.name,
        "training photos": train.fingerprint,
        "validation photos": validation.fingerprint,
        "budget": None if budget is None else asdict(budget),
    }
    return Checkpoints(Path(checkpoints), request)


def _search(
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    options: TrainOptions,
    pretrained: Weights | None,
    progress: Checkpoints | None,
    show_progress: bool,
) -> Found:
    """Search the hyperparameters that the options do not set."""
    space, first = SPACES[recipe.model]
    if pretrained is not None:
        # This call embeds the photos and shows a progress bar. The trials then read the embeddings from the cache.
        head_batches(train, validation, recipe, pretrained, show_progress)
    # Within a time limit, the final training needs most of the time.
    left = SEARCH_SHARE * (end_of_training() - time.monotonic())
    timeout = max(LEAST_SECONDS, min(left, options.seconds or math.inf))
    with ending_at(time.monotonic() + timeout):
        return search(
            train,
            validation,
            recipe,
            space,
            cnn_score if pretrained is None else partial(transfer_score, weights=pretrained),
            first=first,
            asked=list(options.settings),
            trials=options.trials,
            timeout=timeout if timeout < math.inf else None,
            storage=options.storage or (None if progress is None else progress.search_log),
            show_progress=show_progress,
        )


def _train(
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    pretrained: Weights | None,
    features: keras.Model | None,
    show_progress: bool,
    progress: Checkpoints | None,
) -> Trained:
    if pretrained is None:
        return fit_cnn(train, validation, recipe, show_progress, progress)
    if recipe.model in ("transfer", "best"):
        return fit_transfer(train, validation, recipe, pretrained, features, show_progress, progress)
    # Imported here because only the classical methods need scikit-multilearn.
    from polytag.models.classical.methods import fit_classical

    return fit_classical(train, validation, recipe, pretrained, features, show_progress)


def _data_facts(train: Dataset, validation: Dataset, fingerprint: str) -> dict[str, Any]:
    """Return the facts about the data that the bundle records."""
    labels = {
        label: {
            "train": int((train.targets[:, j] == 1).sum()),
            "validation": int((validation.targets[:, j] == 1).sum()),
            "unknown": int((train.targets[:, j] < 0).sum() + (validation.targets[:, j] < 0).sum()),
        }
        for j, label in enumerate(train.labels)
    }
    return {
        "train": len(train),
        "validation": len(validation),
        "fingerprint": fingerprint,
        "left_out": dict(train.left_out) | dict(validation.left_out),
        "labels": labels,
        "labels_left_out": dict(train.labels_left_out),
    }


def _choose_thresholds(bundle: Bundle, validation: Dataset, objective: str) -> Dataset:
    """Choose and record the thresholds. Return the validation photos that were still readable."""
    # The bundle predicts, so that thresholds are chosen for exactly the probabilities that tagging will compute.
    probabilities, gone = bundle.predict(validation.paths)
    if gone:
        validation = validation.without({path: f"since training began: {reason}" for path, reason in gone.items()})
        probabilities = probabilities[np.isfinite(probabilities).all(axis=1)]
        left_out = bundle.manifest["data"]["left_out"] | dict(validation.left_out)
        bundle.record(data=bundle.manifest["data"] | {"left_out": left_out})
    thresholds = choose_thresholds(validation.targets, probabilities, objective, validation.groups)
    beyond = out_of_reach(validation.targets, probabilities, objective, validation.groups)
    judged = scores(validation.targets, probabilities, thresholds)
    bundle.thresholds = thresholds
    bundle.record(
        **{VALIDATION_SCORE: selection_score(validation.targets, probabilities)},
        thresholds=[float(t) for t in thresholds],
        out_of_reach=[label for label, no in zip(bundle.labels, beyond, strict=True) if no],
        validation={name: value if np.isfinite(value) else None for name, value in judged.items()},
        validation_accuracy=argmax_accuracy(validation.targets, probabilities),
    )
    return validation


def check_validation(validation: Dataset) -> None:
    """Check that the validation data can be used to rank epochs and choose thresholds.

    Raises:
        DataError: there are no images or no image has a label.
    """
    if not (validation.targets == 1).any():
        raise DataError(
            f"{counted(len(validation), 'validation image')} without any label. Early stopping and thresholds need "
            "images with labels."
        )


def count(weights: list) -> int:
    """Return the number of parameters in these weights."""
    return int(sum(np.prod(weight.shape) for weight in weights))

"""Training: train and validation data in, a bundle out. Test data never comes here."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.cache import pixels
from polytag.data.dataset import Dataset
from polytag.data.progress import progress_bar
from polytag.data.split import check_learnable
from polytag.errors import DataError, counted
from polytag.evaluation.contest import VALIDATION_SCORE
from polytag.evaluation.metrics import argmax_accuracy, scores
from polytag.evaluation.thresholds import choose_thresholds
from polytag.models.architectures import MODELS, head, joined, mobilenet_v2_backbone
from polytag.models.backend import keras
from polytag.models.batches import Batches, predict
from polytag.models.bundle import Bundle, free, write_bundle
from polytag.models.classical import STEPS, fit_head
from polytag.models.features import embed
from polytag.models.fitting import mean_average_precision, photo_batches, run, validation_photos
from polytag.models.pretrained import find_weights
from polytag.models.recipe import CLASSICAL, Recipe
from polytag.models.tuning import search

FINE_TUNE_PHOTOS = 6000
"""How many photos, counted in each epoch anew, fine-tuning sees when its epochs are left open."""


@dataclass
class Trained:
    """What training leaves: the network and how it came about."""

    model: keras.Model
    recipe: Recipe
    history: list[dict[str, float]]
    facts: dict[str, Any] = field(default_factory=dict)


def fit(
    train: Dataset,
    validation: Dataset,
    model: str = "transfer",
    *,
    out: str | Path | None = None,
    search_log: str | Path | None = None,
    show_progress: bool = True,
    **settings: Any,
) -> Bundle:
    """Train a model.

    Early stopping, the search for hyperparameters and the thresholds use the validation data; nothing
    else is ever seen. Photos that cannot be read are left out and named in the bundle.

    Args:
        train, validation: photos with the same labels; `polytag.split` makes them.
        model: "baseline", "tuned", "transfer" or a classical method, of `polytag.models.recipe.CLASSICAL`.
        out: the bundle's folder, which must not exist; ``None`` for one that lives as long as the object.
        search_log: file in which the search of "tuned" keeps its trials, so that a search that was stopped
            goes on; ``None`` to keep none.
        show_progress: draw progress bars on stderr.
        settings: fields of `Recipe`: image_size, epochs, trials, fine_tune, seed, …

    Raises:
        SettingsError: a setting is unknown or out of range, or ``out`` cannot be written.
        DataError: the data cannot be learned from.
        WeightsError: there are no pretrained weights (transfer and the classical methods).
    """
    recipe = Recipe.of(model, **settings)
    if out is not None:
        free(out)
    if train.labels != validation.labels:
        raise DataError("train and validation must have the same labels in the same order")
    check_learnable(train)
    check_validation(validation)
    start = time.perf_counter()
    with progress_bar(len(train) + len(validation), f"{model} · reading photos", "photo", show_progress) as bar:
        train = train.without(pixels(train.paths, recipe.image_size, bar.update)[2])
        validation = validation.without(pixels(validation.paths, recipe.image_size, bar.update)[2])

    if model == "transfer":
        trained = _fit_transfer(train, validation, recipe, show_progress)
    elif model == "tuned":
        best, trials, earlier = search(train, validation, recipe, search_log, show_progress)
        start -= earlier
        trained = fit_cnn(train, validation, best, show_progress)
        trained.facts["trials"] = trials
    elif model in CLASSICAL:
        trained = _fit_classical(train, validation, recipe, show_progress)
    else:
        trained = fit_cnn(train, validation, recipe, show_progress)
    seconds = time.perf_counter() - start

    network = trained.model
    bundle = write_bundle(
        network,
        {
            "labels": list(train.labels),
            "recipe": trained.recipe.to_json(),
            "data": {
                "train": len(train),
                "validation": len(validation),
                "fingerprint": train.fingerprint,
                "left_out": dict(train.left_out) | dict(validation.left_out),
            },
            "trainable_parameters": count(network.trainable_weights),
            "parameters": count(network.weights),
            "fit_seconds": round(seconds, 1),
            "history": trained.history,
            **trained.facts,
        },
        [*train.paths, *validation.paths],
    )
    # Through the bundle, so that thresholds are chosen on the very probabilities that tagging will give.
    probabilities, _ = bundle.predict(validation.paths)
    thresholds = choose_thresholds(validation.targets, probabilities)
    judged = scores(validation.targets, probabilities, thresholds)
    bundle.thresholds = thresholds
    bundle.record(
        thresholds=[float(t) for t in thresholds],
        validation={name: float(value[0]) if np.isfinite(value[0]) else None for name, value in judged.items()},
        validation_accuracy=argmax_accuracy(validation.targets, probabilities),
    )
    # Saved last and at once, so that a bundle that exists is a bundle that is complete.
    return bundle if out is None else bundle.save(out)


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


def fit_cnn(train: Dataset, validation: Dataset, recipe: Recipe, show_progress: bool) -> Trained:
    """Train the network of `baseline` or `tuned` from scratch on photos."""
    keras.utils.set_random_seed(recipe.seed)
    network = MODELS[recipe.model](len(train.labels), recipe.image_size, **recipe.hyperparameters)
    batches = photo_batches(train, recipe)
    with progress_bar(len(batches) * recipe.epochs, recipe.model, "step", show_progress) as bar:
        view = validation_photos(validation, recipe)
        history = run(network, batches, view, validation.targets, recipe, bar, recipe.model)
    return Trained(uncompiled(network), recipe, history)


def uncompiled(network: keras.Model) -> keras.Model:
    """The same layers without optimizer and loss, which would triple the saved file and need polytag to load."""
    return keras.Model(network.input, network.output, name=network.name)


def _fit_transfer(train: Dataset, validation: Dataset, recipe: Recipe, show_progress: bool) -> Trained:
    """Train a head on the frozen backbone's embeddings, then, if asked for, the whole network."""
    weights = find_weights(recipe.weights)
    keras.utils.set_random_seed(recipe.seed)
    backbone = mobilenet_v2_backbone(recipe.image_size, weights)
    # The mirror image is embedded as well and drawn half of the time: augmentation at no cost per epoch.
    views_wanted = ("plain", "flipped") if recipe.augmentation != "none" else ("plain",)
    total = len(views_wanted) * len(train) + len(validation)
    with progress_bar(total, "transfer · embedding photos", "photo", show_progress) as bar:

        def embedded(data: Dataset, view: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            return embed(data.paths, recipe.image_size, weights, view, bar.update)

        views = [embedded(train, view) for view in views_wanted]
        validation_view = embedded(validation, "plain")
    keras.utils.set_random_seed(recipe.seed)
    top = head(backbone.output_shape[-1], len(train.labels), **recipe.hyperparameters)
    batches = Batches(views, train.targets, recipe.batch_size, shuffle=True, seed=recipe.seed)
    with progress_bar(len(batches) * recipe.epochs, "transfer", "step", show_progress) as bar:
        history = run(top, batches, validation_view, validation.targets, recipe, bar, "transfer")
    network = joined(backbone, uncompiled(top))
    facts = {"weights": weights.name, "fine_tuning": "none"}
    epochs = min(4, FINE_TUNE_PHOTOS // len(train)) if recipe.fine_tune is None else recipe.fine_tune
    if epochs:
        recipe = replace(recipe, fine_tune=epochs)
        tuning_history, kept = _fine_tune(network, train, validation, recipe, show_progress)
        history += tuning_history
        network = joined(backbone, network.get_layer("head"))
        facts["fine_tuning"] = "kept" if kept else "undone, since validation mAP was better without"
    return Trained(network, recipe, history, facts)


def _fit_classical(train: Dataset, validation: Dataset, recipe: Recipe, show_progress: bool) -> Trained:
    """Fit a classical method on the frozen backbone's embeddings of the photos as they are."""
    weights = find_weights(recipe.weights)
    backbone = mobilenet_v2_backbone(recipe.image_size, weights)
    with progress_bar(
        len(train) + len(validation), f"{recipe.model} · embedding photos", "photo", show_progress
    ) as bar:

        def embedded(data: Dataset) -> NDArray[np.float32]:
            features, rows = embed(data.paths, recipe.image_size, weights, on_progress=bar.update)
            return features[rows]

        embeddings, validation_embeddings = embedded(train), embedded(validation)
    with progress_bar(STEPS[recipe.model], f"{recipe.model} · fitting", "step", show_progress) as bar:
        top, chosen, notes = fit_head(
            recipe.model,
            embeddings,
            train.targets,
            validation_embeddings,
            validation.targets,
            recipe.seed,
            bar.update,
        )
    facts = {"weights": weights.name, "notes": notes}
    return Trained(joined(backbone, top), replace(recipe, hyperparameters=chosen), [], facts)


def _fine_tune(
    network: keras.Model, train: Dataset, validation: Dataset, recipe: Recipe, show_progress: bool
) -> tuple[list[dict[str, float]], bool]:
    """Train the backbone too, gently, unless validation prefers the frozen one: the history, and whether it is kept."""
    view = validation_photos(validation, recipe)
    before = network.get_weights()
    frozen_score = mean_average_precision(validation.targets, predict(network, [view], recipe.batch_size))
    _unfreeze(network.get_layer("backbone"), recipe.image_size)
    gentle = replace(
        recipe,
        epochs=recipe.fine_tune or 0,
        batch_size=32,
        learning_rate=recipe.learning_rate / 5,
        augmentation="crop",
    )
    batches = photo_batches(train, gentle)
    with progress_bar(len(batches) * gentle.epochs, "transfer · fine-tuning", "step", show_progress) as bar:
        history = run(network, batches, view, validation.targets, gentle, bar, "transfer · fine-tuning", decay=True)
    kept = max(epoch[VALIDATION_SCORE] for epoch in history) >= frozen_score
    if not kept:
        network.set_weights(before)
        network.get_layer("backbone").trainable = False
    return history, kept


def _unfreeze(backbone: keras.Model, image_size: int) -> None:
    """Make the layers trainable that work at less than an eighth of a photo's side.

    The earlier ones see edges and textures, which all photos share, and training them would cost as much as all others.
    """
    backbone.trainable = True
    for layer in backbone._flatten_layers():
        if isinstance(layer, keras.Model) or not layer.weights:
            continue
        # Statistics of a small data set's small batches would ruin the pretrained ones.
        early = layer.output.shape[1] >= image_size // 8
        layer.trainable = not (early or isinstance(layer, keras.layers.BatchNormalization))

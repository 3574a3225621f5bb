"""Transfer learning: train a head on a pretrained backbone's embeddings, then fine-tune the backbone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.evaluation.selection import SCORE_TITLE, paired_difference
from polytag.models.backbones.embed import embed
from polytag.models.backbones.weights import Weights
from polytag.models.backend import keras, on_all_gpus
from polytag.models.encoders.source import is_encoder
from polytag.models.networks.architectures import head, joined, with_head
from polytag.models.recipe import Recipe, fine_tuning_size
from polytag.models.training.batches import Batches
from polytag.models.training.checkpoint import Checkpoints
from polytag.models.training.fine_tuning import default_epochs, embed_with, fine_tune
from polytag.models.training.late_layers import unfreeze
from polytag.models.training.loop import Fitted, Trained, fit_network, without_optimizer
from polytag.photos.content import content_hash
from polytag.photos.pixels import View, photo_view
from polytag.progress import progress_bar

if TYPE_CHECKING:
    from polytag.models.classical.kernel_ridge import Embeddings


CHUNK = 4096
"""Number of embeddings in memory at a time."""


def fit_transfer(
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    weights: Weights,
    features: keras.Model | None,
    show_progress: bool,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train a head on the frozen backbone's embeddings, then fine-tune the late layers if the recipe requests it.

    Args:
        train, validation: readable photos.
        recipe: recipe of `transfer` or `best`. For `best`, the head is averaged with a kernel ridge regression.
        weights: weights of the backbone.
        features: backbone from `polytag.models.backbones.backbone.backbone`. It becomes part of the network. ``None``
            for an encoder in ONNX, whose network is only the head.
        show_progress: whether to draw progress bars on stderr.
        checkpoints: where to save the progress.
    """
    batches = head_batches(train, validation, recipe, weights, show_progress)
    top, fitted = fit_head(*batches, recipe, show_progress, checkpoints=checkpoints)
    top, history = without_optimizer(top), fitted.history
    facts: dict[str, Any] = {"weights": weights.name, "fine_tuning": "none"}
    head_only = joined(features, top)
    if recipe.model == "best":
        embeddings = [one.view for one in batches]
        top, fitted, facts["kernel_ridge"] = _with_kernel_ridge(top, fitted, embeddings, train, validation, recipe.seed)
    network = joined(features, top)
    epochs = default_epochs(len(train)) if recipe.fine_tune is None else recipe.fine_tune
    recipe = replace(recipe, fine_tune=epochs)
    if epochs:
        frozen = head_only.get_weights()
        tuned_network, tuned, more = _fine_tuned(
            head_only, train, validation, recipe, weights, show_progress, checkpoints
        )
        history = history + tuned.history
        lost, error = paired_difference(
            validation.targets, fitted.probabilities, tuned.probabilities, validation.groups
        )
        if lost <= error:
            unfreeze(tuned_network.get_layer("backbone"), recipe.image_size)
            kept = None if tuned.kept is None else len(fitted.history) + tuned.kept
            network, fitted = tuned_network, replace(tuned, kept=kept)
            facts |= more
        else:
            head_only.set_weights(frozen)
            gain = f"{lost:.3f} higher without it (standard error {error:.3f})"
            facts["fine_tuning"] = f"undone, because the {SCORE_TITLE} was {gain}"
    return Trained(network, recipe, history, fitted.kept, fitted.probabilities, facts)


def _fine_tuned(
    network: keras.Model,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    weights: Weights,
    show_progress: bool,
    checkpoints: Checkpoints | None,
) -> tuple[keras.Model, Fitted, dict[str, Any]]:
    """Fine-tune a network. For `best`, average its head with a kernel ridge regression on the new embeddings.

    Returns:
        The network, its record, and entries for the bundle's manifest.
    """
    sets = [train, validation] if recipe.model == "best" else [validation]
    # Opened before training, because files may disappear during the hours that training takes.
    views = [photo_view(data.paths, recipe.image_size) for data in sets]
    keys = [[content_hash(path) for path in data.paths] for data in sets]
    with on_all_gpus():
        fitted = fine_tune(network, train, validation, recipe, weights, show_progress, checkpoints)
    features, top = network.get_layer("backbone"), network.get_layer("head")
    with progress_bar(sum(map(len, sets)), f"{recipe.model} · embedding photos", "photo", show_progress) as bar:
        embeddings = [embed_with(features, *pair, bar.update) for pair in zip(keys, views, strict=True)]
    fitted = replace(fitted, probabilities=_predicted(top, embeddings[-1]))
    size = fine_tuning_size(recipe.image_size)
    smaller = "" if size == recipe.image_size else f"; it used photos at {size} × {size} px"
    facts: dict[str, Any] = {"fine_tuning": f"kept{smaller}"}
    if fitted.cut_short:
        facts["cut_short"] = f"fine-tuning after {len(fitted.history)} of {recipe.fine_tune} epochs"
    if recipe.model == "best":
        top, fitted, facts["kernel_ridge"] = _with_kernel_ridge(top, fitted, embeddings, train, validation, recipe.seed)
        network = with_head(features, top)
    return network, fitted, facts


def head_batches(
    train: Dataset, validation: Dataset, recipe: Recipe, weights: Weights, show_progress: bool
) -> tuple[Batches, Batches]:
    """Create the training and validation batches for a head: embeddings of unaugmented photos.

    Embedding mirror images as well would take nearly twice as long without improving the head (`benchmarks/heads.py`).
    """
    with progress_bar(
        len(train) + len(validation), f"{recipe.model} · embedding photos", "photo", show_progress
    ) as bar:

        def embedded(data: Dataset, training: bool) -> Batches:
            embeddings = embed(data.paths, recipe.image_size, weights, on_progress=bar.update)
            return Batches(embeddings, data.targets, recipe.batch_size, shuffle=training, seed=recipe.seed)

        return embedded(train, True), embedded(validation, False)


def fit_head(
    train: Batches,
    validation: Batches,
    recipe: Recipe,
    show_progress: bool,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoints: Checkpoints | None = None,
) -> tuple[keras.Model, Fitted]:
    """Train a head on embeddings.

    Args:
        train, validation: batches from `head_batches`.
        recipe: recipe of `transfer`.
        show_progress: whether to draw a progress bar on stderr.
        callbacks: additional callbacks, which receive the scores of each epoch.
        checkpoints: where to save the progress.

    Returns:
        The head and the record of its training.
    """
    keras.utils.set_random_seed(recipe.seed)
    top = _new_head(train, recipe)
    with progress_bar(len(train) * recipe.epochs, recipe.model, "step", show_progress) as bar:
        fitted = fit_network(
            top, train, validation, recipe, bar, recipe.model, callbacks=callbacks, checkpoints=checkpoints, name="head"
        )
    return top, fitted


def _with_kernel_ridge(
    top: keras.Model,
    fitted: Fitted,
    embeddings: Sequence["Embeddings"],
    train: Dataset,
    validation: Dataset,
    seed: int,
) -> tuple[keras.Model, Fitted, dict[str, float]]:
    """Average a head with a kernel ridge regression on embeddings of the training and validation photos.

    Returns:
        The head, its record, and the settings of the regression.
    """
    # Imported here because only "best" needs SciPy's solvers.
    from polytag.models.classical.kernel_ridge import averaged, fit_kernel_ridge

    ridge = fit_kernel_ridge(embeddings[0], train.targets, embeddings[1], validation.targets, seed)
    top = averaged(top, ridge)
    return (
        top,
        replace(fitted, probabilities=_predicted(top, embeddings[1])),
        {"width": ridge.width, "ridge": ridge.ridge},
    )


def _predicted(top: keras.Model, embeddings: "Embeddings") -> NDArray[np.float32]:
    """Return the probabilities of a head, float32 (n, k). Only a few embeddings are in memory at a time."""
    starts = range(0, len(embeddings), CHUNK)
    return np.concatenate([top.predict_on_batch(embeddings[start : start + CHUNK]) for start in starts])


def _new_head(train: Batches, recipe: Recipe) -> keras.Model:
    """Build a head. It standardises the features of an encoder, which may have any mean and scale.

    On MobileNetV2's features multiplied by ten, test mAP was 0.896, 0.747 and 0.906 without this and 0.928, 0.899 and
    0.921 with it (scenes5, three splits, 128 px). On the features as they come, it lost 0.000 to 0.003.
    """
    scaling = _standardisation(train.view) if is_encoder(recipe.backbone) else None
    return head(train.width, train.targets.shape[1], scaling=scaling, **recipe.hyperparameters)


def _standardisation(embeddings: View) -> tuple[list[float], list[float]]:
    """Return factors and offsets that give each feature a mean of 0 and a standard deviation of 1."""
    n = len(embeddings)
    chunks = [slice(start, start + CHUNK) for start in range(0, n, CHUNK)]
    mean = sum(embeddings[rows].sum(axis=0, dtype=np.float64) for rows in chunks) / n
    variance = sum(((embeddings[rows] - mean) ** 2).sum(axis=0) for rows in chunks) / n
    factors = 1 / np.maximum(np.sqrt(variance), 1e-6)
    return factors.tolist(), (-mean * factors).tolist()

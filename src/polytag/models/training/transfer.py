"""Transfer learning: train a head on a pretrained backbone's embeddings, then fine-tune the backbone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.evaluation.selection import SCORE_TITLE, paired_difference
from polytag.models.backbones.embed import embed
from polytag.models.backbones.weights import Weights
from polytag.models.backend import keras, on_all_gpus, training_policy
from polytag.models.encoders.source import is_encoder
from polytag.models.networks.architectures import head, joined, transfer
from polytag.models.recipe import Recipe, fine_tuning_size
from polytag.models.training.batches import Batches
from polytag.models.training.checkpoint import Checkpoints
from polytag.models.training.early_layers import split_early_layers
from polytag.models.training.late_layers import unfreeze
from polytag.models.training.loop import (
    Fitted,
    Trained,
    fit_network,
    photo_batches,
    warm_up_and_cosine,
    without_optimizer,
)
from polytag.models.training.optimizer import LayerwiseAdamW
from polytag.models.training.time_limit import ending_at, share_of_time, time_is_over
from polytag.progress import progress_bar

FINE_TUNE_PHOTOS, FINE_TUNE_EPOCHS = 12_000, 8
"""Default length of fine-tuning: the approximate number of photos to process, and the maximum number of epochs."""

FINE_TUNE_RATE = 3e-4
"""Learning rate of the backbone's last layer during fine-tuning."""

FIRST_LAYER, HEAD = 0.3, 5.0
"""Learning rates of the first trained layer and of the head, relative to `FINE_TUNE_RATE`. The rates of the layers
in between increase with depth (Howard & Ruder 2018)."""

TRAINING_EPOCHS = 6
"""Number of epochs in one fine-tuning run. Longer runs overfit when a few thousand photos train a backbone with a few
million parameters.

Additional epochs are used for further runs from the same starting point, and the weights of all runs are averaged
(Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time"). In this case, the learning rate falls only to half of its maximum. The runs then end
farther apart, which improves their mean.
"""

AVERAGED_STEPS = 500
"""Number of steps over which weights are averaged (Polyak & Juditsky 1992), at most a tenth of all steps."""


def default_epochs(photos: int) -> int:
    """Return the default number of fine-tuning epochs for this number of training photos."""
    return min(FINE_TUNE_EPOCHS, max(1, FINE_TUNE_PHOTOS // photos))


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
    network = frozen_network = joined(features, top)
    facts: dict[str, Any] = {"weights": weights.name, "fine_tuning": "none"}
    if recipe.model == "best":
        top, fitted, facts["kernel_ridge"] = _with_kernel_ridge(top, fitted, *batches, recipe.seed)
        frozen_network = joined(features, top)
    epochs = default_epochs(len(train)) if recipe.fine_tune is None else recipe.fine_tune
    recipe = replace(recipe, fine_tune=epochs)
    if epochs:
        frozen = network.get_weights()
        with on_all_gpus():
            tuned = _fine_tune(network, train, validation, recipe, weights, show_progress, checkpoints)
        lost, error = paired_difference(
            validation.targets, fitted.probabilities, tuned.probabilities, validation.groups
        )
        history = history + tuned.history
        if lost <= error:
            unfreeze(network.get_layer("backbone"), recipe.image_size)
            kept = None if tuned.kept is None else len(fitted.history) + tuned.kept
            facts.pop("kernel_ridge", None)
            fitted, facts["fine_tuning"] = replace(tuned, kept=kept), "kept"
            size = fine_tuning_size(recipe.image_size)
            if size != recipe.image_size:
                facts["fine_tuning"] += f"; it used photos at {size} × {size} px"
        else:
            network.set_weights(frozen)
            network = frozen_network
            gain = f"{lost:.3f} higher without it (standard error {error:.3f})"
            facts["fine_tuning"] = f"undone, because the {SCORE_TITLE} was {gain}"
    else:
        network = frozen_network
    return Trained(network, recipe, history, fitted.kept, fitted.probabilities, facts)


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
    top: keras.Model, fitted: Fitted, train: Batches, validation: Batches, seed: int
) -> tuple[keras.Model, Fitted, dict[str, float]]:
    """Average a head with a kernel ridge regression on the same embeddings.

    Returns:
        The head, its record, and the settings of the regression.
    """
    # Imported here because only "best" needs SciPy's solvers.
    from polytag.models.classical.kernel_ridge import averaged, fit_kernel_ridge

    seen = validation.everything()
    ridge = fit_kernel_ridge(train.everything(), train.targets, seen, validation.targets, seed)
    top = averaged(top, ridge)
    probabilities = top.predict(seen, verbose=0)
    return top, replace(fitted, probabilities=probabilities), {"width": ridge.width, "ridge": ridge.ridge}


def _new_head(train: Batches, recipe: Recipe) -> keras.Model:
    """Build a head. It standardises the features of an encoder, which may have any mean and scale.

    On MobileNetV2's features multiplied by ten, test mAP was 0.896, 0.747 and 0.906 without this and 0.928, 0.899 and
    0.921 with it (scenes5, three splits, 128 px). On the features as they come, it lost 0.000 to 0.003.
    """
    scaling = _standardisation(train.everything()) if is_encoder(recipe.backbone) else None
    return head(train.width, train.targets.shape[1], scaling=scaling, **recipe.hyperparameters)


def _standardisation(embeddings: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """Return factors and offsets that give each feature a mean of 0 and a standard deviation of 1."""
    factors = 1 / np.maximum(embeddings.std(axis=0, dtype=np.float64), 1e-6)
    return factors.tolist(), (-embeddings.mean(axis=0, dtype=np.float64) * factors).tolist()


def _fine_tune(
    network: keras.Model,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    weights: Weights,
    show_progress: bool,
    checkpoints: Checkpoints | None,
) -> Fitted:
    """Train the late layers and the head of a copy, then transfer its weights to the network.

    The copy uses the dtypes that train fastest, and photos at `fine_tuning_size`. The network is validated the same way
    as it will tag: in float32 and on full-size photos.
    """
    epochs = recipe.fine_tune or 0
    gentle = replace(recipe, batch_size=min(32, recipe.batch_size))
    smaller = replace(gentle, image_size=fine_tuning_size(recipe.image_size))
    copy = transfer(
        train.targets.shape[1],
        smaller.image_size,
        backbone=recipe.backbone,
        weights=weights,
        policy=training_policy(),
        **recipe.hyperparameters,
    )
    unfreeze(copy.get_layer("backbone"), smaller.image_size)
    copy.set_weights(network.get_weights())
    n_pretrained = len(copy.get_layer("backbone").trainable_variables)
    learner, early_layers = split_early_layers(copy, network)
    title = f"{recipe.model} · reading photos at {smaller.image_size} px"
    with progress_bar(len(train) + len(validation), title, "photo", show_progress) as bar:
        batches = photo_batches(train, smaller, True, bar.update, features=early_layers)
        validation_batches = photo_batches(validation, smaller, False, bar.update, features=early_layers)
    # Opened before training, because files may disappear during the hours that training takes.
    full_size = photo_batches(validation, gentle, False)
    start, history = learner.get_weights(), []
    trained: list[list[NDArray[np.float32]]] = []
    parts = np.array_split(np.arange(epochs), max(1, epochs // TRAINING_EPOCHS))
    with progress_bar(len(batches) * epochs, f"{recipe.model} · fine-tuning", "step", show_progress) as bar:
        for number, part in enumerate(parts, 1):
            if trained and time_is_over():
                break
            title = f"{recipe.model} · fine-tuning" + (f" {number} of {len(parts)}" if len(parts) > 1 else "")
            learner.set_weights(start)
            steps = len(batches) * len(part) * (2 if len(parts) > 1 else 1)
            optimizer = _optimizer(learner, n_pretrained, steps, len(batches) // 2)
            part_recipe = replace(gentle, epochs=len(part))
            name = f"fine-tuning-{number}"
            with ending_at(share_of_time(len(parts) - number + 1)):
                fitted = fit_network(
                    learner, batches, validation_batches, part_recipe, bar, title, optimizer, (), checkpoints, name
                )
            history += fitted.history
            trained.append(learner.get_weights())
    learner.set_weights([np.mean(same, axis=0) for same in zip(*trained, strict=True)])
    network.set_weights(copy.get_weights())
    kept = fitted.kept if len(parts) == 1 else None
    return Fitted(history, kept, network.predict(full_size, verbose=0))


def _optimizer(network: keras.Model, n_pretrained: int, steps: int, warm_up: int) -> keras.optimizers.Optimizer:
    """Create the optimizer for fine-tuning.

    The learning rate warms up and then decays along a cosine. It increases with the depth of a layer. The optimizer
    averages the weights.

    Args:
        network: network to train.
        n_pretrained: number of trainable variables that belong to the backbone. They come before all others.
        steps: number of steps after which the learning rate reaches zero.
        warm_up: number of warm-up steps.
    """
    n_new = len(network.trainable_variables) - n_pretrained
    optimizer = LayerwiseAdamW(
        warm_up_and_cosine(FINE_TUNE_RATE, steps, warm_up),
        factors=[*np.geomspace(FIRST_LAYER, 1, n_pretrained), *[HEAD] * n_new],
        weight_decay=1e-2,
        use_ema=True,
        ema_momentum=1 - 1 / min(AVERAGED_STEPS, max(2, steps // 10)),
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer

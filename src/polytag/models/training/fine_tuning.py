"""Fine-tune the late layers of a pretrained network, and embed photos with the result."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.models.backbones.embed import VERSION, fill
from polytag.models.backbones.weights import Weights, checksum
from polytag.models.backend import keras, on_cpu, replicas, training_policy
from polytag.models.networks.architectures import transfer
from polytag.models.recipe import Recipe, fine_tuning_size
from polytag.models.runtimes.onnx import OnnxModel, export_onnx, run_in_small_batches
from polytag.models.training.checkpoint import Checkpoints
from polytag.models.training.early_layers import split_early_layers
from polytag.models.training.late_layers import unfreeze
from polytag.models.training.loop import Fitted, fit_network, photo_batches, warm_up_and_cosine
from polytag.models.training.optimizer import LayerwiseAdamW
from polytag.models.training.time_limit import ending_at, share_of_time, time_is_over
from polytag.photos.array_cache import ArrayCache
from polytag.photos.decode import PIXEL_PATH
from polytag.photos.pixels import View
from polytag.progress import progress_bar

FINE_TUNE_PHOTOS, FINE_TUNE_EPOCHS = 12_000, 8
"""Default length of fine-tuning: the approximate number of photos to process, and the maximum number of epochs."""

FINE_TUNE_RATE = 3e-4
"""Learning rate of the backbone's last layer during fine-tuning."""

BATCH_SIZE = 32
"""Maximum number of photos per step on one device."""

STEPS = 50
"""Steps per epoch that remain if several GPUs take more photos per step. Fewer would be too few to learn."""

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


def batch_size(recipe: Recipe, photos: int) -> int:
    """Return the number of photos per step of fine-tuning: as many on each GPU as on one, if there are enough photos.

    Args:
        recipe: recipe, whose batch size is not exceeded.
        photos: number of training photos.
    """
    devices = max(1, len(replicas()))
    size = min(BATCH_SIZE * devices, max(BATCH_SIZE, photos // STEPS), recipe.batch_size)
    return max(size - size % devices, min(size, devices))


def fine_tune(
    network: keras.Model,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    weights: Weights,
    show_progress: bool,
    checkpoints: Checkpoints | None,
) -> Fitted:
    """Train the late layers and the head of a copy, then transfer its weights to the network.

    The copy uses the dtypes that train fastest, and photos at `fine_tuning_size`.

    Args:
        network: network from `polytag.models.networks.architectures.joined` with a trained head.
        train, validation: readable photos.
        recipe: recipe with the number of epochs.
        weights: weights of the backbone.
        show_progress: whether to draw progress bars on stderr.
        checkpoints: where to save the progress.

    Returns:
        The record of the training, without predictions.
    """
    epochs = recipe.fine_tune or 0
    gentle = replace(recipe, batch_size=batch_size(recipe, len(train)))
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
    start, history, cut_short = learner.get_weights(), [], False
    trained: list[list[NDArray[np.float32]]] = []
    parts = np.array_split(np.arange(epochs), max(1, epochs // TRAINING_EPOCHS))
    with progress_bar(len(batches) * epochs, f"{recipe.model} · fine-tuning", "step", show_progress) as bar:
        for number, part in enumerate(parts, 1):
            if trained and time_is_over():
                cut_short = True
                break
            title = f"{recipe.model} · fine-tuning" + (f" {number} of {len(parts)}" if len(parts) > 1 else "")
            learner.set_weights(start)
            steps = len(batches) * len(part) * (2 if len(parts) > 1 else 1)
            optimizer = _optimizer(learner, n_pretrained, steps, len(batches) // 2, gentle.batch_size)
            part_recipe = replace(gentle, epochs=len(part))
            name = f"fine-tuning-{number}"
            with ending_at(share_of_time(len(parts) - number + 1)):
                fitted = fit_network(
                    learner, batches, validation_batches, part_recipe, bar, title, optimizer, (), checkpoints, name
                )
            history += fitted.history
            cut_short |= fitted.cut_short
            trained.append(learner.get_weights())
    learner.set_weights([np.mean(same, axis=0) for same in zip(*trained, strict=True)])
    network.set_weights(copy.get_weights())
    return Fitted(history, fitted.kept if len(parts) == 1 else None, np.empty(0, np.float32), cut_short)


def embed_with(
    features: keras.Model, keys: Sequence[str], view: View, on_progress: Callable[[int], object] = lambda n: None
) -> View:
    """Embed photos with a fine-tuned backbone, in float32 and at full size, as it will tag.

    Args:
        features: backbone with pooling.
        keys: content hash of each of n photos.
        view: their pixels at the backbone's size.
        on_progress: function that is called with the number of photos just completed.

    Returns:
        Features in the cache, float32 (n, d), from which an interrupted training continues.
    """
    run, threads = _runner(features)
    name = f"features-fine-tuned-{checksum(features.get_weights())[:16]}-{view.cache.shape[0]}-{PIXEL_PATH}.{VERSION}"
    cache = ArrayCache(name, (features.output_shape[-1],), "float32")
    return fill(cache, keys, lambda waiting: View(view.cache, view.rows[waiting]), run, threads, on_progress)


def _runner(features: keras.Model) -> tuple[Callable[[NDArray[Any]], NDArray[np.float32]], int | None]:
    """Return a function that runs a backbone, and the number of threads that should call it (``None``: one per core).

    On a CPU, ONNX Runtime takes about a third of the time of Keras.
    """
    if on_cpu():
        with tempfile.TemporaryDirectory(prefix="polytag-") as folder:
            path = Path(folder) / "backbone.onnx"
            if export_onnx(features, path):
                return partial(run_in_small_batches, OnnxModel(path, threads=1)), None
    return features.predict_on_batch, 1


def _optimizer(
    network: keras.Model, n_pretrained: int, steps: int, warm_up: int, photos: int
) -> keras.optimizers.Optimizer:
    """Create the optimizer for fine-tuning.

    The learning rate warms up and then decays along a cosine. It increases with the depth of a layer. The optimizer
    averages the weights. With several GPUs' photos per step, it also increases with their square root (Malladi et al.
    2022, "On the SDEs and scaling rules for adaptive gradient algorithms").

    Args:
        network: network to train.
        n_pretrained: number of trainable variables that belong to the backbone. They come before all others.
        steps: number of steps after which the learning rate reaches zero.
        warm_up: number of warm-up steps.
        photos: number of photos per step.
    """
    rate = FINE_TUNE_RATE * max(1.0, photos / BATCH_SIZE) ** 0.5
    n_new = len(network.trainable_variables) - n_pretrained
    optimizer = LayerwiseAdamW(
        warm_up_and_cosine(rate, steps, warm_up),
        factors=[*np.geomspace(FIRST_LAYER, 1, n_pretrained), *[HEAD] * n_new],
        weight_decay=1e-2,
        use_ema=True,
        ema_momentum=1 - 1 / min(AVERAGED_STEPS, max(2, steps // 10)),
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer

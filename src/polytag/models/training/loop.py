"""Train one network. Keras runs the loop. The epoch with the best support-weighted validation mAP is kept."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import DivergedError
from polytag.evaluation.selection import VALIDATION_SCORE, selection_score
from polytag.models.backend import keras, on_cpu, replicas
from polytag.models.recipe import Recipe
from polytag.models.training.batches import Batches
from polytag.models.training.checkpoint import Checkpoints, SaveProgress
from polytag.models.training.late_layers import leaves
from polytag.models.training.losses import LOSSES, masked_binary_crossentropy
from polytag.models.training.progress import TrainingBar
from polytag.models.training.time_limit import InTime, end_of_training
from polytag.photos.pixels import photo_view

PATIENCE = 5
"""Training stops after this many epochs without a better support-weighted validation mAP. The weights of the best epoch
are kept."""

MIN_RATE = 0.01
"""Training stops when the learning rate falls below this fraction of its initial value, because the weights barely
change after that."""

THREADED_PHOTOS = 200
"""Minimum number of photos for which Keras threads prepare the batches.

Starting and stopping the threads costs a fifth of a second per epoch. Without them, TensorFlow prepares batches on the
threads that run the network, and small networks have to wait.
"""


@dataclass
class Fitted:
    """Record of a training run."""

    history: list[dict[str, float]]
    """Loss, learning rate, validation loss and support-weighted validation mAP of each epoch."""

    kept: int | None
    """Index of the epoch whose weights were kept. ``None`` if the weights are the mean of several training runs."""

    probabilities: NDArray[np.float32]
    """Predictions for the validation photos with the kept weights, float32 (n, k)."""

    cut_short: bool = False
    """Whether a time limit ended training before the last epoch."""


@dataclass
class Trained:
    """A trained network and the record of its training."""

    model: keras.Model
    recipe: Recipe
    history: list[dict[str, float]]
    kept: int | None
    probabilities: NDArray[np.float32]
    """The network's predictions for the validation photos, float32 (n, k)."""

    facts: dict[str, Any] = field(default_factory=dict)
    """Additional entries for the bundle's manifest."""


def photo_batches(
    data: Dataset,
    recipe: Recipe,
    training: bool,
    on_progress: Callable[[int], object] = lambda n: None,
    reduce: int = 1,
    features: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None,
    devices: int = 1,
) -> Batches:
    """Create batches of photos.

    Args:
        data: readable photos.
        recipe: recipe that defines the image size, batch size, augmentation and seed.
        training: whether to shuffle and augment.
        on_progress: function that is called with the number of photos just completed.
        reduce, features, devices: as in `Batches`.
    """
    augmentation = recipe.augmentation if training else "none"
    view = photo_view(data.paths, recipe.image_size, on_progress)
    # Beside a GPU, the cores have nothing else to do.
    threads = 1 if len(data) < THREADED_PHOTOS else 2 if on_cpu() else max(2, os.cpu_count() or 2)
    return Batches(
        view,
        data.targets,
        recipe.batch_size,
        shuffle=training,
        augmentation=augmentation,
        seed=recipe.seed,
        threads=threads,
        reduce=reduce,
        features=features,
        devices=devices,
    )


def fit_network(
    network: keras.Model,
    train: Batches,
    validation: Batches,
    recipe: Recipe,
    bar: Any,
    title: str,
    optimizer: keras.optimizers.Optimizer | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoints: Checkpoints | None = None,
    name: str = "",
) -> Fitted:
    """Compile and train a network. Keep the weights of the epoch with the best support-weighted validation mAP.

    Args:
        network: network to train.
        train, validation: batches for training and validation.
        recipe: recipe that defines the learning rate, weight decay, loss and maximum number of epochs.
        bar: progress bar to advance.
        title: text on the progress bar.
        optimizer: optimizer with a learning rate schedule, which runs to its end. If the optimizer averages weights,
            the averaged weights are validated and kept. ``None`` selects AdamW, whose learning rate falls when
            this score stops improving. Training then stops early, as `PATIENCE` and `MIN_RATE` define.
        callbacks: additional callbacks, which receive the scores of each epoch.
        checkpoints: where to save the progress every minute. A training run that was interrupted continues from there.
        name: name of the training run among the checkpoints.

    If there is a time limit (`polytag.models.training.time_limit`), the training of networks on photos ends in time.

    Raises:
        DivergedError: the loss or a prediction is not finite.
    """
    # A schedule must run to its end. Its last epochs have the smallest learning rates and usually the best scores.
    patience = PATIENCE if optimizer is None else recipe.epochs
    validator = ValidationScore(validation)
    stopper = keras.callbacks.EarlyStopping(VALIDATION_SCORE, mode="max", patience=patience, restore_best_weights=True)
    steps: list[keras.callbacks.Callback] = [
        validator,
        keras.callbacks.TerminateOnNaN(),
        TrainingBar(bar, title, len(train), recipe.epochs),
        stopper,
        *callbacks,
    ]
    remembering: list[tuple[keras.callbacks.Callback, Sequence[str]]] = [
        (validator, ("best", "probabilities")),
        (stopper, ("best", "best_epoch", "best_weights", "wait")),
    ]
    if optimizer is None:
        optimizer = keras.optimizers.AdamW(recipe.learning_rate, recipe.weight_decay)
        plateau, stop_at_min_rate = _falling_rate(network, recipe)
        remembering.append((plateau, ("best", "cooldown_counter", "wait")))
        steps += [plateau, stop_at_min_rate]
    clock = InTime(end_of_training(), len(train) * recipe.epochs, len(validation))
    # Heads are trained on embeddings in seconds. Without them, the time spent on embedding would be lost.
    if end_of_training() < np.inf and len(network.input_shape) > 2:
        steps.insert(0, clock)
    if optimizer.use_ema:  # Averaged weights are validated, so they must be in place before that.
        steps.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if any(layer.compute_dtype == "float16" for layer in leaves(network)):
        # Otherwise, small gradients would become zero (Micikevicius et al. 2018, "Mixed precision training").
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    # Without this call, the first training step would build the optimizer, and TensorFlow would trace the step twice.
    optimizer.build(network.trainable_variables)
    network.compile(optimizer, LOSSES[recipe.loss](train.targets))
    progress = None
    if checkpoints is not None:
        progress = SaveProgress(checkpoints, name, f"{title} {recipe}", train, remembering)
        steps.append(progress)
        if progress.finished:
            bar.update(len(train) * recipe.epochs)
            return Fitted(**progress.finished, probabilities=progress.restore_result(network))
        clock.skipped = progress.skipped
    fitted = _run(network, train, recipe, title, steps, validator, progress)
    fitted.cut_short = clock.stopped
    if progress is not None:
        result = {"history": fitted.history, "kept": fitted.kept, "cut_short": fitted.cut_short}
        progress.finish(result, fitted.probabilities, network)
    return fitted


def _falling_rate(network: keras.Model, recipe: Recipe) -> tuple[keras.callbacks.Callback, keras.callbacks.Callback]:
    """Return a callback that lowers the learning rate when the score stops improving, and one that ends the training.

    Training ends when the learning rate is below `MIN_RATE` of the recipe's.
    """

    def stop_at_min_rate(epoch: int, logs: dict[str, float]) -> None:
        network.stop_training |= logs["learning_rate"] < MIN_RATE * recipe.learning_rate

    plateau = keras.callbacks.ReduceLROnPlateau(VALIDATION_SCORE, mode="max", factor=0.3, patience=2)
    return plateau, keras.callbacks.LambdaCallback(on_epoch_end=stop_at_min_rate)


def _run(
    network: keras.Model,
    train: Batches,
    recipe: Recipe,
    title: str,
    callbacks: Sequence[keras.callbacks.Callback],
    validator: "ValidationScore",
    progress: SaveProgress | None,
) -> Fitted:
    """Run Keras' training loop, and collect the record of the training run."""
    start = 0 if progress is None else progress.initial_epoch
    # Keras must not shuffle, because `Batches` already does.
    record = network.fit(
        train, initial_epoch=start, epochs=recipe.epochs, verbose=0, shuffle=False, callbacks=callbacks
    ).history
    if progress is not None:
        record = progress.history(record)
    epochs = len(record["loss"])
    if not (np.isfinite(record["loss"]).all() and np.isfinite(validator.probabilities).all()):
        raise DivergedError(f"the loss of {title} became infinite in epoch {epochs}: choose a smaller learning rate")
    names = ("loss", "learning_rate", "validation_loss", VALIDATION_SCORE)
    history = [{name: float(record[name][e]) for name in names if np.isfinite(record[name][e])} for e in range(epochs)]
    return Fitted(history, int(np.argmax(record[VALIDATION_SCORE])), validator.probabilities)


def warm_up_and_cosine(rate: float, steps: int, warm_up: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a learning rate schedule: a linear warm-up, followed by a cosine decay to zero.

    Args:
        rate: maximum learning rate.
        steps: number of training steps, including the warm-up.
        warm_up: number of warm-up steps.
    """
    return keras.optimizers.schedules.CosineDecay(rate / 20, steps - warm_up, warmup_target=rate, warmup_steps=warm_up)


class ValidationScore(keras.callbacks.Callback):
    """Callback that scores the whole validation set after each epoch.

    Averaging the scores of batches would give a different result. The callback also stores the predictions of the best
    epoch, whose weights `keras.callbacks.EarlyStopping` keeps.

    Args:
        validation: batches in their original order.
    """

    def __init__(self, validation: Batches):
        super().__init__()
        self._validation = validation
        self.best = -np.inf
        self.probabilities = np.empty(validation.targets.shape, dtype=np.float32)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        targets, probabilities = self._validation.targets, self._predict()
        loss = masked_binary_crossentropy(targets.astype(np.float32), probabilities)
        logs["validation_loss"] = float(np.mean(keras.ops.convert_to_numpy(loss)))
        logs[VALIDATION_SCORE] = score = selection_score(targets, probabilities)
        if score > self.best:
            self.best, self.probabilities = score, probabilities
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _predict(self) -> NDArray[np.float32]:
        # On several GPUs, `predict_on_batch` would return each prediction once per GPU.
        if self._validation.workers > 1 or len(replicas()) > 1:
            return self.model.predict(self._validation, verbose=0)
        # Without threads, a simple loop avoids the set-up of `predict`, which takes a tenth of a head's epoch.
        batches = (self._validation[index][0] for index in range(len(self._validation)))
        return np.concatenate([self.model.predict_on_batch(batch) for batch in batches])


def without_optimizer(network: keras.Model) -> keras.Model:
    """Return a network with the same layers but without optimizer and loss.

    Optimizer and loss would triple the size of the saved file, and loading the file would require polytag.
    """
    return keras.Model(network.input, network.output, name=network.name)

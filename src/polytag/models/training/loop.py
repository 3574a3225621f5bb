"""Train one network. Keras runs the loop; validation mAP decides which epoch's weights are kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import DivergedError
from polytag.evaluation.metrics import VALIDATION_SCORE, scores
from polytag.models.backend import keras
from polytag.models.recipe import Recipe
from polytag.models.training.batches import Batches
from polytag.models.training.losses import LOSSES, masked_binary_crossentropy
from polytag.models.training.progress import TrainingBar
from polytag.photos.pixels import photo_view

PATIENCE = 5
"""Epochs without a better validation mAP after which training stops. The best epoch's weights are kept."""

MIN_RATE = 0.01
"""Training stops when the learning rate falls below this share of the initial one: weights hardly change then."""

THREADED_PHOTOS = 200
"""Least number of photos for which Keras' threads prepare the batches.

Starting and stopping them costs a fifth of a second per epoch. With fewer photos TensorFlow prepares batches on the
network's own threads, and small networks wait for them.
"""


@dataclass
class Fitted:
    """Record of a training."""

    history: list[dict[str, float]]
    """Loss, learning rate, validation loss and validation mAP of each epoch."""

    kept: int | None
    """Row of the history whose weights were kept; ``None`` if they are the mean of several trainings."""

    probabilities: NDArray[np.float32]
    """Predictions of the kept weights for the validation photos, float32 (n, k)."""


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
    """Further entries for the bundle's manifest."""


def photo_batches(
    data: Dataset,
    recipe: Recipe,
    training: bool,
    on_progress: Callable[[int], object] = lambda n: None,
    reduce: int = 1,
    features: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None,
) -> Batches:
    """Batches of photos.

    Args:
        data: readable photos.
        recipe: recipe with image size, batch size, augmentation and seed.
        training: shuffle and augment.
        on_progress: called with the number of photos that became ready.
        reduce, features: as in `Batches`.
    """
    augmentation = recipe.augmentation if training else "none"
    view = photo_view(data.paths, recipe.image_size, on_progress)
    threads = 2 if len(data) >= THREADED_PHOTOS else 1
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
) -> Fitted:
    """Compile and train a network, and keep the weights of the epoch with the best validation mAP.

    Args:
        network: network to train.
        train, validation: batches to train and to validate on.
        recipe: recipe; learning rate, weight decay, loss and epochs are used.
        bar: progress bar.
        title: text on the bar.
        optimizer: optimizer with its own learning rate schedule, which is followed to its end. If it averages
            weights, the averages are validated and kept. ``None`` for AdamW whose rate falls when validation mAP
            stops rising; training stops after `PATIENCE` epochs without a better one, or at `MIN_RATE`.
        callbacks: further callbacks, which see the scores of each epoch.

    Raises:
        DivergedError: the loss became infinite.
    """
    # A schedule ends with its smallest rates, and its late epochs are the best ones.
    patience = PATIENCE if optimizer is None else recipe.epochs
    validator = ValidationScore(validation)

    def stop_at_min_rate(epoch: int, logs: dict[str, float]) -> None:
        network.stop_training |= logs["learning_rate"] < MIN_RATE * recipe.learning_rate

    steps: list[keras.callbacks.Callback] = [
        validator,
        keras.callbacks.TerminateOnNaN(),
        TrainingBar(bar, title, len(train), recipe.epochs),
        keras.callbacks.EarlyStopping(VALIDATION_SCORE, mode="max", patience=patience, restore_best_weights=True),
        *callbacks,
    ]
    if optimizer is None:
        optimizer = keras.optimizers.AdamW(recipe.learning_rate, recipe.weight_decay)
        steps.append(keras.callbacks.ReduceLROnPlateau(VALIDATION_SCORE, mode="max", factor=0.3, patience=2))
        steps.append(keras.callbacks.LambdaCallback(on_epoch_end=stop_at_min_rate))
    if optimizer.use_ema:
        steps.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))  # before validation and early stopping
    # Built inside the graph of the first step, the optimizer would cause that graph to be traced twice.
    optimizer.build(network.trainable_variables)
    network.compile(optimizer, LOSSES[recipe.loss](train.targets))
    # `Batches` shuffles.
    record = network.fit(train, epochs=recipe.epochs, verbose=0, shuffle=False, callbacks=steps)
    if not (np.isfinite(record.history["loss"]).all() and np.isfinite(validator.probabilities).all()):
        raise DivergedError(
            f"the loss of {title} became infinite in epoch {len(record.epoch)}: choose a smaller learning rate"
        )
    names = ("loss", "learning_rate", "validation_loss", VALIDATION_SCORE)
    history = [
        {name: float(record.history[name][e]) for name in names if np.isfinite(record.history[name][e])}
        for e in range(len(record.epoch))
    ]
    return Fitted(history, int(np.argmax(record.history[VALIDATION_SCORE])), validator.probabilities)


def warm_up_and_cosine(rate: float, steps: int, warm_up: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Learning rate schedule: a linear warm-up, then a cosine to zero.

    Args:
        rate: highest learning rate.
        steps: steps of the whole training.
        warm_up: steps of the warm-up.
    """
    return keras.optimizers.schedules.CosineDecay(rate / 20, steps - warm_up, warmup_target=rate, warmup_steps=warm_up)


class ValidationScore(keras.callbacks.Callback):
    """Score the whole validation set after each epoch: mean scores of batches are not the score of the set.

    It keeps the predictions of the best epoch, the one whose weights `keras.callbacks.EarlyStopping` keeps.

    Args:
        validation: batches in their original order.
    """

    def __init__(self, validation: Batches):
        super().__init__()
        self._validation = validation
        self._best = -np.inf
        self.probabilities = np.empty(validation.targets.shape, dtype=np.float32)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        targets, probabilities = self._validation.targets, self._predict()
        loss = masked_binary_crossentropy(targets.astype(np.float32), probabilities)
        logs["validation_loss"] = float(np.mean(keras.ops.convert_to_numpy(loss)))
        logs[VALIDATION_SCORE] = score = mean_average_precision(targets, probabilities)
        if score > self._best:
            self._best, self.probabilities = score, probabilities
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _predict(self) -> NDArray[np.float32]:
        if self._validation.workers > 1:
            return self.model.predict(self._validation, verbose=0)
        # Without threads a simple loop saves the set-up of `predict`, a tenth of the time of a head's epoch.
        batches = (self._validation[index][0] for index in range(len(self._validation)))
        return np.concatenate([self.model.predict_on_batch(batch) for batch in batches])


def mean_average_precision(targets: NDArray[np.int8], probabilities: NDArray[np.float32]) -> float:
    """Mean average precision; 0 if no photo has any label or the predictions are not finite."""
    if not np.isfinite(probabilities).all():
        return 0.0
    value = scores(targets, probabilities)["mean_average_precision"]
    return value if np.isfinite(value) else 0.0


def without_optimizer(network: keras.Model) -> keras.Model:
    """The same layers without optimizer and loss, which would triple the saved file and need polytag to load it."""
    return keras.Model(network.input, network.output, name=network.name)

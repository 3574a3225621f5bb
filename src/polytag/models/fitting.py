"""One network, fitted: Keras owns the loop, validation mAP decides which epoch's weights are kept."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.cache import pixels
from polytag.data.dataset import Dataset
from polytag.errors import SettingsError
from polytag.evaluation.contest import VALIDATION_SCORE
from polytag.evaluation.metrics import scores
from polytag.models.backend import keras
from polytag.models.batches import Batches, predict
from polytag.models.losses import masked_binary_crossentropy
from polytag.models.progress import TrainingBar
from polytag.models.recipe import Recipe

PATIENCE = 5
"""Epochs without a better validation mAP after which training stops; the best epoch's weights are kept."""


def photo_batches(train: Dataset, recipe: Recipe) -> Batches:
    """Shuffled, augmented batches of photos."""
    images, rows, _ = pixels(train.paths, recipe.image_size)
    return Batches([(images, rows)], train.targets, recipe.batch_size, True, recipe.augmentation, recipe.seed)


def validation_photos(validation: Dataset, recipe: Recipe) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The validation photos' cached pixels and their rows."""
    images, rows, _ = pixels(validation.paths, recipe.image_size)
    return images, rows


def run(
    network: keras.Model,
    batches: Batches,
    validation_view: tuple[NDArray, NDArray[np.int64]],
    validation_targets: NDArray[np.int8],
    recipe: Recipe,
    bar: Any,
    title: str,
    decay: bool = False,
    callbacks: list[keras.callbacks.Callback] | None = None,
) -> list[dict[str, float]]:
    """Compile and fit a network, keeping the weights of the epoch with the best validation mAP.

    The learning rate falls when validation mAP stops rising or, with ``decay``, after half an epoch of
    warming up, along a cosine to zero.

    Returns:
        For each epoch its loss, learning rate, validation loss and validation mAP.
    """
    rate: Any = recipe.learning_rate
    if decay:
        warm_up = len(batches) // 2
        steps = len(batches) * recipe.epochs - warm_up
        rate = keras.optimizers.schedules.CosineDecay(rate / 20, steps, warmup_target=rate, warmup_steps=warm_up)
    else:
        callbacks = [
            keras.callbacks.ReduceLROnPlateau(VALIDATION_SCORE, mode="max", factor=0.3, patience=2),
            *(callbacks or []),
        ]
    network.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay),
        loss=masked_binary_crossentropy,
    )
    record = network.fit(
        batches,
        epochs=recipe.epochs,
        verbose=0,
        # Batches come in the order that they themselves draw.
        shuffle=False,
        callbacks=[
            ValidationScore(validation_view, validation_targets, recipe.batch_size),
            keras.callbacks.TerminateOnNaN(),
            TrainingBar(bar, title, len(batches), recipe.epochs),
            keras.callbacks.EarlyStopping(VALIDATION_SCORE, mode="max", patience=PATIENCE, restore_best_weights=True),
            *(callbacks or []),
        ],
    )
    if not np.isfinite(record.history["loss"]).all():
        raise SettingsError(
            f"the loss of {title} became infinite in epoch {len(record.epoch)}: choose a smaller learning rate"
        )
    names = ("loss", "learning_rate", "validation_loss", VALIDATION_SCORE)
    return [{name: float(record.history[name][e]) for name in names} for e in range(len(record.epoch))]


class ValidationScore(keras.callbacks.Callback):
    """Judges the whole validation set after each epoch; per-batch means of a score would not be the score."""

    def __init__(self, view: tuple[NDArray, NDArray[np.int64]], targets: NDArray[np.int8], batch_size: int):
        super().__init__()
        self._view, self._targets, self._batch_size = view, targets, batch_size

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        probabilities = predict(self.model, [self._view], self._batch_size)
        loss = masked_binary_crossentropy(self._targets.astype(np.float32), probabilities)
        logs["validation_loss"] = float(np.mean(keras.ops.convert_to_numpy(loss)))
        logs[VALIDATION_SCORE] = mean_average_precision(self._targets, probabilities)
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


def mean_average_precision(targets: NDArray[np.int8], probabilities: NDArray[np.float32]) -> float:
    """mAP, or 0 where no validation photo has any label or training diverged."""
    if not np.isfinite(probabilities).all():
        return 0.0
    value = float(scores(targets, probabilities)["mean_average_precision"][0])
    return value if np.isfinite(value) else 0.0

"""One network, fitted: Keras owns the loop, validation mAP decides which epoch's weights are kept."""

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
from polytag.models.training.optimizer import AdamW
from polytag.models.training.progress import TrainingBar
from polytag.photos.pixels import photo_view

PATIENCE = 5
"""Epochs without a better validation mAP after which training stops; the best epoch's weights are kept."""

SETTLED = 0.01
"""Of the first learning rate: training stops once it has fallen below, since the weights hardly change any more."""

MANY_PHOTOS = 200
"""From here on batches are prepared by threads of Keras, for whose start and end an epoch waits a fifth of a second.

Otherwise TensorFlow prepares them on the network's own threads, and small networks wait for them.
"""


@dataclass
class Fitted:
    """What fitting a network leaves beside its weights."""

    history: list[dict[str, float]]
    """For each epoch its loss, learning rate, validation loss and validation mAP."""

    kept: int | None
    """The row of the history whose weights were kept; ``None`` where they are the mean of several trainings."""

    probabilities: NDArray[np.float32]
    """What the kept weights give for the validation photos, float32 (n, k)."""


@dataclass
class Trained:
    """What training leaves: the network and how it came about."""

    model: keras.Model
    recipe: Recipe
    history: list[dict[str, float]]
    kept: int | None
    probabilities: NDArray[np.float32]
    """What the network gives for the validation photos, float32 (n, k)."""

    facts: dict[str, Any] = field(default_factory=dict)


def photo_batches(
    data: Dataset,
    recipe: Recipe,
    training: bool,
    on_progress: Callable[[int], object] = lambda n: None,
    reduce: int = 1,
    features: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None,
) -> Batches:
    """Batches of photos, reduced or made features of: shuffled and augmented for training, as they are otherwise."""
    augmentation = recipe.augmentation if training else "none"
    view = photo_view(data.paths, recipe.image_size, on_progress)
    threads = 2 if len(data) >= MANY_PHOTOS else 1
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


def run(
    network: keras.Model,
    train: Batches,
    validation: Batches,
    recipe: Recipe,
    bar: Any,
    title: str,
    optimizer: keras.optimizers.Optimizer | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Fitted:
    """Compile and fit a network, keeping the weights of the epoch with the best validation mAP.

    Args:
        network: to be trained.
        train, validation: what it is shown.
        recipe: learning rate, weight decay, loss and epochs count.
        bar, title: of the progress.
        optimizer: one with its own plan for the learning rate; by default AdamW, whose rate falls when validation
            mAP stops rising, and training stops when it does so for long or the rate is down to `SETTLED` of the
            first. Where it averages weights, the averages are judged and kept.
        callbacks: further ones, which see the scores of each epoch.

    Raises:
        DivergedError: the loss became infinite.
    """
    # A plan ends with its smallest rates, and the late epochs are the best ones: it is followed to its end.
    patience = PATIENCE if optimizer is None else recipe.epochs
    judge = ValidationScore(validation)

    def stop_when_settled(epoch: int, logs: dict[str, float]) -> None:
        network.stop_training |= logs["learning_rate"] < SETTLED * recipe.learning_rate

    steps: list[keras.callbacks.Callback] = [
        judge,
        keras.callbacks.TerminateOnNaN(),
        TrainingBar(bar, title, len(train), recipe.epochs),
        keras.callbacks.EarlyStopping(VALIDATION_SCORE, mode="max", patience=patience, restore_best_weights=True),
        *callbacks,
    ]
    if optimizer is None:
        optimizer = AdamW(recipe.learning_rate, recipe.weight_decay)
        steps.append(keras.callbacks.ReduceLROnPlateau(VALIDATION_SCORE, mode="max", factor=0.3, patience=2))
        steps.append(keras.callbacks.LambdaCallback(on_epoch_end=stop_when_settled))
    if optimizer.use_ema:
        steps.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))  # before any that judges or keeps weights
    # Its variables, were they made in the graph of the first step, would have that graph drawn twice.
    optimizer.build(network.trainable_variables)
    network.compile(optimizer, LOSSES[recipe.loss](train.targets))
    # Batches come in the order that they themselves draw.
    record = network.fit(train, epochs=recipe.epochs, verbose=0, shuffle=False, callbacks=steps)
    if not (np.isfinite(record.history["loss"]).all() and np.isfinite(judge.probabilities).all()):
        raise DivergedError(
            f"the loss of {title} became infinite in epoch {len(record.epoch)}: choose a smaller learning rate"
        )
    names = ("loss", "learning_rate", "validation_loss", VALIDATION_SCORE)
    history = [
        {name: float(record.history[name][e]) for name in names if np.isfinite(record.history[name][e])}
        for e in range(len(record.epoch))
    ]
    return Fitted(history, int(np.argmax(record.history[VALIDATION_SCORE])), judge.probabilities)


def warm_up_and_cosine(rate: float, steps: int, warm_up: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A learning rate that rises to ``rate`` in the first steps and then falls along a cosine to zero.

    Args:
        rate: the highest.
        steps: of the whole training.
        warm_up: those in which it rises, of all steps.
    """
    return keras.optimizers.schedules.CosineDecay(rate / 20, steps - warm_up, warmup_target=rate, warmup_steps=warm_up)


class ValidationScore(keras.callbacks.Callback):
    """Judges the whole validation set after each epoch; per-batch means of a score would not be the score.

    It keeps the probabilities of the best epoch, the one whose weights `keras.callbacks.EarlyStopping` keeps.
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
        # Nothing is prepared ahead: a plain loop spares what `predict` sets up each time, a tenth of a head's epoch.
        batches = (self._validation[index][0] for index in range(len(self._validation)))
        return np.concatenate([self.model.predict_on_batch(batch) for batch in batches])


def mean_average_precision(targets: NDArray[np.int8], probabilities: NDArray[np.float32]) -> float:
    """mAP, or 0 where no validation photo has any label or training diverged."""
    if not np.isfinite(probabilities).all():
        return 0.0
    value = scores(targets, probabilities)["mean_average_precision"]
    return value if np.isfinite(value) else 0.0


def uncompiled(network: keras.Model) -> keras.Model:
    """The same layers without optimizer and loss, which would triple the saved file and need polytag to load."""
    return keras.Model(network.input, network.output, name=network.name)

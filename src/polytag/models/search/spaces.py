"""Search space of each model, and the short training that scores a candidate."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
from optuna import TrialPruned
from optuna.trial import BaseTrial

from polytag.data.dataset import Dataset
from polytag.errors import DivergedError
from polytag.evaluation.metrics import VALIDATION_SCORE
from polytag.models.backbones.weights import Weights
from polytag.models.backend import keras
from polytag.models.recipe import LOSS_NAMES, Recipe
from polytag.models.search.search import Report, Space
from polytag.models.training.cnn import train_cnn
from polytag.models.training.loop import Fitted
from polytag.models.training.transfer import fit_head, head_batches

STAGE_PHOTOS, STAGE_EPOCHS = 2000, 10
"""Most photos and epochs of a trial. `benchmarks/search_stage.py` measures how well it predicts a full one."""

CNN_FIRST: tuple[dict[str, Any], ...] = tuple(
    {
        "filters1": 32,
        "filters2": 64,
        "filters3": 128,
        "filters4": 0,
        "pooling": pooling,
        "dense": 256,
        "dropout": 0.5,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
    }
    for pooling, learning_rate, weight_decay in (("flatten", 1e-4, 1e-4), ("average", 1e-3, 1e-2))
)
"""First points of `cnn_space`: the baseline's architecture and learning rate, and settings that did well elsewhere."""

TRANSFER_FIRST: tuple[dict[str, Any], ...] = (
    {"dense": 512, "dropout": 0.3, "loss": "bce", "learning_rate": 7e-4, "weight_decay": 1e-2},
)
"""First point of `transfer_space`: the settings that are used without a search."""


def cnn_space(trial: BaseTrial, recipe: Recipe, asked: Collection[str]) -> Recipe:
    """Search space of `tuned`: the baseline with other sizes, an optional fourth block, another pooling, other rates.

    Args:
        trial: trial whose `suggest_…` methods are called.
        recipe: recipe to start from.
        asked: fields of the recipe that are not searched.
    """
    reduce = reduction(recipe.image_size)
    # After three blocks, smaller photos have too few pixels left for a fourth.
    fourth = (0, 128, 256) if recipe.image_size // reduce >= 48 else (0,)
    architecture = {
        "reduce": reduce,
        "filters1": trial.suggest_categorical("filters1", (16, 32, 64)),
        "filters2": trial.suggest_categorical("filters2", (32, 64, 128)),
        "filters3": trial.suggest_categorical("filters3", (64, 128, 256)),
        "filters4": trial.suggest_categorical("filters4", fourth),
        "pooling": trial.suggest_categorical("pooling", ("flatten", "average", "max")),
        "dense": trial.suggest_categorical("dense", (128, 256, 512)),
        "dropout": round(trial.suggest_float("dropout", 0.1, 0.7), 2),
    }
    rates = _rates(trial, {"learning_rate": (1e-4, 3e-3), "weight_decay": (1e-4, 1e-1)}, asked)
    return replace(recipe, **rates, hyperparameters=architecture)


def reduction(image_size: int) -> int:
    """Factor by which photos are reduced for `tuned`, to a side of 48 to 95 pixels.

    A CNN trained from scratch on some thousand photos learns little from finer detail. At 224 px an epoch takes a
    sixteenth of the time, which allows the many epochs that augmentation needs.
    """
    return max(1, 2 ** int(np.log2(image_size / 48)))


def cnn_score(
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    report: Report,
    *,
    photos: int = STAGE_PHOTOS,
    epochs: int = STAGE_EPOCHS,
) -> float:
    """Score a candidate CNN: validation mAP of its best epoch in a short training.

    Args:
        train, validation: readable photos.
        recipe: candidate.
        report: called with each epoch and its validation mAP.
        photos, epochs: most training photos and epochs.
    """
    rows = np.sort(np.random.default_rng(recipe.seed).permutation(len(train))[:photos])
    recipe = replace(recipe, epochs=min(recipe.epochs, epochs))
    keras.backend.clear_session()
    part = train.take(rows)
    return _score(lambda callbacks: train_cnn(part, validation, recipe, "trial", False, callbacks)[1], report)


def transfer_space(trial: BaseTrial, recipe: Recipe, asked: Collection[str]) -> Recipe:
    """Search space of `transfer`: hidden layer, dropout, loss and rates of the head on the frozen backbone.

    The arguments are those of `cnn_space`.
    """
    rates = _rates(trial, {"learning_rate": (1e-4, 1e-2), "weight_decay": (1e-4, 1e-1)}, asked)
    loss = recipe.loss if "loss" in asked else trial.suggest_categorical("loss", LOSS_NAMES)
    top = {
        "dense": trial.suggest_categorical("dense", (0, 256, 512, 1024)),
        "dropout": round(trial.suggest_float("dropout", 0.1, 0.7), 2),
    }
    return replace(recipe, **rates, loss=loss, hyperparameters=top)


def transfer_score(train: Dataset, validation: Dataset, recipe: Recipe, report: Report, *, weights: Weights) -> float:
    """Score a candidate head: validation mAP of its best epoch, on all photos, as training on embeddings is fast.

    Args:
        train, validation: readable photos.
        recipe: candidate.
        report: called with each epoch and its validation mAP.
        weights: weights of the backbone.
    """
    keras.backend.clear_session()
    batches, validation_batches = head_batches(train, validation, recipe, weights, False)
    return _score(lambda callbacks: fit_head(batches, validation_batches, recipe, False, callbacks)[1], report)


SPACES: dict[str, tuple[Space, tuple[dict[str, Any], ...]]] = {
    "tuned": (cnn_space, CNN_FIRST),
    "transfer": (transfer_space, TRANSFER_FIRST),
}
"""Search space and first points of each model in `polytag.models.recipe.SEARCHED`."""


def _rates(trial: BaseTrial, ranges: dict[str, tuple[float, float]], asked: Collection[str]) -> dict[str, Any]:
    """Suggest numbers on a logarithmic scale, rounded to two digits."""
    searched = {name: ends for name, ends in ranges.items() if name not in asked}
    return {name: float(f"{trial.suggest_float(name, *ends, log=True):.1e}") for name, ends in searched.items()}


def _score(train: Callable[[list[keras.callbacks.Callback]], Fitted], report: Report) -> float:
    """Validation mAP of the best epoch of a training, which is reported epoch by epoch."""
    reporter = _Reporter(report)
    try:
        fitted = train([reporter])
    except DivergedError:
        # This ends the trial, not the search.
        raise TrialPruned from None
    if reporter.pruned:
        raise TrialPruned
    return max(epoch[VALIDATION_SCORE] for epoch in fitted.history)


class _Reporter(keras.callbacks.Callback):
    """Stop a pruned training. An exception would leave Keras' threads running."""

    def __init__(self, report: Report):
        super().__init__()
        self._report, self.pruned = report, False

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        try:
            self._report(epoch, logs[VALIDATION_SCORE])
        except TrialPruned:
            self.pruned = self.model.stop_training = True

"""What is searched for each model, and the cheap training by which its candidates are judged."""

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
from polytag.models.search.search import Space
from polytag.models.search.worker import Report
from polytag.models.training.cnn import train_cnn
from polytag.models.training.loop import Fitted
from polytag.models.training.transfer import fit_head, head_batches

STAGE_PHOTOS, STAGE_EPOCHS = 2000, 10
"""Most training photos and epochs of a candidate; `benchmarks/search_stage.py` shows how far they can be believed."""

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
"""Points of `cnn_space` to begin with: the baseline's architecture and rate, and what was good on other photos."""

TRANSFER_FIRST: tuple[dict[str, Any], ...] = (
    {"dense": 512, "dropout": 0.3, "loss": "bce", "learning_rate": 7e-4, "weight_decay": 1e-2},
)
"""The point of `transfer_space` to begin with: what is taken without a search."""


def cnn_space(trial: BaseTrial, recipe: Recipe, asked: Collection[str]) -> Recipe:
    """The baseline's architecture with other sizes, a fourth block, an end of another kind, and other rates.

    As in the other spaces, fields of the recipe that were asked for are not up for choice.
    """
    reduce = reduction(recipe.image_size)
    # Three blocks leave too few pixels of a smaller photo for a fourth.
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
    """By how much photos are reduced before the first block of a searched CNN: to a side of 48 to 95 pixels.

    Learned from scratch, some thousand photos teach little from finer detail, and an epoch costs a sixteenth: that
    buys the many epochs that augmentation needs.
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
    """Validation mAP of a CNN after few epochs on few photos, its best epoch's."""
    rows = np.sort(np.random.default_rng(recipe.seed).permutation(len(train))[:photos])
    recipe = replace(recipe, epochs=min(recipe.epochs, epochs))
    keras.backend.clear_session()
    part = train.take(rows)
    return _judged(lambda callbacks: train_cnn(part, validation, recipe, "trial", False, callbacks)[1], report)


def transfer_space(trial: BaseTrial, recipe: Recipe, asked: Collection[str]) -> Recipe:
    """A linear head or one hidden layer, its loss and its training; the backbone is frozen and never the question."""
    rates = _rates(trial, {"learning_rate": (1e-4, 1e-2), "weight_decay": (1e-4, 1e-1)}, asked)
    loss = recipe.loss if "loss" in asked else trial.suggest_categorical("loss", LOSS_NAMES)
    top = {
        "dense": trial.suggest_categorical("dense", (0, 256, 512, 1024)),
        "dropout": round(trial.suggest_float("dropout", 0.1, 0.7), 2),
    }
    return replace(recipe, **rates, loss=loss, hyperparameters=top)


def transfer_score(train: Dataset, validation: Dataset, recipe: Recipe, report: Report, *, weights: Weights) -> float:
    """Validation mAP of a head on the frozen backbone's embeddings: all photos and epochs, as they are cheap."""
    keras.backend.clear_session()
    batches, judged = head_batches(train, validation, recipe, weights, False)
    return _judged(lambda callbacks: fit_head(batches, judged, recipe, False, callbacks)[1], report)


SPACES: dict[str, tuple[Space, tuple[dict[str, Any], ...]]] = {
    "tuned": (cnn_space, CNN_FIRST),
    "transfer": (transfer_space, TRANSFER_FIRST),
}
"""For each model of `polytag.models.recipe.SEARCHED` what is searched, and where to begin."""


def _rates(trial: BaseTrial, ranges: dict[str, tuple[float, float]], asked: Collection[str]) -> dict[str, Any]:
    """Numbers in their ranges, any order of magnitude as likely as any other, to two digits."""
    searched = {name: ends for name, ends in ranges.items() if name not in asked}
    return {name: float(f"{trial.suggest_float(name, *ends, log=True):.1e}") for name, ends in searched.items()}


def _judged(train: Callable[[list[keras.callbacks.Callback]], Fitted], report: Report) -> float:
    """The best epoch's validation mAP of a training that is reported on, epoch by epoch."""
    reporter = _Reporter(report)
    try:
        fitted = train([reporter])
    except DivergedError:
        # A bad trial, not the end of the search.
        raise TrialPruned from None
    if reporter.pruned:
        raise TrialPruned
    return max(epoch[VALIDATION_SCORE] for epoch in fitted.history)


class _Reporter(keras.callbacks.Callback):
    """Stops a training that is pruned; an exception would leave Keras' threads behind."""

    def __init__(self, report: Report):
        super().__init__()
        self._report, self.pruned = report, False

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        try:
            self._report(epoch, logs[VALIDATION_SCORE])
        except TrialPruned:
            self.pruned = self.model.stop_training = True

"""Search space of each model, and the short training runs that score candidates."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
from optuna import TrialPruned
from optuna.trial import BaseTrial

from polytag.data.dataset import Dataset
from polytag.errors import DivergedError
from polytag.evaluation.selection import VALIDATION_SCORE
from polytag.models.backbones.weights import Weights
from polytag.models.backend import keras
from polytag.models.recipe import LOSS_NAMES, Recipe
from polytag.models.search.search import Report, Space
from polytag.models.training.cnn import train_cnn
from polytag.models.training.loop import Fitted
from polytag.models.training.transfer import fit_head, head_batches

STAGE_PHOTOS, STAGE_EPOCHS = 2000, 10
"""Maximum number of photos and of epochs in a trial. `benchmarks/search_stage.py` measures how well such short runs
predict full ones."""

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
"""First points of `cnn_space`: the baseline's architecture and learning rate, and settings that work well on other
data."""

TRANSFER_FIRST: tuple[dict[str, Any], ...] = (
    {"dense": 512, "dropout": 0.3, "loss": "bce", "learning_rate": 7e-4, "weight_decay": 1e-2},
)
"""First point of `transfer_space`: the settings that apply without a search."""


def cnn_space(trial: BaseTrial, recipe: Recipe, asked: Collection[str]) -> Recipe:
    """Propose a recipe for `tuned`, which varies the baseline.

    The search covers layer sizes, an optional fourth block, pooling, dropout, learning rate and weight decay.

    Args:
        trial: trial that suggests the values.
        recipe: recipe to start from.
        asked: names of the recipe fields that are not searched.
    """
    reduce = reduction(recipe.image_size)
    # After three blocks, the feature maps of smaller photos are too small for a fourth block.
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
    """Return the factor by which photos are reduced for `tuned`, to a width and height of 48 to 95 pixels.

    A CNN that is trained from scratch on a few thousand photos learns little from finer detail. If photos at 224 px are
    reduced, an epoch takes a sixteenth of the time. This allows the many epochs that augmentation needs.
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
    """Train a candidate CNN briefly, and return the best epoch's score.

    Args:
        train, validation: readable photos.
        recipe: candidate.
        report: called with each epoch and its support-weighted validation mAP.
        photos, epochs: maximum number of training photos and of epochs.
    """
    rows = np.sort(np.random.default_rng(recipe.seed).permutation(len(train))[:photos])
    recipe = replace(recipe, epochs=min(recipe.epochs, epochs))
    keras.backend.clear_session()
    part = train.take(rows)
    return _score(lambda callbacks: train_cnn(part, validation, recipe, "trial", False, callbacks)[1], report)


def transfer_space(trial: BaseTrial, recipe: Recipe, asked: Collection[str]) -> Recipe:
    """Propose a recipe for `transfer`, whose backbone is frozen during the search.

    The search covers the head's hidden layer, dropout, loss, learning rate and weight decay. The arguments are the same
    as for `cnn_space`.
    """
    rates = _rates(trial, {"learning_rate": (1e-4, 1e-2), "weight_decay": (1e-4, 1e-1)}, asked)
    loss = recipe.loss if "loss" in asked else trial.suggest_categorical("loss", LOSS_NAMES)
    top = {
        "dense": trial.suggest_categorical("dense", (0, 256, 512, 1024)),
        "dropout": round(trial.suggest_float("dropout", 0.1, 0.7), 2),
    }
    return replace(recipe, **rates, loss=loss, hyperparameters=top)


def transfer_score(train: Dataset, validation: Dataset, recipe: Recipe, report: Report, *, weights: Weights) -> float:
    """Train a candidate head, and return the best epoch's score.

    All photos are used, because training on embeddings is fast.

    Args:
        train, validation: readable photos.
        recipe: candidate.
        report: called with each epoch and its support-weighted validation mAP.
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
    """Suggest numbers on a logarithmic scale, rounded to two significant digits."""
    searched = {name: ends for name, ends in ranges.items() if name not in asked}
    return {name: float(f"{trial.suggest_float(name, *ends, log=True):.1e}") for name, ends in searched.items()}


def _score(train: Callable[[list[keras.callbacks.Callback]], Fitted], report: Report) -> float:
    """Train a candidate, report each epoch, and return the score of the best epoch."""
    reporter = _Reporter(report)
    try:
        fitted = train([reporter])
    except DivergedError:
        # Divergence ends the trial but not the search.
        raise TrialPruned from None
    if reporter.pruned:
        raise TrialPruned
    return max(epoch[VALIDATION_SCORE] for epoch in fitted.history)


class _Reporter(keras.callbacks.Callback):
    """Callback that reports each epoch and stops a pruned training run.

    It raises no exception, because an exception would leave Keras' threads running.
    """

    def __init__(self, report: Report):
        super().__init__()
        self._report, self.pruned = report, False

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        try:
            self._report(epoch, logs[VALIDATION_SCORE])
        except TrialPruned:
            self.pruned = self.model.stop_training = True

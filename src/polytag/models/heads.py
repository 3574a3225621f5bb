"""The head of a transfer model, trained on cached embeddings: an epoch takes a second or less."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import SettingsError
from polytag.evaluation.contest import VALIDATION_SCORE
from polytag.models.architectures import head
from polytag.models.backend import keras
from polytag.models.batches import Batches
from polytag.models.fitting import PATIENCE, ValidationScore
from polytag.models.losses import LOSSES
from polytag.models.progress import TrainingBar
from polytag.models.recipe import Recipe

layers = keras.layers

View = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Cached embeddings (rows, n_features), and the row of each photo (n,)."""


def build_head(n_features: int, n_labels: int, recipe: Recipe) -> keras.Model:
    """The head of a recipe; it is linear where ``dense`` is 0."""
    if recipe.hyperparameters.get("dense") != 0:
        return head(n_features, n_labels, **recipe.hyperparameters)
    inputs = layers.Input((n_features,), name="features")
    x = layers.Dropout(recipe.hyperparameters.get("dropout", 0.3))(inputs)
    return keras.Model(inputs, layers.Dense(n_labels, "sigmoid", name="probabilities")(x), name="head")


def train_head(
    top: keras.Model,
    views: Sequence[View],
    targets: NDArray[np.int8],
    validation_view: View,
    validation_targets: NDArray[np.int8],
    recipe: Recipe,
    bar: Any,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[dict[str, float]]:
    """Fit a head with the recipe's loss; the history is as `polytag.models.fitting.run` gives it."""
    batches = Batches(views, targets, recipe.batch_size, shuffle=True, seed=recipe.seed)
    top.compile(
        optimizer=keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay),
        loss=LOSSES[recipe.loss](targets),
    )
    record = top.fit(
        batches,
        epochs=recipe.epochs,
        verbose=0,
        shuffle=False,
        callbacks=[
            ValidationScore(validation_view, validation_targets, recipe.batch_size),
            keras.callbacks.TerminateOnNaN(),
            TrainingBar(bar, "transfer", len(batches), recipe.epochs),
            keras.callbacks.EarlyStopping(VALIDATION_SCORE, mode="max", patience=PATIENCE, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau(VALIDATION_SCORE, mode="max", factor=0.3, patience=2),
            *callbacks,
        ],
    )
    if not np.isfinite(record.history["loss"]).all():
        raise SettingsError(
            f"the loss of transfer became infinite in epoch {len(record.epoch)}: lower its learning rate"
        )
    names = ("loss", "learning_rate", "validation_loss", VALIDATION_SCORE)
    return [{name: float(record.history[name][e]) for name in names} for e in range(len(record.epoch))]

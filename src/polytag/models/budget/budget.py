"""A time budget for training one model: options that fit it, and the time at which training must end."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytag.data.dataset import Dataset
from polytag.models.backbones.weights import Weights, find_weights, is_installed
from polytag.models.budget.plan import FROZEN_GAINS, Plan, choose, in_words
from polytag.models.budget.rates import Candidate, measure, with_fine_tuning
from polytag.models.encoders.encoder import Encoder
from polytag.models.options import TrainOptions
from polytag.models.recipe import CLASSICAL

MIN_FINE_TUNING_SECONDS = 60.0
"""Fine-tuning is considered only if so much time is left after training a frozen model."""

LONGER = 1.3
"""Epochs of fine-tuning that are requested, relative to those expected to fit the time.

The expected times of the other steps are cautious. A schedule that is too long is completed when the time is over, but
one that is too short leaves time unused.
"""

SAVING_SHARE, SAVING_SECONDS = 0.03, 4.0
"""Time to calibrate and save a model: this share of the budget, and these seconds."""


@dataclass(frozen=True)
class Budget:
    """What was chosen for a time budget.

    Attributes:
        changes: training options that were chosen.
        reserve: time that is needed after training to embed photos with it, in seconds. To calibrate and save it needs
            more, see `end_of`.
        words: line that says what was chosen and why.
    """

    changes: dict[str, Any]
    reserve: float
    words: str


def plan_budget(
    model: str, options: TrainOptions, pretrained: Weights | None, photos: tuple[Dataset, Dataset], start: float
) -> Budget:
    """Choose training options for ``options.minutes``.

    Args:
        model: one of `polytag.models.recipe.ALL_MODELS`.
        options: training options with ``minutes``. Options that are set are not changed.
        pretrained: weights of the backbone or encoder that the options choose; ``None`` for a model without one.
        photos: training and validation sets.
        start: value of `time.monotonic` at which the time began.
    """
    assert options.minutes is not None
    seconds = 60 * options.minutes
    if pretrained is None:
        words = f"{model}: {options.minutes:.1f} minutes; training ends in time, if need be before its last epoch."
        return Budget({}, 0.0, words)
    train, validation = photos
    candidates = _candidates(model, options, pretrained)
    known = {pretrained.backbone: pretrained}
    # Other photos each time: those of an earlier run are in the cache, and would be faster than the rest.
    order = np.random.default_rng().permutation(len(train))
    rates = measure(train.paths[order], candidates, known)
    sizes = len(train), len(validation)
    wanted = 0 if model in CLASSICAL or isinstance(pretrained, Encoder) else options.fine_tune

    def plan(seconds: float, epochs: int | None = wanted) -> Plan:
        return choose(candidates, rates, sizes, seconds, model == "best", epochs)

    left = start + seconds - time.monotonic()
    frozen = plan(left, 0)
    timed = wanted == 0
    if wanted or (wanted is None and left - frozen.seconds > MIN_FINE_TUNING_SECONDS):
        weights = known.get(frozen.backbone) or find_weights(None, frozen.backbone)
        timed, rates = True, with_fine_tuning(rates, weights, len(train))
        if wanted:  # No other backbone was timed.
            candidates = [one for one in candidates if one[0] == frozen.backbone]
    left = start + seconds - time.monotonic()
    chosen, twice = plan(left), plan(left + seconds)
    # Validation photos are embedded once more for the thresholds.
    reserve = chosen.after + len(validation) * rates.embedding[chosen.backbone, chosen.image_size]
    changes: dict[str, Any] = {"backbone": chosen.backbone, "image_size": chosen.image_size}
    if wanted is None:
        changes["fine_tune"] = math.ceil(LONGER * chosen.epochs)
    return Budget(changes, reserve, f"{model}: {in_words(chosen, twice, rates, seconds, left, timed)}")


def end_of(budget: Budget, minutes: float, start: float) -> float:
    """Return the value of `time.monotonic` at which training must end, for minutes that began at ``start``."""
    return start + 60 * minutes * (1 - SAVING_SHARE) - SAVING_SECONDS - budget.reserve


def chooses_backbone(model: str, options: TrainOptions) -> bool:
    """Return whether a budget chooses the backbone and the image size of a model."""
    return model == "best" and options.backbone is None and options.weights is None


def _candidates(model: str, options: TrainOptions, pretrained: Weights) -> list[Candidate]:
    """Return the backbones and image sizes to choose from."""
    if isinstance(pretrained, Encoder):
        return [(pretrained.backbone, pretrained.image_size)]
    recipe = options.recipe(model)
    if not chooses_backbone(model, options):
        return [(recipe.backbone, recipe.image_size)]
    found = [(name, options.image_size or size) for name, size in FROZEN_GAINS if is_installed(name)]
    return list(dict.fromkeys(found)) or [(recipe.backbone, recipe.image_size)]

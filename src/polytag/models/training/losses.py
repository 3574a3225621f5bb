"""Losses for several labels at once, some of which may be unknown.

Each takes targets float (batch, k), 1 present, 0 absent, -1 unknown, and probabilities float (batch, k) from 0 to 1.
It returns float (batch,): the sum over known labels divided by k. Unknown labels add neither loss nor gradient.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from polytag.models.backend import keras

ops = keras.ops

FOCAL_GAMMA = 2.0
"""γ of the focal loss, as its authors recommend."""

ASYMMETRIC_GAMMA, ASYMMETRIC_MARGIN = 4.0, 0.05
"""γ− and m of the asymmetric loss, as its authors recommend; their γ+ is 0."""


def masked_binary_crossentropy(targets, probabilities):
    """Binary cross-entropy."""
    targets, known, p = _prepared(targets, probabilities)
    return _mean(known, targets * ops.log(p) + (1 - targets) * ops.log(1 - p))


def weighted_binary_crossentropy(targets: NDArray[np.int8]) -> Callable:
    """Binary cross-entropy that gives photos with a label the same total weight as photos without it.

    Args:
        targets: int8 (n, k), targets of the training photos.

    Returns:
        The loss. A label that is always or never present is not reweighted.
    """
    present, absent = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    weights = np.where((present > 0) & (absent > 0), absent / np.maximum(present, 1), 1).astype(np.float32)

    def loss(targets, probabilities):
        targets, known, p = _prepared(targets, probabilities)
        return _mean(known, weights * targets * ops.log(p) + (1 - targets) * ops.log(1 - p))

    return loss


def focal(targets, probabilities):
    """Focal loss (Lin et al. 2017, "Focal loss for dense object detection"), without class weights.

    Confident correct predictions count little.
    """
    targets, known, p = _prepared(targets, probabilities)
    present = targets * (1 - p) ** FOCAL_GAMMA * ops.log(p)
    absent = (1 - targets) * p**FOCAL_GAMMA * ops.log(1 - p)
    return _mean(known, present + absent)


def asymmetric(targets, probabilities):
    """Asymmetric loss (Ridnik et al. 2021, "Asymmetric loss for multi-label classification").

    Absent labels, which are the majority, count less the lower their probability, and not at all below the margin.
    """
    targets, known, p = _prepared(targets, probabilities)
    shifted = ops.maximum(p - ASYMMETRIC_MARGIN, 0)
    absent = (1 - targets) * shifted**ASYMMETRIC_GAMMA * ops.log(1 - shifted)
    return _mean(known, targets * ops.log(p) + absent)


LOSSES: dict[str, Callable[[NDArray[np.int8]], Callable]] = {
    "bce": lambda targets: masked_binary_crossentropy,
    "weighted_bce": weighted_binary_crossentropy,
    "focal": lambda targets: focal,
    "asymmetric": lambda targets: asymmetric,
}
"""Functions from the training targets int8 (n, k) to the loss, by name."""


def _prepared(targets, probabilities):
    """Targets in the probabilities' dtype, a mask of known targets, and probabilities with finite logarithms."""
    known = ops.cast(targets >= 0, probabilities.dtype)
    edge = keras.config.epsilon()
    return ops.cast(targets, probabilities.dtype), known, ops.clip(probabilities, edge, 1 - edge)


def _mean(known, log_likelihood):
    return -ops.mean(known * log_likelihood, axis=-1)

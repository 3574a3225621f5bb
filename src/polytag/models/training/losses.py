"""Multi-label losses that support unknown labels.

Each loss takes targets, float (batch, k), with 1 for present, 0 for absent and -1 for unknown, and probabilities, float
(batch, k), from 0 to 1. It returns the sum over the known labels divided by k, float (batch,). Unknown labels
contribute neither loss nor gradient.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from polytag.models.backend import keras

ops = keras.ops

FOCAL_GAMMA = 2.0
"""γ of the focal loss, as recommended by its authors."""

ASYMMETRIC_GAMMA, ASYMMETRIC_MARGIN = 4.0, 0.05
"""γ− and m of the asymmetric loss, as recommended by its authors. γ+ is 0, as in their work."""


def masked_binary_crossentropy(targets, probabilities):
    """Compute binary cross-entropy."""
    targets, known, p = _prepared(targets, probabilities)
    return _mean(known, targets * ops.log(p) + (1 - targets) * ops.log(1 - p))


def weighted_binary_crossentropy(targets: NDArray[np.int8]) -> Callable:
    """Create a binary cross-entropy that gives photos with a label the same total weight as photos without it.

    Args:
        targets: targets of the training photos, int8 (n, k).

    Returns:
        The loss. Labels that are always or never present are not reweighted.
    """
    present, absent = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    weights = np.where((present > 0) & (absent > 0), absent / np.maximum(present, 1), 1).astype(np.float32)

    def loss(targets, probabilities):
        targets, known, p = _prepared(targets, probabilities)
        return _mean(known, weights * targets * ops.log(p) + (1 - targets) * ops.log(1 - p))

    return loss


def focal(targets, probabilities):
    """Compute focal loss (Lin et al. 2017, "Focal loss for dense object detection"), without class weights.

    Confident correct predictions contribute little to the loss.
    """
    targets, known, p = _prepared(targets, probabilities)
    present = targets * (1 - p) ** FOCAL_GAMMA * ops.log(p)
    absent = (1 - targets) * p**FOCAL_GAMMA * ops.log(1 - p)
    return _mean(known, present + absent)


def asymmetric(targets, probabilities):
    """Compute asymmetric loss (Ridnik et al. 2021, "Asymmetric loss for multi-label classification").

    Absent labels, which are the majority, contribute less if their probability is low, and nothing below the margin.
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
"""Functions that create a loss from the training targets, int8 (n, k), by name of the loss."""


def _prepared(targets, probabilities):
    """Return targets in the probabilities' dtype, a mask of known targets, and probabilities with finite logarithms."""
    known = ops.cast(targets >= 0, probabilities.dtype)
    edge = keras.config.epsilon()
    return ops.cast(targets, probabilities.dtype), known, ops.clip(probabilities, edge, 1 - edge)


def _mean(known, log_likelihood):
    return -ops.mean(known * log_likelihood, axis=-1)

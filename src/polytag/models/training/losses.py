"""Losses for several labels at once, some of which may be unknown.

Each takes targets float (batch, k), 1 present, 0 absent, -1 unknown, and probabilities float (batch, k), 0 to
1, and returns float (batch,): the sum over known labels divided by k. Unknown labels add neither loss nor gradient.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from polytag.models.backend import keras

ops = keras.ops

FOCUS = 2.0
"""γ of the focal loss, as its authors recommend."""

FOCUS_ABSENT, MARGIN = 4.0, 0.05
"""γ− and m of the asymmetric loss, as its authors recommend; their γ+ is 0."""


def masked_binary_crossentropy(targets, probabilities):
    """Binary cross-entropy."""
    targets, known, p = _prepared(targets, probabilities)
    return _mean(known, targets * ops.log(p) + (1 - targets) * ops.log(1 - p))


def weighted_binary_crossentropy(targets: NDArray[np.int8]) -> Callable:
    """Binary cross-entropy in which all photos with a label weigh as much as all without it.

    Args:
        targets: int8 (n, k) of the training photos.

    Returns:
        The loss. A photo with a label that is never, or always, present weighs as much as any.
    """
    present, absent = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    weights = np.where((present > 0) & (absent > 0), absent / np.maximum(present, 1), 1).astype(np.float32)

    def loss(targets, probabilities):
        targets, known, p = _prepared(targets, probabilities)
        return _mean(known, weights * targets * ops.log(p) + (1 - targets) * ops.log(1 - p))

    return loss


def focal(targets, probabilities):
    """The focal loss (Lin et al. 2017, "Focal loss for dense object detection"), without its class weights.

    What is judged rightly and with certainty counts little.
    """
    targets, known, p = _prepared(targets, probabilities)
    present = targets * (1 - p) ** FOCUS * ops.log(p)
    absent = (1 - targets) * p**FOCUS * ops.log(1 - p)
    return _mean(known, present + absent)


def asymmetric(targets, probabilities):
    """The asymmetric loss (Ridnik et al. 2021, "Asymmetric loss for multi-label classification").

    Absent labels, which are the many, count the less the surer they are absent, and not at all below the margin.
    """
    targets, known, p = _prepared(targets, probabilities)
    shifted = ops.maximum(p - MARGIN, 0)
    absent = (1 - targets) * shifted**FOCUS_ABSENT * ops.log(1 - shifted)
    return _mean(known, targets * ops.log(p) + absent)


LOSSES: dict[str, Callable[[NDArray[np.int8]], Callable]] = {
    "bce": lambda targets: masked_binary_crossentropy,
    "weighted_bce": weighted_binary_crossentropy,
    "focal": lambda targets: focal,
    "asymmetric": lambda targets: asymmetric,
}
"""From the training targets to the loss, by name."""


def _prepared(targets, probabilities):
    """Targets in the probabilities' dtype, which of them are known, and probabilities whose logarithms are finite."""
    known = ops.cast(targets >= 0, probabilities.dtype)
    edge = keras.config.epsilon()
    return ops.cast(targets, probabilities.dtype), known, ops.clip(probabilities, edge, 1 - edge)


def _mean(known, gain):
    return -ops.mean(known * gain, axis=-1)

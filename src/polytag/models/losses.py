"""Losses for several labels at once, some of which may be unknown."""

from polytag.models.backend import keras

ops = keras.ops


def masked_binary_crossentropy(targets, probabilities):
    """Binary cross-entropy to which unknown labels add nothing, neither loss nor gradient.

    Args:
        targets: float (batch, k), 1 present, 0 absent, -1 unknown.
        probabilities: float (batch, k), 0 to 1.

    Returns:
        float (batch,), the sum over known labels divided by k.
    """
    known = ops.cast(targets >= 0, probabilities.dtype)
    targets = ops.cast(targets, probabilities.dtype)
    p = ops.clip(probabilities, keras.config.epsilon(), 1 - keras.config.epsilon())
    entropy = -(targets * ops.log(p) + (1 - targets) * ops.log(1 - p))
    return ops.mean(known * entropy, axis=-1)

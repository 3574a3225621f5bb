"""AdamW with a separate learning rate for each variable."""

from collections.abc import Sequence
from typing import Any

from polytag.models.backend import keras


class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW that multiplies the learning rate by a factor for each variable.

    Args:
        learning_rate: learning rate or learning rate schedule.
        factors: factor for each trainable variable, in the order of the model's variables.
        settings: additional arguments for `keras.optimizers.AdamW`. Weight decay does not depend on the factors.
    """

    def __init__(self, learning_rate: Any, factors: Sequence[float], **settings: Any):
        super().__init__(learning_rate, **settings)
        self._factors = factors

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable. Keras calls this method."""
        factor = self._factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)

"""AdamW with a learning rate of its own for each variable."""

from collections.abc import Sequence
from typing import Any

from polytag.models.backend import keras


class LayerwiseAdamW(keras.optimizers.AdamW):
    """Keras' AdamW whose learning rate is multiplied by a factor for each variable.

    Args:
        learning_rate: learning rate or schedule.
        factors: factor for each trainable variable, in the model's order.
        settings: further arguments of `keras.optimizers.AdamW`. Weight decay does not depend on the factors.
    """

    def __init__(self, learning_rate: Any, factors: Sequence[float], **settings: Any):
        super().__init__(learning_rate, **settings)
        self._factors = factors

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable. Called by Keras."""
        factor = self._factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)

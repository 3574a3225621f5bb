"""Adam as networks are trained by it fastest, with rates that may differ from variable to variable."""

from collections.abc import Sequence
from typing import Any

from polytag.models.backend import keras


class Adam(keras.optimizers.Adam):
    """Keras' optimizer, which on TensorFlow is one operation for each variable instead of a dozen.

    The dozen read and write a variable and its two averages again and again, and take a quarter of a step of a network
    with many weights. The results are the same but for rounding.

    Args:
        learning_rate: or its plan.
        factors: what it is multiplied by, for each trainable variable in the model's order; ``None`` for 1.
        weight_decay: decoupled (AdamW, Loshchilov & Hutter 2019), per step times the learning rate without factors.
        options: of Keras' optimizer.
    """

    def __init__(
        self, learning_rate: Any, factors: Sequence[float] | None = None, weight_decay: float = 0.0, **options: Any
    ):
        # A decay of 0 would be computed all the same.
        super().__init__(learning_rate, weight_decay=weight_decay or None, **options)
        self._factors = factors

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Called by Keras for each variable."""
        number = self._get_variable_index(variable)
        if self._factors is not None:
            learning_rate = learning_rate * self._factors[number]
        if keras.backend.backend() != "tensorflow":
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow

        step = tensorflow.cast(self.iterations + 1, variable.dtype)
        tensorflow.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[number].value.handle,
            v=self._velocities[number].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tensorflow.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tensorflow.cast(gradient, variable.dtype),
        )

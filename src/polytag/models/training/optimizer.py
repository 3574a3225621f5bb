"""AdamW as networks are trained by it fastest, with rates that may differ from variable to variable."""

from collections.abc import Sequence
from typing import Any

from polytag.models.backend import keras


class AdamW(keras.optimizers.Adam):
    """Keras' optimizer (Loshchilov & Hutter 2019), whose step is one operation a variable on TensorFlow.

    Keras' dozen read and write a variable and its two averages again and again, and take a quarter of a step of a
    network with many weights. The results are the same but for rounding.

    Args:
        learning_rate: or its plan.
        weight_decay: per step, times the learning rate without factors.
        factors: what the learning rate is multiplied by, for each trainable variable in the model's order; ``None`` for
            1.
        average: momentum of moving averages of the weights (Keras' ``ema_momentum``); ``None`` to keep none.
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float = 0.0,
        *,
        factors: Sequence[float] | None = None,
        average: float | None = None,
    ):
        averages = {} if average is None else {"use_ema": True, "ema_momentum": average}
        # A decay of 0 would be computed all the same.
        super().__init__(learning_rate, weight_decay=weight_decay or None, **averages)
        self._factors = factors

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Called by Keras for each variable."""
        if self._factors is not None:
            learning_rate = learning_rate * self._factors[self._get_variable_index(variable)]
        step = self.fused_step if keras.backend.backend() == "tensorflow" else super().update_step
        step(gradient, variable, learning_rate)

    def fused_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """What Keras' own step does, in one operation."""
        import tensorflow

        number = self._get_variable_index(variable)
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

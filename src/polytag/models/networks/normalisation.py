"""Batch normalisation in one TensorFlow operation, for training."""

from typing import Any

from polytag.models.backend import keras


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation of feature maps, as a single operation on TensorFlow.

    Keras uses a dozen operations, each of which reads and writes a whole feature map: half of a CNN's training step
    and memory. The results are the same up to rounding, except that the moving variance is the unbiased estimate.

    Keras cannot load a network with this layer without polytag. Use it only for networks that are trained and then
    pass their weights to a network of standard layers.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise feature maps (batch, height, width, channels) over all axes but the channels."""
        if keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow

        training = bool(training and self.trainable)
        outputs, mean, variance, *_ = tensorflow.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=[] if training else self.moving_mean,
            variance=[] if training else self.moving_variance,
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + new * (1 - self.momentum))
        return outputs

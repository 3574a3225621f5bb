"""Batch normalisation as a single TensorFlow operation, for training."""

from typing import Any

from polytag.models.backend import keras


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation of feature maps as a single TensorFlow operation.

    Keras uses a dozen operations, and each of them reads and writes a whole feature map. Together they account for half
    of a CNN's training time and memory. The results are the same up to rounding, except that the moving variance uses
    the unbiased estimate.

    Keras cannot load a network with this layer unless polytag is installed. Use the layer only in networks that pass
    their weights to a network of standard layers after training.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise feature maps (batch, height, width, channels) over all axes except the channels."""
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

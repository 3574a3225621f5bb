"""Heat maps from gradients, for networks that Keras can run.

The method is Grad-CAM (Selvaraju et al. 2017, Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization). It sums the channels of the last feature map, weighted by the mean gradient of the label's logit.
Negative values are set to 0 because they mark regions that lower the score.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import SettingsError
from polytag.evaluation.calibration import LEAST_PROBABILITY
from polytag.models.backend import choose_backend, keras
from polytag.models.bundle.bundle import Bundle
from polytag.serving.explaining.heat import enlarged, index_of

ops = keras.ops


class GradCam:
    """A generator of heat maps for a bundle's Keras model.

    Creating one takes a few seconds. Each heat map then takes a fraction of a second. It is thread-safe.

    Args:
        bundle: the model. ML-kNN models have no gradients and cannot be explained.

    Raises:
        SettingsError: Keras does not use the TensorFlow backend.
        BundleError: the bundle is damaged.
    """

    def __init__(self, bundle: Bundle):
        if choose_backend() != "tensorflow":
            raise SettingsError("heat maps need Keras with the TensorFlow backend: set KERAS_BACKEND=tensorflow")
        import tensorflow as tf

        self.labels, self.image_size = bundle.labels, bundle.image_size
        features, self._rest, self._ends_in_logits = _split(bundle.keras_model())
        # The compiled graph runs nine times as fast as eager execution.
        self._features = tf.function(features)

    def heat(self, photo: NDArray[np.uint8], labels: Sequence[str]) -> NDArray[np.float32]:
        """Compute the heat maps of several labels in a single forward and backward pass.

        Args:
            photo: uint8 (size, size, 3), as `polytag.photos.decode.decode` returns it for the bundle's image size.
            labels: labels to explain; each must be a label of the bundle.

        Returns:
            float32 (len(labels), size, size), 0 to 1. Each map is scaled so that its maximum is 1. A map is all zeros
            if no region raises the label's score. Maps are interpolated from the resolution of the last feature map
            (7 × 7 for MobileNetV2 at 224 px).

        Raises:
            SettingsError: a label is unknown, or the model has no gradients.
        """
        import tensorflow as tf

        which = [index_of(label, self.labels) for label in labels]
        if not which:
            return np.zeros((0, self.image_size, self.image_size), np.float32)
        features = self._features(photo[None], training=False)
        # Each label gets its own copy of the features, so the gradient of the sum separates the labels.
        features = tf.repeat(features, len(which), axis=0)
        with tf.GradientTape() as tape:
            tape.watch(features)
            total = tf.reduce_sum(tf.gather(self._logits(features), which, axis=1, batch_dims=1))
        gradients = tape.gradient(total, features)
        if gradients is None:
            raise SettingsError(
                "this model compares photos with its training photos and has no gradients, so it cannot be explained: "
                "choose another model, such as transfer"
            )
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        coarse = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1)).numpy()
        return np.stack([enlarged(heat, self.image_size) for heat in coarse])

    def _logits(self, features: Any) -> Any:
        for part in self._rest:
            features = part(features, training=False)
        if self._ends_in_logits:
            return features
        p = ops.clip(features, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        return ops.log(p) - ops.log(1 - p)


def _split(network: keras.Model) -> tuple[keras.Model, list[keras.Model], bool]:
    """Split a network at its last feature map.

    A bundle's network is either a single model, or a backbone followed by a head. One layer of the first model pools
    the last feature map into a vector. A final sigmoid is removed because its gradient vanishes for confident
    predictions.

    Returns:
        The part before the split, the parts after it, and whether the output is now a logit.
    """
    chain = [layer for layer in network.layers if isinstance(layer, keras.Model)] or [network]
    first, end = chain[0], chain[-1].operations[-1]
    vectors = [layer for layer in first.layers if layer.output.ndim == 2 and not isinstance(layer.input, list)]
    pooling = next(layer for layer in vectors if layer.input.ndim == 4)
    features, vector = pooling.input, first.output
    has_sigmoid = getattr(end, "activation", None) is keras.activations.sigmoid
    if has_sigmoid:
        end.activation = keras.activations.linear
    return keras.Model(first.input, features), [keras.Model(features, vector), *chain[1:]], has_sigmoid

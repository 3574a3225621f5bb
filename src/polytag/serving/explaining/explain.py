"""Explain: where on a photo a model sees what speaks for a label.

Grad-CAM (Selvaraju et al. 2017, Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization):
the channels of the last feature map, each weighted by how much the label's logit rises with it, added up; what is
below zero, and so speaks against the label, is left out.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polytag.errors import SettingsError, listed
from polytag.evaluation.calibration import LEAST_PROBABILITY
from polytag.models.backend import choose_backend, keras
from polytag.models.bundle.bundle import Bundle, assigned_labels
from polytag.photos.decode import decode

ops = keras.ops


class Explainer:
    """Heat maps of a bundle's decisions, by its Keras model. Making one takes seconds, a heat map a fraction of one.

    It may be called from several threads.

    Args:
        bundle: of any model whose answer changes smoothly with the photo, which all but ML-kNN are.

    Raises:
        SettingsError: Keras does not run on TensorFlow.
        BundleError: the bundle is damaged.
    """

    def __init__(self, bundle: Bundle):
        if choose_backend() != "tensorflow":
            raise SettingsError("explaining needs Keras on TensorFlow: install it and set KERAS_BACKEND=tensorflow")
        import tensorflow as tf

        self.labels, self.image_size = bundle.labels, bundle.image_size
        features, self._rest, self._ends_in_logits = _divided(bundle.keras_model())
        # As a graph it is nine times as fast as layer by layer.
        self._features = tf.function(features)

    def heat(self, photo: NDArray[np.uint8], labels: Sequence[str]) -> NDArray[np.float32]:
        """Where the photo speaks for each of some labels.

        All labels together take one pass forward through the network and one back through its end.

        Args:
            photo: uint8 (size, size, 3), as `polytag.photos.decode.decode` makes it with the bundle's image size.
            labels: names of the bundle's labels.

        Returns:
            float32 (len(labels), size, size), 0 to 1, where 1 is the strongest place of each label; all zeros for a
            label for which nothing on the photo speaks. It is as coarse as the last feature map, 7 × 7 for
            MobileNetV2 at 224 px, and interpolated between.

        Raises:
            SettingsError: an unknown label, or a model without gradients.
        """
        import tensorflow as tf

        which = [_index(label, self.labels) for label in labels]
        if not which:
            return np.zeros((0, self.image_size, self.image_size), np.float32)
        features = self._features(photo[None], training=False)
        # Each label has a copy of the photo's features, so that one gradient of the sum has them all apart.
        features = tf.repeat(features, len(which), axis=0)
        with tf.GradientTape() as tape:
            tape.watch(features)
            total = tf.reduce_sum(tf.gather(self._logits(features), which, axis=1, batch_dims=1))
        gradients = tape.gradient(total, features)
        if gradients is None:
            raise SettingsError(
                "this model looks up similar photos and has no gradients to explain it by: explain another, such as "
                "transfer or powerset"
            )
        weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
        coarse = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1)).numpy()
        return np.stack([_enlarged(heat, self.image_size) for heat in coarse])

    def _logits(self, features: Any) -> Any:
        for part in self._rest:
            features = part(features, training=False)
        if self._ends_in_logits:
            return features
        p = ops.clip(features, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        return ops.log(p) - ops.log(1 - p)


@dataclass(frozen=True, eq=False)
class Explained:
    """One label of one photo.

    Attributes:
        label: its name.
        probability, threshold: 0 to 1; the label is given from its threshold upward.
        heat: float32 (size, size), 0 to 1, as `Explainer.heat` gives it.
    """

    label: str
    probability: float
    threshold: float
    heat: NDArray[np.float32]

    @property
    def verdict(self) -> str:
        """In words: "0.93, over its threshold 0.41"."""
        # As many digits as tell the two apart.
        digits = 2 if abs(self.probability - self.threshold) >= 0.01 else 5
        side = "over" if self.probability >= self.threshold else "below"
        told = f"{self.probability:.{digits}f}, {side} its threshold {self.threshold:.{digits}f}"
        return told if self.heat.any() else f"{told}; no place speaks for it"


def explain(bundle: Bundle, photo: bytes | str | os.PathLike[str], labels: Sequence[str] = ()) -> list[Explained]:
    """Explain what a bundle says of one photo.

    Args:
        bundle: the model.
        photo: the bytes of the file, or its path.
        labels: which; by default those that are given, the most probable first, or the most probable one where none
            is.

    Raises:
        ImageError: the photo cannot be read.
        SettingsError: as for `Explainer`.
    """
    explainer = Explainer(bundle)
    pixels = decode(photo, bundle.image_size)
    (probabilities,) = bundle.run(pixels[None])
    own = assigned_labels(probabilities, bundle.thresholds) or [int(probabilities.argmax())]
    labels = list(dict.fromkeys(labels)) or [bundle.labels[j] for j in own]
    heats = explainer.heat(pixels, labels)
    which = [bundle.labels.index(label) for label in labels]
    return [
        Explained(bundle.labels[j], float(probabilities[j]), float(bundle.thresholds[j]), heat)
        for j, heat in zip(which, heats, strict=True)
    ]


def _index(label: str, labels: Sequence[str]) -> int:
    if label not in labels:
        raise SettingsError(f"the model has no label '{label}': choose of {listed(list(labels), 30)}")
    return labels.index(label)


def _divided(network: keras.Model) -> tuple[keras.Model, list[keras.Model], bool]:
    """The network up to its last feature map, the parts that follow, and whether they end in logits.

    A bundle's network is either one model or a chain of two, backbone and head; in the first of them one layer makes a
    vector of the last feature map. A sigmoid at the end is taken away, as its gradient vanishes where a model is sure.
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


def _enlarged(heat: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The map at the photo's size, its largest value 1 unless all are 0."""
    large = np.asarray(Image.fromarray(heat).resize((size, size), Image.Resampling.BICUBIC)).clip(0)
    return large / max(float(large.max()), np.finfo(np.float32).tiny)

"""Network architectures. Each function takes explicit keyword arguments and returns a `keras.Model`.

Every model takes RGB photos from `polytag.photos.decode.decode`, uint8 (batch, size, size, 3), and returns
probabilities, float32 (batch, n_labels). Scaling and normalisation are layers of the model.
"""

from collections.abc import Callable

from polytag.errors import SettingsError
from polytag.models.backbones.backbone import backbone as pretrained
from polytag.models.backbones.backbone import pooled
from polytag.models.backbones.weights import Weights
from polytag.models.backend import computing_in, keras
from polytag.models.networks.normalisation import FusedBatchNormalization

layers = keras.layers


def cnn(
    n_labels: int,
    image_size: int,
    *,
    policy: str = "float32",
    fused: bool = False,
    reduce: int = 1,
    filters1: int = 32,
    filters2: int = 64,
    filters3: int = 128,
    filters4: int = 0,
    pooling: str = "flatten",
    dense: int = 256,
    dropout: float = 0.5,
) -> keras.Model:
    """Build a CNN: three or four blocks of convolution, batch normalisation and max pooling, then a dense layer.

    With the defaults and photos at 224 × 224 px, this is the baseline. It has 22.2 million parameters.

    Args:
        n_labels: number of outputs.
        image_size: side of the input, in pixels.
        policy: Keras dtype policy for the computation. Weights and probabilities are always float32.
        fused: whether to normalise with `FusedBatchNormalization`, for a network that is trained but not saved.
        reduce: factor by which the network first reduces the width and height of photos, by averaging.
        filters1, filters2, filters3: number of 3 × 3 filters in the first, second and third block.
        filters4: number of filters in the fourth block; 0 omits the block.
        pooling: conversion of the last feature map to a vector: "flatten", or global "average" or "max" pooling.
        dense: number of units in the hidden layer.
        dropout: fraction of hidden units dropped during training, 0 to 1.

    Raises:
        SettingsError: ``pooling`` or ``reduce`` has an invalid value.
    """
    if pooling not in ("flatten", "average", "max"):
        raise SettingsError(f"pooling must be flatten, average or max, not '{pooling}'")
    check_reduction(reduce)
    inputs = layers.Input((image_size, image_size, 3), dtype="uint8", name="photo")
    normalisation = FusedBatchNormalization if fused else layers.BatchNormalization
    with computing_in(policy):
        x = layers.Rescaling(1 / 255)(inputs)
        if reduce > 1:
            x = layers.AveragePooling2D(reduce)(x)
        for filters in filter(None, (filters1, filters2, filters3, filters4)):
            x = layers.Conv2D(filters, 3, activation="relu")(x)
            # With Keras' default momentum of 0.99, the initial statistics fade only after hundreds of steps. Training
            # on a small data set ends before that.
            x = normalisation(momentum=0.9)(x)
            x = layers.MaxPooling2D()(x)
        pool = {"flatten": layers.Flatten, "average": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
        x = pool[pooling]()(x)
        x = layers.Dense(dense, activation="relu")(x)
        x = layers.Dropout(dropout)(x)
        outputs = layers.Dense(n_labels, activation="sigmoid", dtype="float32", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="cnn")


def check_reduction(reduce: int) -> None:
    """Raise a `SettingsError` unless the reduction factor is a positive integer."""
    if not (isinstance(reduce, int) and reduce >= 1):
        raise SettingsError(f"reduce must be a positive integer, not {reduce!r}")


def transfer(
    n_labels: int,
    image_size: int,
    *,
    backbone: str = "mobilenet_v2",
    weights: Weights | None = None,
    policy: str = "float32",
    dense: int = 512,
    dropout: float = 0.3,
) -> keras.Model:
    """Build a pretrained network whose classifier is replaced with `head`.

    Args:
        n_labels: number of outputs.
        image_size: side of the input, in pixels; at least 32.
        backbone, weights, policy: as in `polytag.models.backbones.backbone.backbone`.
        dense, dropout: as in `head`.
    """
    features = pooled(pretrained(backbone, image_size, weights, policy))
    return with_head(features, head(features.output_shape[-1], n_labels, dense=dense, dropout=dropout))


def with_head(features: keras.Model, top: keras.Model) -> keras.Model:
    """Join a backbone and a head. `get_layer` finds them under the names "backbone" and "head".

    The backbone is not called with ``training=False``, because `fit` would override that argument. It is not needed
    either, because batch normalisation layers in the backbone are never trainable.
    """
    photo = layers.Input(features.input_shape[1:], dtype="uint8", name="photo")
    return keras.Model(photo, top(features(photo)), name="transfer")


def joined(features: keras.Model | None, top: keras.Model) -> keras.Model:
    """Join a backbone that ends with a feature map and a head. Without a backbone, the head is the network."""
    return top if features is None else with_head(pooled(features), top)


def head(
    n_features: int,
    n_labels: int,
    *,
    dense: int = 512,
    dropout: float = 0.3,
    scaling: tuple[list[float], list[float]] | None = None,
) -> keras.Model:
    """Build the head of a transfer model: features float32 (batch, n_features) → probabilities.

    Args:
        n_features: length of the backbone's output.
        n_labels: number of outputs.
        dense: number of units in the hidden layer; 0 omits the layer.
        dropout: fraction of the features and of the hidden units dropped during training, 0 to 1.
        scaling: factors and offsets that standardise the features; ``None`` leaves them unchanged.
    """
    inputs = layers.Input((n_features,), name="features")
    x = inputs if scaling is None else layers.Rescaling(*scaling, name="standardised")(inputs)
    x = layers.Dropout(dropout)(x)
    if dense:
        x = layers.Dense(dense, activation="relu")(x)
        x = layers.Dropout(dropout)(x)
    outputs = layers.Dense(n_labels, activation="sigmoid", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="head")


MODELS: dict[str, Callable[..., keras.Model]] = {
    "baseline": cnn,
    "tuned": cnn,
    "transfer": transfer,
}
"""Architectures of the models that are compared by default, in the order of the result tables."""

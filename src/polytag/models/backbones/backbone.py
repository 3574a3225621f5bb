"""Backbones: pretrained networks that end with their last feature map.

Every backbone takes RGB photos, uint8 (batch, size, size, 3). Normalisation is a layer of the network. polytag builds
MobileNetV2 and EfficientNet-Lite from PyTorch weights. All others are ``keras.applications`` networks.
"""

from collections.abc import Callable
from types import ModuleType

import numpy as np

from polytag.errors import SettingsError, WeightsError, raise_machine_error
from polytag.models.backbones.inverted_residuals import FAMILIES, Convolution, walk
from polytag.models.backbones.weights import Weights, how_to_get_weights
from polytag.models.backend import computing_in, keras

layers = keras.layers


def backbone(name: str, image_size: int, weights: Weights | None, policy: str = "float32") -> keras.Model:
    """Build a frozen backbone: photos uint8 (batch, size, size, 3) → feature map (batch, height, width, channels).

    Args:
        name: one of `FAMILIES`, such as "efficientnet_lite0", or the name of a ``keras.applications`` network, such as
            "EfficientNetB0".
        image_size: width and height of the photos, in pixels.
        weights: weights from `polytag.models.backbones.weights.find_weights`. ``None`` creates random weights (tests).
        policy: Keras dtype policy for the computation and the feature map. Weights are always float32.

    Raises:
        SettingsError: the network does not exist, or cannot be built for photos of this size.
        WeightsError: the weights cannot be downloaded or do not match the network.
    """
    photo = layers.Input((image_size, image_size, 3), dtype="uint8", name="photo")
    with computing_in(policy):
        if weights is not None and weights.kind == "torch":
            features = _from_torch(photo, weights)
        else:
            features = _from_keras(photo, name, weights)
    model = keras.Model(photo, features, name="backbone")
    model.trainable = False
    return model


def pooled(features: keras.Model) -> keras.Model:
    """Add global average pooling to a backbone, so that it returns float32 (batch, channels). All layers are shared."""
    average = layers.GlobalAveragePooling2D(dtype="float32")
    return keras.Model(features.input, average(features.output), name="backbone")


def _from_torch(photo: keras.KerasTensor, weights: Weights) -> keras.KerasTensor:
    family = FAMILIES[weights.backbone]
    built: list[tuple[keras.layers.Layer, Convolution]] = []

    def convolve(x: keras.KerasTensor, c: Convolution) -> keras.KerasTensor:
        side = c.kernel.shape[-1]
        padding = "same"
        if family.symmetric and c.stride > 1:
            x, padding = layers.ZeroPadding2D(side // 2)(x), "valid"
        if c.depthwise:
            # TensorFlow's bfloat16 gradients of strided depthwise convolutions are up to fifty times slower. The
            # gradients of kernels larger than 3 × 3 are slow as well, but those layers are never trained.
            dtype = "float32" if c.stride > 1 else None
            layer = layers.DepthwiseConv2D(side, c.stride, padding, name=c.name, dtype=dtype)
        else:
            layer = layers.Conv2D(len(c.kernel), side, c.stride, padding, name=c.name)
        built.append((layer, c))
        x = layer(x)
        return layers.ReLU(6, name=f"{c.name}_relu")(x) if c.activation else x

    mean, deviation = np.array(family.mean), np.array(family.deviation)
    normalised = layers.Rescaling((1 / deviation).tolist(), (-mean / deviation).tolist(), name="normalised")(photo)
    features = walk(weights, normalised, convolve, lambda a, b: layers.Add()([a, b]))
    for layer, c in built:
        layer.set_weights([c.kernel.transpose(2, 3, 0, 1) if c.depthwise else c.kernel.transpose(2, 3, 1, 0), c.bias])
    return features


def _from_keras(photo: keras.KerasTensor, name: str, weights: Weights | None) -> keras.KerasTensor:
    module, build = _application(name)
    source = None if weights is None else "imagenet" if weights.path is None else str(weights.path)
    try:
        base = build(input_shape=photo.shape[1:], include_top=False, weights=source)
    except Exception as error:
        raise_machine_error(error)
        # Keras may raise any exception: from its own checks, the network, the disk or HDF5.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        if weights is None or (source == "imagenet" and isinstance(error, ValueError)):
            raise SettingsError(f"{name} cannot be built for photos at {photo.shape[1]} px: {reason}") from None
        raise WeightsError(
            f"the pretrained weights for {name} could not be loaded ({reason}): {how_to_get_weights(name)}"
        ) from None
    return _exportable(base)(module.preprocess_input(layers.Rescaling(1.0)(photo)))


def _exportable(base: keras.Model) -> keras.Model:
    """Replace each Normalization layer with Rescaling, because the conversion to ONNX loses its statistics."""
    if not any(isinstance(layer, layers.Normalization) for layer in base.layers):
        return base

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if not isinstance(layer, layers.Normalization):
            return layer.__class__.from_config(layer.get_config())
        mean, variance = (np.ravel(keras.ops.convert_to_numpy(value)) for value in (layer.mean, layer.variance))
        scale = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())
        return layers.Rescaling(scale.tolist(), (-mean * scale).tolist(), name=layer.name)

    copy = keras.models.clone_model(base, clone_function=clone)
    for layer, original in zip(copy.layers, base.layers, strict=True):
        if not isinstance(original, layers.Normalization):
            layer.set_weights(original.get_weights())
    return copy


def _application(name: str) -> tuple[ModuleType, Callable[..., keras.Model]]:
    """Return the module and the constructor of a ``keras.applications`` network. Case and underscores are ignored."""
    known = {key.lower(): value for key, value in vars(keras.applications).items() if key[0].isupper()}
    build = known.get(name.lower().replace("_", ""))
    if build is not None:
        return getattr(keras.applications, build.__module__.rpartition(".")[2]), build
    if name in FAMILIES:
        raise WeightsError(f"no weights found for {name}: {how_to_get_weights(name)}")
    raise SettingsError(
        f"unknown backbone '{name}': choose {', '.join(FAMILIES)} or a keras.applications network, such as "
        "EfficientNetB0, ResNet50V2 or ConvNeXtTiny"
    )

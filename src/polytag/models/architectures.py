"""The networks, each a function from explicit keyword arguments to a `keras.Model`.

Every model takes RGB uint8 photos (batch, size, size, 3) as `polytag.data.images.decode` makes them and
gives float32 probabilities (batch, n_labels): scaling and normalisation are layers inside.
"""

from collections.abc import Callable

import numpy as np

from polytag.data.images import IMAGENET_DEVIATION, IMAGENET_MEAN
from polytag.errors import SettingsError, WeightsError
from polytag.models.backend import keras
from polytag.models.pretrained import Weights, how_to_get_weights, read_torch_weights

layers = keras.layers


def cnn(
    n_labels: int,
    image_size: int,
    *,
    reduce: int = 1,
    filters1: int = 32,
    filters2: int = 64,
    filters3: int = 128,
    filters4: int = 0,
    pooling: str = "flatten",
    dense: int = 256,
    dropout: float = 0.5,
) -> keras.Model:
    """Three or four blocks of convolution, batch normalisation and max pooling, then a dense layer.

    With the defaults at 224² it is the baseline, with 22.2 million parameters.

    Args:
        n_labels: number of outputs.
        image_size: side of the input, in pixels.
        reduce: photos are first reduced to one in this many pixels of their side, by averaging.
        filters1, filters2, filters3: 3×3 filters of each block.
        filters4: those of a fourth block, which 0 leaves out.
        pooling: what turns the last block into a vector: "flatten", or global "average" or "max".
        dense: units of the hidden layer.
        dropout: share of hidden units dropped while training, 0 to 1.
    """
    if pooling not in ("flatten", "average", "max"):
        raise SettingsError(f"pooling must be flatten, average or max, not '{pooling}'")
    inputs = layers.Input((image_size, image_size, 3), dtype="uint8", name="photo")
    x = layers.Rescaling(1 / 255)(inputs)
    if reduce > 1:
        x = layers.AveragePooling2D(reduce)(x)
    for filters in filter(None, (filters1, filters2, filters3, filters4)):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        # Keras' 0.99 needs hundreds of steps to forget its start: more than small sets have before they stop.
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.MaxPooling2D()(x)
    pool = {"flatten": layers.Flatten, "average": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    x = pool[pooling]()(x)
    x = layers.Dense(dense, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    outputs = layers.Dense(n_labels, activation="sigmoid", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="cnn")


def mobilenet_v2(
    n_labels: int,
    image_size: int,
    *,
    weights: Weights | None = None,
    dense: int = 512,
    dropout: float = 0.3,
) -> keras.Model:
    """MobileNetV2 (Sandler et al. 2018) with its classifier replaced by `head`.

    Args:
        n_labels: number of outputs.
        image_size: side of the input, in pixels; at least 32.
        weights: the pretrained weights, from `polytag.models.pretrained.find_weights`; ``None`` gives
            random ones, which only tests have a use for.
        dense, dropout: of the head.
    """
    backbone = mobilenet_v2_backbone(image_size, weights)
    top = head(backbone.output_shape[-1], n_labels, dense=dense, dropout=dropout)
    return joined(backbone, top)


def joined(backbone: keras.Model, top: keras.Model) -> keras.Model:
    """A backbone and a head as one model; both stay reachable by `get_layer`."""
    inputs = layers.Input(backbone.input_shape[1:], dtype="uint8", name="photo")
    # training=False keeps batch normalisation in inference mode even when the backbone is unfrozen.
    return keras.Model(inputs, top(backbone(inputs, training=False)), name="transfer")


def head(n_features: int, n_labels: int, *, dense: int = 512, dropout: float = 0.3) -> keras.Model:
    """The trainable end of a transfer model: features float32 (batch, n_features) → probabilities.

    Args:
        n_features: length of the backbone's output.
        n_labels: number of outputs.
        dense: units of the hidden layer.
        dropout: share of features, and of hidden units, dropped while training, 0 to 1.
    """
    inputs = layers.Input((n_features,), name="features")
    x = layers.Dropout(dropout)(inputs)
    x = layers.Dense(dense, activation="relu")(x)
    x = layers.Dropout(dropout)(x)
    outputs = layers.Dense(n_labels, activation="sigmoid", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="head")


def mobilenet_v2_backbone(image_size: int, weights: Weights | None = None) -> keras.Model:
    """MobileNetV2 up to its pooled features: photos uint8 (batch, size, size, 3) → float32 (batch, 1280).

    The model comes frozen. Which normalisation and padding it uses follows from the weights' kind.

    Raises:
        WeightsError: the weights cannot be downloaded, or do not fit MobileNetV2.
    """
    inputs = layers.Input((image_size, image_size, 3), dtype="uint8", name="photo")
    if weights is not None and weights.kind == "torchvision":
        base = _as_in_torch(image_size)
        _load_torch_weights(base, weights)
        scaled = layers.Rescaling(
            scale=[1 / (255 * deviation) for deviation in IMAGENET_DEVIATION],
            offset=[-mean / deviation for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)],
        )(inputs)
        scaled = layers.ZeroPadding2D(1)(scaled)
    else:
        base = keras.applications.MobileNetV2(input_shape=(image_size, image_size, 3), include_top=False, weights=None)
        if weights is not None:
            _load_keras_weights(base, weights)
        scaled = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    features = layers.GlobalAveragePooling2D()(base(scaled, training=False))
    backbone = keras.Model(inputs, features, name="backbone")
    backbone.trainable = False
    return backbone


def _as_in_torch(image_size: int) -> keras.Model:
    """The same network as torchvision builds it: symmetric padding and its batch-normalisation epsilon.

    Where a convolution halves a photo Keras pads right and below, torch on all sides: that shifts every feature
    by a pixel. The first convolution has no layer for its padding, so this model expects photos that are
    padded by one pixel on each side.
    """
    size = image_size + 2
    base = keras.applications.MobileNetV2(input_shape=(size, size, 3), include_top=False, weights=None)

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, layers.ZeroPadding2D):
            config["padding"] = ((1, 1), (1, 1))
        if layer.name == "Conv1":
            config["padding"] = "valid"
        if isinstance(layer, layers.BatchNormalization):
            config["epsilon"] = 1e-5
        return layer.__class__.from_config(config)

    return keras.models.clone_model(base, clone_function=clone)


def _load_torch_weights(base: keras.Model, weights: Weights) -> None:
    assert weights.path is not None  # torchvision's weights always come from a file
    tensors = iter(
        array
        for name, array in read_torch_weights(weights.path)
        if not name.endswith("num_batches_tracked") and not name.startswith("classifier")
    )
    try:
        for layer in base.layers:
            if not layer.weights:
                continue
            arrays = [next(tensors) for _ in layer.weights]
            if isinstance(layer, layers.DepthwiseConv2D):
                arrays = [arrays[0].transpose(2, 3, 0, 1)]
            elif isinstance(layer, layers.Conv2D):
                arrays = [arrays[0].transpose(2, 3, 1, 0)]
            layer.set_weights([np.ascontiguousarray(array) for array in arrays])
    except (StopIteration, ValueError) as error:
        raise WeightsError(f"{weights.path} does not hold MobileNetV2's weights ({error})") from None
    if next(tensors, None) is not None:
        raise WeightsError(f"{weights.path} holds more tensors than MobileNetV2 has")


def _load_keras_weights(base: keras.Model, weights: Weights) -> None:
    try:
        if weights.path is not None:
            base.load_weights(weights.path)
        else:
            size = base.input_shape[1]
            downloaded = keras.applications.MobileNetV2(
                input_shape=(size, size, 3), include_top=False, weights="imagenet"
            )
            base.set_weights(downloaded.get_weights())
    except Exception as error:
        # Keras passes on whatever the network, the disk or HDF5 raised.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"MobileNetV2's pretrained weights could not be loaded ({reason[:120]}): {how_to_get_weights()}"
        ) from None


MODELS: dict[str, Callable[..., keras.Model]] = {
    "baseline": cnn,
    "tuned": cnn,
    "transfer": mobilenet_v2,
}
"""The approaches that polytag compares, in the order of its tables."""

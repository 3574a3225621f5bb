"""The late layers of a backbone, which fine-tuning trains, and the early ones, which it leaves as they are.

On a processor the early ones take a third of a step. As they stay, they run on ONNX Runtime instead, in the threads
that prepare batches and in little more than half of the time that TensorFlow takes for them.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.models.backend import keras, on_processor
from polytag.models.onnx import OnnxModel, export_onnx, few_at_a_time


def unfreeze(features: keras.Model, image_size: int) -> None:
    """Make the layers trainable that come after the last one that works at an eighth of a photo's side or more.

    The earlier ones see edges and textures, which all photos share, and training them would cost as much as all others.
    Layers of depthwise kernels of more than 3 × 3, as EfficientNet-Lite0 has them, stay as well: their gradients would
    take a third of its step, and gain nothing.
    """
    features.trainable = True
    layers = list(leaves(features))
    sides = [layer.output.shape[1] if layer.output.ndim == 4 else 0 for layer in layers]
    last = max(i for i, side in enumerate(sides) if side >= image_size // 8)
    for i, layer in enumerate(layers):
        # Statistics of a small data set's small batches would ruin the pretrained ones.
        normalises = isinstance(layer, keras.layers.BatchNormalization)
        slow = isinstance(layer, keras.layers.DepthwiseConv2D) and max(layer.kernel_size) > 3
        layer.trainable = i > last and not normalises and not slow


def leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models in it, in their order."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield layer


def divided(
    network: keras.Model, twin: Callable[[], keras.Model]
) -> tuple[keras.Model, Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None]:
    """The end of a network, of the same layers, from the narrowest place before the first that is to be trained.

    Args:
        network: of `polytag.models.architectures.joined`, with some layers to be trained.
        twin: makes the same in float32, whose early layers go to ONNX Runtime.

    Returns:
        That end, and what makes its input of photos uint8 (batch, size, size, 3), from any thread: float32 (batch,
        height, width, channels). It is the whole network, and ``None``, where a GPU may run the early layers faster,
        where there is no such place, as in a backbone that is a model within a model, and where ONNX Runtime cannot
        run them.
    """
    backbone = network.get_layer("backbone")
    cut = narrowest(backbone) if on_processor() else None
    if cut is None:
        return network, None
    early = twin().get_layer("backbone")
    with tempfile.TemporaryDirectory(prefix="polytag-") as folder:
        path = Path(folder) / "early.onnx"
        if not export_onnx(keras.Model(early.input, early.layers[cut].output), path):
            return network, None
        model = OnnxModel(path, threads=1)
    late = keras.Model(backbone.layers[cut].output, backbone.output)
    inputs = keras.layers.Input(late.input_shape[1:], name="features")
    end = keras.Model(inputs, network.get_layer("head")(late(inputs)), name=network.name)
    return end, partial(few_at_a_time, model)


def narrowest(features: keras.Model) -> int | None:
    """The layer, by its number, whose output is the smallest that all late layers see photos through.

    It is the latest of these, and ``None`` where only whole photos are like that.
    """
    layers = features.layers
    numbers = {id(layer.output): i for i, layer in enumerate(layers)}
    cuts, earliest = [], len(layers)
    for i in reversed(range(len(layers))):
        if earliest >= i:  # no later layer sees anything that is made before this one
            cuts.append(i)
        # What a layer that is a model says of its input is of its own inside: it may come from anywhere.
        earliest = min([earliest, *(numbers.get(id(tensor), 0) for tensor in keras.tree.flatten(layers[i].input))])
    first = next(i for i, layer in enumerate(layers) if any(weight.trainable for weight in layer.weights))
    sizes = {i: np.prod(layers[i].output.shape[1:]) for i in cuts if i < first}
    best = min(sizes, key=lambda i: (sizes[i], -i))
    return best if sizes[best] < sizes[0] else None

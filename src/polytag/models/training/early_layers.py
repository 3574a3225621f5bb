"""Early layers of a backbone, cut off to run on ONNX Runtime while the late ones are fine-tuned."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.models.backend import keras, on_processor
from polytag.models.runtimes.onnx import OnnxModel, export_onnx, few_at_a_time


def divided(
    network: keras.Model, twin: Callable[[], keras.Model]
) -> tuple[keras.Model, Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None]:
    """The end of a network, of the same layers, from the narrowest place before the first that is to be trained.

    Args:
        network: of `polytag.models.networks.architectures.joined`, with some layers to be trained.
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

"""Early layers of a backbone, which run on ONNX Runtime while the late layers are fine-tuned.

On a CPU, the early layers take a third of a training step. Fine-tuning does not change them, so the threads that
prepare batches can run them on ONNX Runtime, which takes little more than half as long as TensorFlow.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.models.backend import keras, on_cpu
from polytag.models.runtimes.onnx import OnnxModel, export_onnx, run_in_small_batches

EarlyLayers = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Function from photos, uint8 (batch, size, size, 3), to feature maps, float32 (batch, height, width, channels)."""


def split_early_layers(network: keras.Model, float_network: keras.Model) -> tuple[keras.Model, EarlyLayers | None]:
    """Split a transfer network at its bottleneck, the smallest feature map before the first trainable layer.

    Args:
        network: network from `polytag.models.networks.architectures.with_head` with some trainable layers.
        float_network: network with the same layers and weights that computes in float32. The size of its photos may
            differ.

    Returns:
        The late layers, as a network that shares its layers with ``network``, and the early layers, as a function that
        may be called from any thread. The result is ``network`` and ``None`` if a GPU may run the early layers faster,
        if there is no bottleneck (for example, because the backbone contains a nested model), or if ONNX Runtime cannot
        run the early layers.
    """
    backbone = network.get_layer("backbone")
    cut = bottleneck(backbone) if on_cpu() else None
    if cut is None:
        return network, None
    early = _with_input_shape(float_network.get_layer("backbone"), cut, backbone.input_shape[1:])
    with tempfile.TemporaryDirectory(prefix="polytag-") as folder:
        path = Path(folder) / "early.onnx"
        if not export_onnx(early, path):
            return network, None
        model = OnnxModel(path, threads=1)
    late = keras.Model(backbone.layers[cut].output, backbone.output)
    inputs = keras.layers.Input(late.input_shape[1:], name="features")
    end = keras.Model(inputs, network.get_layer("head")(late(inputs)), name=network.name)
    return end, partial(run_in_small_batches, model)


def bottleneck(features: keras.Model) -> int | None:
    """Return the index of the layer at which to split a backbone, or ``None`` if only the input qualifies.

    A layer qualifies if it precedes the first trainable layer and if all later layers depend on the photo only through
    its output. The split is at the layer with the smallest output. If several outputs are equally small, it is at the
    last of these layers.
    """
    layers = features.layers
    numbers = {id(layer.output): i for i, layer in enumerate(layers)}
    cuts, earliest = [], len(layers)
    for i in reversed(range(len(layers))):
        if earliest >= i:  # no later layer uses the output of a layer before this one
            cuts.append(i)
        # The input that a nested model reports is not part of this graph, so the model may depend on any layer.
        earliest = min([earliest, *(numbers.get(id(tensor), 0) for tensor in keras.tree.flatten(layers[i].input))])
    first = next(i for i, layer in enumerate(layers) if any(weight.trainable for weight in layer.weights))
    sizes = {i: np.prod(layers[i].output.shape[1:]) for i in cuts if i < first}
    best = min(sizes, key=lambda i: (sizes[i], -i))
    return best if sizes[best] < sizes[0] else None


def _with_input_shape(backbone: keras.Model, cut: int, shape: tuple[int, ...]) -> keras.Model:
    """Return a backbone up to a layer, for photos with another shape. All layers are shared."""
    early = keras.Model(backbone.input, backbone.layers[cut].output)
    if early.input_shape[1:] == shape:
        return early
    photo = keras.layers.Input(shape, dtype="uint8", name="photo")
    return keras.models.clone_model(early, input_tensors=photo, clone_function=lambda layer: layer)

"""polytag's own Keras networks as ONNX graphs, layer by layer.

The converter that Keras calls knows every network there is, but traces it several times in TensorFlow, which takes
seconds and most of a gigabyte, and exists for TensorFlow alone. The networks that polytag builds consist of a dozen
kinds of layers.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.models.backend import keras
from polytag.models.conversion.onnx_graph import Graph

layers = keras.layers


class UnknownLayerError(Exception):
    """A network has something that is not known here."""


def write_network(model: keras.Model, path: Path) -> None:
    """Write a network: photos uint8 (batch, size, size, 3) → float32, probabilities (batch, k) or a feature map
    (batch, height, width, channels).

    Args:
        model: of layers in their usual order, photos first.
        path: the file; it appears only when it is complete.

    Raises:
        UnknownLayerError: one of the layers has no translation here, or the input is no photo.
    """
    if len(model.inputs) != 1 or len(model.input_shape) != 4 or model.inputs[0].dtype != "uint8":
        raise UnknownLayerError("its input is no photo")
    translation = _Translation()
    output = translation.of(model, translation.graph.photos())
    if output in translation.pads:
        raise UnknownLayerError("a network that ends with padding")
    if len(model.output_shape) == 4:
        output = translation.graph.node("Transpose", [output], perm=[0, 2, 3, 1])
    translation.graph.write(path, model.name, model.input_shape[1:], output, model.output_shape[1:])


class _Translation:
    """The graph so far, and what of it is still to be done."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.pads: dict[str, int] = {}
        """Pixels that feature maps have yet to be padded by, which the next convolution does on its way."""

    def of(self, model: keras.Model, value: str) -> str:
        """The value of a network's output, given that of its input."""
        names = {id(model.inputs[0]): value}

        def call(layer: Any, *arguments: Any, **keywords: Any) -> Any:
            given = keras.tree.flatten(arguments)
            if not all(isinstance(x, keras.KerasTensor) for x in given):
                raise UnknownLayerError(type(layer).__name__)
            made = layer(*arguments, **keywords)
            (output,) = keras.tree.flatten(made)
            names[id(output)] = self._layer(layer, [names[id(x)] for x in given], given[0].shape)
            kept.append(output)
            return made

        kept: list[Any] = []  # as long as the names are, which are those of living objects
        copy = keras.models.clone_model(
            model, input_tensors=model.input, clone_function=lambda layer: layer, call_function=call
        )
        return names[id(copy.outputs[0])]

    def _layer(self, layer: Any, inputs: list[str], shape: tuple[int | None, ...]) -> str:
        graph, x = self.graph, inputs[0]
        if isinstance(layer, keras.Model):
            return self.of(layer, x)
        if isinstance(layer, (layers.Dropout, layers.InputLayer)):
            return x
        if isinstance(layer, layers.ZeroPadding2D):
            sides = {side for pair in layer.padding for side in pair}
            if len(sides) != 1:
                raise UnknownLayerError("padding that is not the same on all sides")
            self.pads[x] = self.pads.get(x, 0) + sides.pop()
            return x
        if isinstance(layer, (layers.DepthwiseConv2D, layers.Conv2D)):
            return self._convolution(layer, x)
        if x in self.pads:
            raise UnknownLayerError(f"{type(layer).__name__} of a padded feature map")
        if isinstance(layer, layers.Rescaling):
            return graph.scaled(x, layer.scale, layer.offset, channels_first=len(shape) == 4)
        if isinstance(layer, layers.BatchNormalization):
            return self._normalised(layer, x)
        if isinstance(layer, layers.ReLU) and not layer.negative_slope and not layer.threshold:
            return graph.node("Relu", [x]) if layer.max_value is None else graph.clipped(x, 0, layer.max_value)
        if isinstance(layer, (layers.MaxPooling2D, layers.AveragePooling2D)) and layer.padding == "valid":
            kind = "MaxPool" if isinstance(layer, layers.MaxPooling2D) else "AveragePool"
            return graph.node(kind, [x], kernel_shape=list(layer.pool_size), strides=list(layer.strides))
        if isinstance(layer, layers.GlobalAveragePooling2D) and not layer.keepdims:
            return graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])
        if isinstance(layer, layers.GlobalMaxPooling2D) and not layer.keepdims:
            return graph.node("Flatten", [graph.node("GlobalMaxPool", [x])])
        if isinstance(layer, layers.Flatten):
            # Keras counts channels fastest.
            return graph.node("Flatten", [graph.node("Transpose", [x], perm=[0, 2, 3, 1]) if len(shape) == 4 else x])
        if isinstance(layer, layers.Dense) and len(shape) == 2:
            kernel, *bias = layer.get_weights()
            x = graph.node("Gemm", [x, *map(graph.constant, (kernel, *bias))])
            return self._activated(layer.activation, x)
        if isinstance(layer, layers.Add) and len(inputs) == 2:
            return graph.node("Add", inputs)
        if isinstance(layer, layers.Activation):
            return self._activated(layer.activation, x)
        raise UnknownLayerError(type(layer).__name__)

    def _convolution(self, layer: Any, x: str) -> str:
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        kernel, *bias = layer.get_weights()
        stride, *others = {*layer.strides}
        pad = self.pads.get(x, 0)
        if (
            others
            or {*layer.dilation_rate} != {1}
            or (pad and layer.padding == "same")
            or getattr(layer, "groups", 1) > 1
        ):
            raise UnknownLayerError(f"a convolution like {layer.name}")
        if depthwise and layer.depth_multiplier != 1:
            raise UnknownLayerError("depthwise convolution with several filters for a channel")
        kernel = kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        padding = "same" if layer.padding == "same" else pad
        x = self.graph.convolution(x, kernel, bias[0] if bias else None, stride, depthwise, padding)
        return self._activated(layer.activation, x)

    def _normalised(self, layer: Any, x: str) -> str:
        if not (layer.scale and layer.center) or layer.axis not in (-1, 3):
            raise UnknownLayerError(f"a batch normalisation like {layer.name}")
        numbers: list[NDArray[np.float32]] = layer.get_weights()  # gamma, beta, mean, variance, as in ONNX
        return self.graph.node(
            "BatchNormalization", [x, *map(self.graph.constant, numbers)], epsilon=float(layer.epsilon)
        )

    def _activated(self, activation: Any, x: str) -> str:
        name = keras.activations.serialize(activation)
        if name == "linear":
            return x
        if name == "relu6":
            return self.graph.clipped(x, 0, 6)
        if name in ("relu", "sigmoid"):
            return self.graph.node(name.capitalize(), [x])
        raise UnknownLayerError(f"the activation {name}")

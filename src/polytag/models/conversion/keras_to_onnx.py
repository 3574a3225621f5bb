"""Convert polytag's own Keras networks to ONNX, layer by layer.

Keras uses tf2onnx, which converts any network. However, it works only with TensorFlow, which has to trace the network
several times. This takes seconds and most of a gigabyte of memory. A direct conversion is feasible because polytag's
networks consist of only about two dozen kinds of layers.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.models.backend import keras
from polytag.models.conversion.onnx_graph import EMBEDDING, Graph

layers = keras.layers

ELEMENTWISE = {
    "Add": "Add",
    "Log": "Log",
    "Minimum": "Min",
    "Multiply": "Mul",
    "Sigmoid": "Sigmoid",
    "Subtract": "Sub",
}
"""ONNX operation for each class name of a Keras layer or operation. Inputs are tensors of equal shape or numbers."""


class UnknownLayerError(Exception):
    """A layer that this module cannot convert. The message is a noun phrase that describes the layer."""


def write_network(model: keras.Model, path: Path) -> None:
    """Write a network as ONNX: photos uint8 (batch, size, size, 3) → float32.

    The shape of the output is (batch, k) or a feature map (batch, height, width, channels).

    Args:
        model: network with channels-last layers, whose only input is photos.
        path: file to write. It appears only when it is complete.

    Raises:
        UnknownLayerError: a layer cannot be converted, or the input is not photos.
    """
    if len(model.inputs) != 1 or len(model.input_shape) != 4 or model.inputs[0].dtype != "uint8":
        raise UnknownLayerError("an input that is not photos")
    conversion = _Conversion()
    (output,) = conversion.convert(model, conversion.graph.photos())
    if output in conversion.pads:
        raise UnknownLayerError("padding at the end of a network")
    if len(model.output_shape) == 4:
        output = conversion.graph.node("Transpose", [output], perm=[0, 2, 3, 1])
    conversion.graph.write(path, model.name, model.input_shape[1:], output, model.output_shape[1:])


def write_head(model: keras.Model, path: Path) -> None:
    """Write a head as ONNX: embeddings float32 (batch, d) → probabilities float32 (batch, k).

    Args:
        model: network whose only input is embeddings.
        path: file to write. It appears only when it is complete.

    Raises:
        UnknownLayerError: a layer cannot be converted.
    """
    conversion = _Conversion()
    (output,) = conversion.convert(model, EMBEDDING)
    conversion.graph.write(path, model.name, model.input_shape[1:], output, model.output_shape[1:], EMBEDDING)


class _Conversion:
    """An ONNX graph under construction."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.pads: dict[str, tuple[str, int]] = {}
        """Padded feature maps by name. Each has the name of the unpadded value and the number of pixels on each side.

        The graph does not contain padded feature maps, because the next convolution adds the padding.
        """

    def convert(self, model: keras.Model, value: str) -> list[str]:
        """Append a network whose input is the given value, and return its outputs."""
        names = {id(model.inputs[0]): value}
        tensors: list[Any] = []  # keeping the tensors alive keeps their ids unique

        def call(layer: Any, *arguments: Any, **keywords: Any) -> Any:
            inputs = keras.tree.flatten(arguments)
            result = layer(*arguments, **keywords)
            shape = next(x.shape for x in inputs if isinstance(x, keras.KerasTensor))
            outputs = self._layer(layer, [self._input(names, layer, x) for x in inputs], shape)
            for tensor, name in zip(keras.tree.flatten(result), outputs, strict=True):
                names[id(tensor)] = name
                tensors.append(tensor)
            return result

        copy = keras.models.clone_model(
            model, input_tensors=model.input, clone_function=lambda layer: layer, call_function=call
        )
        return [names[id(tensor)] for tensor in copy.outputs]

    def _input(self, names: dict[int, str], layer: Any, x: Any) -> str:
        if isinstance(x, keras.KerasTensor):
            return names[id(x)]
        if np.ndim(x) == 0 and isinstance(x, (int, float, np.number)):
            return self.graph.constant(x)
        raise UnknownLayerError(f"{type(layer).__name__} with an array as input")

    def _layer(self, layer: Any, inputs: list[str], shape: tuple[int | None, ...]) -> list[str]:
        """Append a layer, given the shape of its first input."""
        x = inputs[0]
        if isinstance(layer, keras.Model):
            return self.convert(layer, x)
        if isinstance(layer, (layers.Dropout, layers.InputLayer)):
            return [x]
        if isinstance(layer, layers.ZeroPadding2D):
            return [self._padded(layer, x)]
        if isinstance(layer, (layers.DepthwiseConv2D, layers.Conv2D)):
            return [self._convolution(layer, x)]
        if self.pads.keys() & set(inputs):
            raise UnknownLayerError(f"{type(layer).__name__} with a padded feature map as input")
        kind = type(layer).__name__
        if kind in ELEMENTWISE and len(inputs) <= 2:
            return [self.graph.node(ELEMENTWISE[kind], inputs)]
        if isinstance(layer, layers.Concatenate) and len(shape) == 2:
            return [self.graph.node("Concat", inputs, axis=1)]
        if kind == "TopK" and len(shape) == 2:
            values = self.graph.constant([layer.k], np.int64)
            return self.graph.nodes("TopK", [x, values], 2)
        converted = self._of_any_shape(layer, x, shape)
        if converted is None:
            converted = self._of_feature_map(layer, x) if len(shape) == 4 else self._of_vectors(layer, x, shape)
        if converted is None:
            raise UnknownLayerError(kind)
        return [converted]

    def _of_any_shape(self, layer: Any, x: str, shape: tuple[int | None, ...]) -> str | None:
        graph, kind = self.graph, type(layer).__name__
        if isinstance(layer, layers.Rescaling):
            return graph.scaled(x, layer.scale, layer.offset, channels_first=len(shape) == 4)
        if isinstance(layer, layers.ReLU) and not layer.negative_slope and not layer.threshold:
            return graph.node("Relu", [x]) if layer.max_value is None else graph.clipped(x, 0, layer.max_value)
        if isinstance(layer, layers.Activation):
            return self._activated(layer.activation, x)
        if isinstance(layer, layers.Flatten):
            # Keras flattens feature maps in channels-last order.
            return graph.node("Flatten", [graph.node("Transpose", [x], perm=[0, 2, 3, 1]) if len(shape) == 4 else x])
        if kind == "Clip":
            return graph.clipped(x, layer.x_min, layer.x_max)
        if kind == "Cast" and layer.dtype == "float32":
            return graph.node("Cast", [x], to=graph.types.FLOAT)
        return None

    def _of_feature_map(self, layer: Any, x: str) -> str | None:
        graph = self.graph
        if isinstance(layer, layers.BatchNormalization):
            return self._normalised(layer, x)
        if isinstance(layer, (layers.MaxPooling2D, layers.AveragePooling2D)) and layer.padding == "valid":
            kind = "MaxPool" if isinstance(layer, layers.MaxPooling2D) else "AveragePool"
            return graph.node(kind, [x], kernel_shape=list(layer.pool_size), strides=list(layer.strides))
        if isinstance(layer, layers.GlobalAveragePooling2D) and not layer.keepdims:
            return graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])
        if isinstance(layer, layers.GlobalMaxPooling2D) and not layer.keepdims:
            return graph.node("Flatten", [graph.node("GlobalMaxPool", [x])])
        return None

    def _of_vectors(self, layer: Any, x: str, shape: tuple[int | None, ...]) -> str | None:
        graph = self.graph
        if isinstance(layer, layers.Dense) and len(shape) == 2:
            kernel, *bias = layer.get_weights()
            x = graph.node("Gemm", [x, *map(graph.constant, (kernel, *bias))])
            return self._activated(layer.activation, x)
        if isinstance(layer, layers.EinsumDense) and layer.bias_axes is None:
            x = graph.node("Einsum", [x, graph.constant(*layer.get_weights())], equation=layer.equation)
            return self._activated(layer.activation, x)
        if isinstance(layer, layers.Embedding):
            (table,) = layer.get_weights()
            return graph.node("Gather", [graph.constant(table), graph.node("Cast", [x], to=graph.types.INT64)])
        if isinstance(layer, layers.Reshape):
            return graph.node("Reshape", [x, graph.constant([-1, *layer.target_shape], np.int64)])
        if isinstance(layer, layers.Softmax) and layer.axis == -1:
            return graph.node("Softmax", [x], axis=-1)
        if isinstance(layer, layers.UnitNormalization) and layer.axis in (-1, [-1], [len(shape) - 1]):
            squares = graph.node("ReduceSumSquare", [x], axes=[-1])
            largest = graph.node("Max", [squares, graph.constant(1e-12)])
            return graph.node("Div", [x, graph.node("Sqrt", [largest])])
        if isinstance(layer, layers.GlobalAveragePooling1D) and not layer.keepdims:
            return graph.node("ReduceMean", [x], axes=[1], keepdims=0)
        if type(layer).__name__ == "Sum" and layer.axis is not None:
            return graph.node("ReduceSum", [x, graph.constant(layer.axis, np.int64)], keepdims=int(layer.keepdims))
        return None

    def _padded(self, layer: Any, x: str) -> str:
        sides = {side for pair in layer.padding for side in pair}
        if len(sides) != 1:
            raise UnknownLayerError("padding that differs between sides")
        value, pixels = self.pads.get(x, (x, 0))
        pixels += sides.pop()
        name = f"{value} padded by {pixels}"
        self.pads[name] = (value, pixels)
        return name

    def _convolution(self, layer: Any, x: str) -> str:
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        kernel, *bias = layer.get_weights()
        stride, *others = {*layer.strides}
        x, pad = self.pads.get(x, (x, 0))
        if (
            others
            or {*layer.dilation_rate} != {1}
            or (pad and layer.padding == "same")
            or getattr(layer, "groups", 1) > 1
        ):
            raise UnknownLayerError(f"a convolution like {layer.name}")
        if depthwise and layer.depth_multiplier != 1:
            raise UnknownLayerError("a depthwise convolution with several filters per channel")
        kernel = kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        padding = "same" if layer.padding == "same" else pad
        x = self.graph.convolution(x, kernel, bias[0] if bias else None, stride, depthwise, padding)
        return self._activated(layer.activation, x)

    def _normalised(self, layer: Any, x: str) -> str:
        if not (layer.scale and layer.center) or layer.axis not in (-1, 3):
            raise UnknownLayerError(f"a batch normalisation like {layer.name}")
        weights: list[NDArray[np.float32]] = layer.get_weights()  # gamma, beta, mean, variance, as in ONNX
        return self.graph.node(
            "BatchNormalization", [x, *map(self.graph.constant, weights)], epsilon=float(layer.epsilon)
        )

    def _activated(self, activation: Any, x: str) -> str:
        name = keras.activations.serialize(activation)
        if name == "linear":
            return x
        if name == "relu6":
            return self.graph.clipped(x, 0, 6)
        if name == "exponential":
            return self.graph.node("Exp", [x])
        if name in ("relu", "sigmoid"):
            return self.graph.node(name.capitalize(), [x])
        raise UnknownLayerError(f"the activation {name}")

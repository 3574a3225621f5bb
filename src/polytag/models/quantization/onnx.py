"""Quantize ONNX networks. `polytag.models.quantization.rounding` rounds the weights.

The inputs and weights of each convolution pass through QuantizeLinear and DequantizeLinear nodes, which indicate to a
runtime that it may compute in 8 bits. All other operations stay in float32, because they take almost no time: the
scaling of photos, residual sums, and the final layers that compute probabilities.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from polytag.models.quantization.rounding import Activation, Convolution

LEVELS_ONE_CHANNEL, LEVELS_MANY_CHANNELS = 127, 63
"""Number of steps from 0 to a filter's largest weight, for filters with one and with several input channels.

CPUs without VNNI instructions add the products of two channels in 16 bits. The sum fits with 63 steps (2 × 255 × 63),
but not with 127.
"""

Constants = dict[str, onnx.TensorProto]


def write_int8(source: Path, photos: NDArray[np.uint8], path: Path) -> None:
    """Write a quantized network with the same inputs and outputs.

    Args:
        source: ONNX network: photos uint8 (batch, size, size, 3) → probabilities float32 (batch, k).
        photos: training photos for calibration, uint8 (n, size, size, 3). 50 photos are enough.
        path: file to write.

    Raises:
        ValueError: the network has no convolutions.
    """
    model = onnx.load(source)
    constants = {constant.name: constant for constant in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    convolutions = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in constants and uses[node.input[1]] == 1
    ]
    if not convolutions:
        raise ValueError("the network has no convolutions with fixed weights")
    _round_weights(model, convolutions, constants, photos)
    quantizers = _quantize_activations(model, convolutions, photos) | _quantize_weights(model, convolutions, constants)
    _insert(model.graph, convolutions, quantizers)
    onnx.save(model, path)


def _quantize_activations(
    model: onnx.ModelProto, convolutions: list[onnx.NodeProto], photos: NDArray[np.uint8]
) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that quantize the input of each convolution, by the name of the input."""
    activations = {node.input[0]: Activation() for node in convolutions}
    rng = np.random.default_rng(0)
    for values in _activations(model, list(activations), photos):
        for name, activation in activations.items():
            activation.see(values[name], rng)
    quantizers = {}
    for name, activation in activations.items():
        low, high = activation.range()
        step = max((high - low) / 255, 1e-12)
        scale = _scale(model.graph, name, np.float32(step), np.uint8(np.clip(round(-low / step), 0, 255)))
        quantizers[name] = [
            helper.make_node("QuantizeLinear", [name, *scale], [f"{name}_int8"]),
            helper.make_node("DequantizeLinear", [f"{name}_int8", *scale], [f"{name}_rounded"]),
        ]
    return quantizers


def _quantize_weights(
    model: onnx.ModelProto, convolutions: list[onnx.NodeProto], constants: Constants
) -> dict[str, list[onnx.NodeProto]]:
    """Store convolution weights in 8 bits. Return the nodes that convert them back, by the name of the weights."""
    quantizers = {}
    for name in (node.input[1] for node in convolutions):
        weights = numpy_helper.to_array(constants[name])
        steps = np.maximum(np.abs(weights).max((1, 2, 3)), 1e-12) / _levels(weights)
        int8 = np.rint(weights / steps[:, None, None, None]).astype(np.int8)
        model.graph.initializer.remove(constants[name])
        model.graph.initializer.append(numpy_helper.from_array(int8, f"{name}_int8"))
        scale = _scale(model.graph, name, steps.astype(np.float32), np.zeros(len(steps), np.int8))
        quantizers[name] = [helper.make_node("DequantizeLinear", [f"{name}_int8", *scale], [f"{name}_rounded"], axis=0)]
    return quantizers


def _insert(
    graph: onnx.GraphProto, convolutions: list[onnx.NodeProto], quantizers: dict[str, list[onnx.NodeProto]]
) -> None:
    """Insert the nodes before their first use and connect the convolutions to them."""
    rewritten = onnx.GraphProto()
    for node in graph.node:
        if node in convolutions:
            for i in (0, 1):
                rewritten.node.extend(quantizers.pop(node.input[i], []))
                node.input[i] = f"{node.input[i]}_rounded"
        rewritten.node.append(node)
    graph.ClearField("node")
    graph.node.extend(rewritten.node)


def _levels(weights: NDArray[np.float32]) -> int:
    return LEVELS_ONE_CHANNEL if weights.shape[1] == 1 else LEVELS_MANY_CHANNELS


def _scale(graph: onnx.GraphProto, name: str, step: Any, zero_point: Any) -> list[str]:
    """Append the step size and the zero point of a quantized value. Return their names."""
    for suffix, number in (("step", step), ("zero", zero_point)):
        graph.initializer.append(numpy_helper.from_array(np.asarray(number), f"{name}_{suffix}"))
    return [f"{name}_step", f"{name}_zero"]


def _activations(
    model: onnx.ModelProto, names: list[str], photos: NDArray[np.uint8]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Run the network on each photo and yield the named values without the batch dimension."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    photo_name = session.get_inputs()[0].name
    for photo in photos:
        values = session.run(None, {photo_name: photo[None]})
        yield {name: value[0] for name, value in zip(names, values, strict=True)}


def _round_weights(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: Constants, photos: NDArray[np.uint8]
) -> None:
    """Round the weights of convolutions. Unsupported convolutions are rounded to the nearest step later."""
    found = [(node.input, c) for node in nodes if (c := _convolution(node, constants[node.input[1]])) is not None]
    rng = np.random.default_rng(0)
    for values in _activations(model, list({inputs[0]: None for inputs, _ in found}), photos):
        for inputs, convolution in found:
            convolution.see(values[inputs[0]], rng)
    for inputs, convolution in found:
        weights = convolution.rounded(_levels(convolution.weights))
        constants[inputs[1]].CopyFrom(numpy_helper.from_array(weights, inputs[1]))


def _convolution(node: onnx.NodeProto, constant: onnx.TensorProto) -> Convolution | None:
    """Return the convolution that a node performs, or ``None`` if its dilation, groups or padding are not supported."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    weights, groups = numpy_helper.to_array(constant), attributes.get("group", 1)
    padding = attributes.get("auto_pad", b"NOTSET").decode()
    depthwise = groups > 1 and weights.shape[:2] == (groups, 1)
    if {*attributes.get("dilations", [1])} != {1} or (groups > 1 and not depthwise) or padding == "SAME_LOWER":
        return None
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return Convolution(
        weights,
        strides=tuple(attributes.get("strides", (1, 1))),
        padding=None if padding == "SAME_UPPER" else ((top, bottom), (left, right)),
        depthwise=depthwise,
    )

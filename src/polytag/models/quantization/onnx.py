"""From an ONNX network to its twin in 8 bits, rounded as `polytag.models.quantization.rounding` does it.

Each convolution gets its inputs and weights through ONNX's QuantizeLinear and DequantizeLinear, from which a runtime
sees that it may compute in 8 bits. All else stays in 32: the scaling of photos, the sums of residual branches and the
layers that end in probabilities take next to no time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from polytag.models.quantization.rounding import Activation, Convolution

LEVELS_OF_ONE, LEVELS_OF_MANY = 127, 63
"""Steps that make up a filter's largest weight, where it reads one channel, and where it reads several. Processors
without instructions for it (VNNI) add up what two channels give in 16 bits, which twice 255 times 63 still fit."""


def write_int8(source: Path, photos: NDArray[np.uint8], path: Path) -> None:
    """Write a network's 8-bit twin, which takes and gives the same.

    Args:
        source: the ONNX network: photos uint8 (batch, size, size, 3) → probabilities float32 (batch, k).
        photos: uint8 (n, size, size, 3), which the network has been trained on; 50 will do.
        path: the file to write.

    Raises:
        ValueError: there is no convolution in it.
    """
    model = onnx.load(source)
    graph = model.graph
    constants = {constant.name: constant for constant in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    convolutions = [
        node
        for node in graph.node
        if node.op_type == "Conv" and node.input[1] in constants and uses[node.input[1]] == 1
    ]
    if not convolutions:
        raise ValueError("it has no convolution with fixed weights")
    _round_weights(model, convolutions, constants, photos)
    activations = {node.input[0]: Activation() for node in convolutions}
    rng = np.random.default_rng(0)
    for values in _activations(model, list(activations), photos):
        for name, activation in activations.items():
            activation.see(values[name], rng)

    before: dict[str, list[onnx.NodeProto]] = {}
    for name, activation in activations.items():
        low, high = activation.range()
        step = max((high - low) / 255, 1e-12)
        numbers = _constants(graph, name, np.float32(step), np.uint8(np.clip(round(-low / step), 0, 255)))
        before[name] = [
            helper.make_node("QuantizeLinear", [name, *numbers], [f"{name}_8_bits"]),
            helper.make_node("DequantizeLinear", [f"{name}_8_bits", *numbers], [f"{name}_rounded"]),
        ]
    for name in (node.input[1] for node in convolutions):
        weights = numpy_helper.to_array(constants[name])
        steps = np.maximum(np.abs(weights).max((1, 2, 3)), 1e-12) / _levels(weights)
        whole = np.rint(weights / steps[:, None, None, None]).astype(np.int8)
        graph.initializer.remove(constants[name])
        graph.initializer.append(numpy_helper.from_array(whole, f"{name}_8_bits"))
        numbers = _constants(graph, name, steps.astype(np.float32), np.zeros(len(steps), np.int8))
        before[name] = [helper.make_node("DequantizeLinear", [f"{name}_8_bits", *numbers], [f"{name}_rounded"], axis=0)]
    rewritten = onnx.GraphProto()
    for node in graph.node:
        if node in convolutions:
            for i in (0, 1):
                rewritten.node.extend(before.pop(node.input[i], []))
                node.input[i] = f"{node.input[i]}_rounded"
        rewritten.node.append(node)
    graph.ClearField("node")
    graph.node.extend(rewritten.node)
    onnx.save(model, path)


def _levels(weights: NDArray[np.float32]) -> int:
    return LEVELS_OF_ONE if weights.shape[1] == 1 else LEVELS_OF_MANY


def _constants(graph: onnx.GraphProto, name: str, step: Any, zero: Any) -> list[str]:
    """Names of new constants of the graph, the step and the zero of a value's 8 bits."""
    for suffix, number in (("step", step), ("zero", zero)):
        graph.initializer.append(numpy_helper.from_array(np.asarray(number), f"{name}_{suffix}"))
    return [f"{name}_step", f"{name}_zero"]


def _activations(
    model: onnx.ModelProto, names: list[str], photos: NDArray[np.uint8]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """For each photo the named values, each without the batch."""
    twin = onnx.ModelProto.FromString(model.SerializeToString())
    del twin.graph.output[:]
    twin.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(twin.SerializeToString(), options, providers=["CPUExecutionProvider"])
    photo_name = session.get_inputs()[0].name
    for photo in photos:
        values = session.run(None, {photo_name: photo[None]})
        yield {name: value[0] for name, value in zip(names, values, strict=True)}


def _round_weights(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    constants: dict[str, onnx.TensorProto],
    photos: NDArray[np.uint8],
) -> None:
    """Round the weights of convolutions; those that are not of a usual kind keep theirs."""
    found = [(node.input, c) for node in nodes if (c := _convolution(node, constants[node.input[1]])) is not None]
    rng = np.random.default_rng(0)
    for values in _activations(model, list({inputs[0]: None for inputs, _ in found}), photos):
        for inputs, convolution in found:
            convolution.see(values[inputs[0]], rng)
    for inputs, convolution in found:
        weights = convolution.rounded(_levels(convolution.weights))
        constants[inputs[1]].CopyFrom(numpy_helper.from_array(weights, inputs[1]))


def _convolution(node: onnx.NodeProto, constant: onnx.TensorProto) -> Convolution | None:
    """What a node does, unless it is dilated, padded in an unusual way or for a part of the channels."""
    facts = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    weights, groups = numpy_helper.to_array(constant), facts.get("group", 1)
    padding = facts.get("auto_pad", b"NOTSET").decode()
    depthwise = groups > 1 and weights.shape[:2] == (groups, 1)
    if {*facts.get("dilations", [1])} != {1} or (groups > 1 and not depthwise) or padding == "SAME_LOWER":
        return None
    top, left, bottom, right = facts.get("pads", (0, 0, 0, 0))
    return Convolution(
        weights,
        strides=tuple(facts.get("strides", (1, 1))),
        padding=None if padding == "SAME_UPPER" else ((top, bottom), (left, right)),
        depthwise=depthwise,
    )


MOST_LOST = 0.005
"""Of validation mAP that 8 bits may cost."""


CALIBRATION_PHOTOS = 50
"""Training photos that decide how weights and activations are rounded."""


def in_8_bits(facts: Mapping[str, Any]) -> str:
    """What a bundle records of its twin in 8 bits, in words."""
    if "reason" in facts:
        return f"8 bits: none, since {facts['reason']}"
    score = f"validation mAP {facts['validation_mean_average_precision']:.4f}, {facts['lost']:+.4f} lost"
    return f"8 bits: {score}; " + ("--engine int8 tags with it" if facts["kept"] else "too much, so it was not kept")

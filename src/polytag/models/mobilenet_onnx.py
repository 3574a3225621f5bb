"""MobileNetV2 (Sandler et al. 2018) as an ONNX graph, straight from torchvision's weights.

Audits and exploration embed photos too, and need no training framework for it: this starts in under a
second and takes a tenth of the memory that exporting the Keras model would. A test holds both equal.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import WeightsError
from polytag.models.pretrained import Weights, read_torch_weights

BLOCKS = ((1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1))
"""Expansion, number of blocks and first stride of each stage, as in table 2 of the paper."""

EPSILON = 1e-5
"""Of torch's batch normalisation."""

OPSET, IR_VERSION = 17, 8
"""Old enough for any ONNX Runtime that polytag accepts."""


def write_backbone(weights: Weights, path: Path, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
    """Write the graph: photos uint8 (batch, height, width, 3) → pooled features float32 (batch, 1280).

    Args:
        weights: of kind "torchvision".
        path: the file to write; it appears only when it is complete.
        mean, deviation: of each channel on the scale from 0 to 1, which the weights expect to be normalised by.

    Raises:
        WeightsError: the file does not hold MobileNetV2's weights.
    """
    assert weights.path is not None  # torchvision's weights always come from a file
    tensors = [
        array
        for name, array in read_torch_weights(weights.path)
        if not name.endswith("num_batches_tracked") and not name.startswith("classifier")
    ]
    try:
        graph = _Graph(tensors, np.array(mean, np.float32), np.array(deviation, np.float32))
    except (IndexError, ValueError) as error:
        raise WeightsError(f"{weights.path} does not hold MobileNetV2's weights ({error})") from None
    if graph.tensors:
        raise WeightsError(f"{weights.path} holds more tensors than MobileNetV2 has")
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        temporary.write_bytes(graph.serialized())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class _Graph:
    """Nodes and constants, appended in the order of the network; `tensors` shrinks as they are used."""

    def __init__(self, tensors: list[NDArray], mean: NDArray[np.float32], deviation: NDArray[np.float32]):
        from onnx import TensorProto, helper, numpy_helper

        self._helper, self._array, self._types = helper, numpy_helper.from_array, TensorProto
        self.tensors = tensors[::-1]
        self.nodes: list = []
        self.constants: list = []

        x = self._node("Cast", ["photo"], to=TensorProto.FLOAT)
        x = self._node("Mul", [x, self._constant(1 / (255 * deviation))])
        x = self._node("Add", [x, self._constant(-mean / deviation)])
        x = self._node("Transpose", [x], perm=[0, 3, 1, 2])
        x, channels = self._convolution(x, stride=2)
        for expansion, repeats, first_stride in BLOCKS:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                inside, before = x, channels
                if expansion > 1:
                    x, _ = self._convolution(x)
                x, _ = self._convolution(x, stride=stride)
                x, channels = self._convolution(x, activation=False)
                if stride == 1 and channels == before:
                    x = self._node("Add", [inside, x])
        x, _ = self._convolution(x)
        x = self._node("GlobalAveragePool", [x])
        self._node("Flatten", [x], output="features")

    def _constant(self, array: NDArray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(self._array(np.asarray(array, dtype=np.float32), name))
        return name

    def _node(self, operation: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"x{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(operation, inputs, [output], **attributes))
        return output

    def _convolution(self, x: str, stride: int = 1, activation: bool = True) -> tuple[str, int]:
        """A convolution with its batch normalisation folded in, and ReLU6: the output and its channels."""
        kernel, gamma, beta, mean, variance = (self.tensors.pop() for _ in range(5))
        channels, per_group, side, _ = kernel.shape
        scale = gamma / np.sqrt(variance + EPSILON)
        x = self._node(
            "Conv",
            [x, self._constant(kernel * scale[:, None, None, None]), self._constant(beta - mean * scale)],
            group=channels if per_group == 1 else 1,
            kernel_shape=[side, side],
            pads=[side // 2] * 4,
            strides=[stride, stride],
        )
        if activation:
            x = self._node("Clip", [x, self._constant(np.array(0)), self._constant(np.array(6))])
        return x, channels

    def serialized(self) -> bytes:
        helper, types = self._helper, self._types
        graph = helper.make_graph(
            self.nodes,
            "mobilenet_v2",
            [helper.make_tensor_value_info("photo", types.UINT8, ["batch", "height", "width", 3])],
            [helper.make_tensor_value_info("features", types.FLOAT, ["batch", 1280])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="polytag")
        model.ir_version = IR_VERSION
        return model.SerializeToString()

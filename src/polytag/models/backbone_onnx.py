"""Backbones as ONNX graphs, straight from their weights.

Audits and exploration embed photos too, and need no training framework for it: this starts in under a
second and takes a tenth of the memory that exporting the Keras model would. A test holds both equal.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.models.inverted_residuals import FAMILIES, Convolution, Family, walk
from polytag.models.pretrained import Weights

OPSET, IR_VERSION = 17, 8
"""Old enough for any ONNX Runtime that polytag accepts."""


def write_backbone(weights: Weights, path: Path) -> None:
    """Write the graph: photos uint8 (batch, height, width, 3) → pooled features float32 (batch, 1280).

    Args:
        weights: of kind "torch".
        path: the file to write; it appears only when it is complete.

    Raises:
        WeightsError: the file does not hold the weights of the backbone that it is said to.
    """
    family = FAMILIES[weights.backbone]
    graph = _Graph(family)
    x = walk(weights, graph.normalised_photo(), graph.convolution, graph.add)
    content = graph.serialized(graph.pooled(x), weights.backbone)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class _Graph:
    """Nodes and constants, appended in the order of the network."""

    def __init__(self, family: Family):
        from onnx import TensorProto, helper, numpy_helper

        self._helper, self._array, self._types = helper, numpy_helper.from_array, TensorProto
        self._family = family
        self._nodes: list = []
        self._constants: list = []

    def normalised_photo(self) -> str:
        mean, deviation = np.array(self._family.mean), np.array(self._family.deviation)
        x = self._node("Cast", ["photo"], to=self._types.FLOAT)
        x = self._node("Mul", [x, self._constant(1 / deviation)])
        x = self._node("Add", [x, self._constant(-mean / deviation)])
        return self._node("Transpose", [x], perm=[0, 3, 1, 2])

    def convolution(self, x: str, c: Convolution) -> str:
        side = c.kernel.shape[-1]
        padding: dict[str, Any] = {"pads": [side // 2] * 4} if self._family.symmetric else {"auto_pad": "SAME_UPPER"}
        x = self._node(
            "Conv",
            [x, self._constant(c.kernel), self._constant(c.bias)],
            group=len(c.kernel) if c.depthwise else 1,
            kernel_shape=[side, side],
            strides=[c.stride, c.stride],
            **padding,
        )
        return self._node("Clip", [x, self._constant(np.array(0)), self._constant(np.array(6))]) if c.activation else x

    def add(self, a: str, b: str) -> str:
        return self._node("Add", [a, b])

    def pooled(self, x: str) -> str:
        return self._node("Flatten", [self._node("GlobalAveragePool", [x])])

    def _constant(self, array: NDArray) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(self._array(np.asarray(array, dtype=np.float32), name))
        return name

    def _node(self, operation: str, inputs: list[str], **attributes: Any) -> str:
        output = f"x{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(operation, inputs, [output], **attributes))
        return output

    def serialized(self, output: str, name: str) -> bytes:
        helper, types = self._helper, self._types
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info("photo", types.UINT8, ["batch", "height", "width", 3])],
            [helper.make_tensor_value_info(output, types.FLOAT, ["batch", 1280])],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="polytag")
        model.ir_version = IR_VERSION
        return model.SerializeToString()

"""ONNX graphs, written node by node."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polytag.files import write_bytes_atomically

OPSET, IR_VERSION = 17, 8
"""Old enough for any ONNX Runtime that polytag accepts."""


class Graph:
    """Nodes and constants, appended in the order of the network; a value is known by its name.

    Feature maps are (batch, channels, height, width), as ONNX wants them.
    """

    def __init__(self) -> None:
        from onnx import ModelProto, TensorProto, helper, numpy_helper

        self._helper, self._array, self._types = helper, numpy_helper.from_array, TensorProto
        # Filled from the start, since what is put together at the end would hold all constants several times.
        self._model = ModelProto(
            ir_version=IR_VERSION, producer_name="polytag", opset_import=[helper.make_opsetid("", OPSET)]
        )
        self._graph = self._model.graph

    def photos(self, name: str = "photo") -> str:
        """Photos uint8 (batch, height, width, 3) as a float feature map."""
        return self.node("Transpose", [self.node("Cast", [name], to=self._types.FLOAT)], perm=[0, 3, 1, 2])

    def scaled(self, x: str, scale: ArrayLike, offset: ArrayLike, channels_first: bool) -> str:
        """``x * scale + offset``, each a number or one for each channel."""

        def constant(values: ArrayLike) -> str:
            values = np.asarray(values, np.float32)
            return self.constant(values[:, None, None] if values.ndim and channels_first else values)

        return self.node("Add", [self.node("Mul", [x, constant(scale)]), constant(offset)])

    def convolution(
        self, x: str, kernel: NDArray, bias: NDArray | None, stride: int, depthwise: bool, padding: int | str
    ) -> str:
        """A convolution.

        Args:
            x: the feature map.
            kernel: float32 (filters, channels, side, side); of a depthwise one (channels, 1, side, side).
            bias: float32 (filters,), or none.
            stride: in both directions.
            depthwise: each channel has its own filter.
            padding: pixels on each side, or "same" as TensorFlow means it.
        """
        pads: dict[str, Any] = {"auto_pad": "SAME_UPPER"} if padding == "same" else {"pads": [padding] * 4}
        return self.node(
            "Conv",
            [x, self.constant(kernel), *([] if bias is None else [self.constant(bias)])],
            group=len(kernel) if depthwise else 1,
            kernel_shape=list(kernel.shape[2:]),
            strides=[stride, stride],
            **pads,
        )

    def clipped(self, x: str, low: float, high: float) -> str:
        """Values cut off at both ends."""
        return self.node("Clip", [x, self.constant(low), self.constant(high)])

    def constant(self, values: ArrayLike) -> str:
        """Numbers, as float32."""
        name = f"c{len(self._graph.initializer)}"
        self._graph.initializer.append(self._array(np.ascontiguousarray(values, dtype=np.float32), name))
        return name

    def node(self, operation: str, inputs: list[str], **attributes: Any) -> str:
        """Another operation on values."""
        output = f"x{len(self._graph.node)}"
        self._graph.node.append(self._helper.make_node(operation, inputs, [output], **attributes))
        return output

    def write(self, path: Path, name: str, inputs: tuple[int | str, ...], output: str, shape: tuple[int, ...]) -> None:
        """Write the graph, once; the file appears only when it is complete.

        Args:
            path: the file.
            name: of the graph.
            inputs: the photos' shape after the batch, in numbers or in words where they are free.
            output: the value that is the result, float32 (batch, *shape).
            shape: of it, after the batch.
        """
        value, types = self._helper.make_tensor_value_info, self._types
        self._graph.name = name
        self._graph.input.append(value("photo", types.UINT8, ["batch", *inputs]))
        self._graph.output.append(value(output, types.FLOAT, ["batch", *shape]))
        with write_bytes_atomically(path) as file:
            file.write(self._model.SerializeToString())

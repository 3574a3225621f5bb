"""Build ONNX graphs node by node."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polytag.files import write_bytes_atomically

OPSET, IR_VERSION = 17, 8
"""ONNX versions that every supported version of ONNX Runtime can read."""


PHOTO, EMBEDDING = "photo", "embedding"
"""Names of a graph's input: photos, uint8, or embeddings, float32."""


class Graph:
    """An ONNX graph, to which nodes and constants are appended in the order of the network.

    Values are identified by name. Feature maps have the layout of ONNX: (batch, channels, height, width).
    """

    def __init__(self) -> None:
        from onnx import ModelProto, TensorProto, helper, numpy_helper

        self._helper, self._array, self.types = helper, numpy_helper.from_array, TensorProto
        # Nodes are added directly to the final model. Assembling it at the end would copy all constants several times.
        self._model = ModelProto(
            ir_version=IR_VERSION, producer_name="polytag", opset_import=[helper.make_opsetid("", OPSET)]
        )
        self._graph = self._model.graph
        self._values = 0

    def photos(self, name: str = PHOTO) -> str:
        """Append a conversion of photos, uint8 (batch, height, width, 3), to a float32 feature map."""
        return self.node("Transpose", [self.node("Cast", [name], to=self.types.FLOAT)], perm=[0, 3, 1, 2])

    def scaled(self, x: str, scale: ArrayLike, offset: ArrayLike, channels_first: bool) -> str:
        """Append ``x * scale + offset``. Scale and offset are numbers, or arrays with one number per channel."""

        def constant(values: ArrayLike) -> str:
            values = np.asarray(values, np.float32)
            return self.constant(values[:, None, None] if values.ndim and channels_first else values)

        return self.node("Add", [self.node("Mul", [x, constant(scale)]), constant(offset)])

    def convolution(
        self, x: str, kernel: NDArray, bias: NDArray | None, stride: int, depthwise: bool, padding: int | str
    ) -> str:
        """Append a convolution.

        Args:
            x: feature map.
            kernel: float32 (filters, channels, side, side); (channels, 1, side, side) if depthwise.
            bias: float32 (filters,), or ``None``.
            stride: stride in both directions.
            depthwise: whether each channel has its own filter.
            padding: number of pixels on each side, or "same" as defined by TensorFlow.
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
        """Append an operation that clips values to a range."""
        return self.node("Clip", [x, self.constant(low), self.constant(high)])

    def constant(self, values: ArrayLike, dtype: type = np.float32) -> str:
        """Append a constant."""
        name = f"c{len(self._graph.initializer)}"
        self._graph.initializer.append(self._array(np.ascontiguousarray(values, dtype=dtype), name))
        return name

    def node(self, operation: str, inputs: list[str], **attributes: Any) -> str:
        """Append an operation with one output."""
        return self.nodes(operation, inputs, 1, **attributes)[0]

    def nodes(self, operation: str, inputs: list[str], n_outputs: int, **attributes: Any) -> list[str]:
        """Append an operation with several outputs."""
        outputs = [f"x{self._values + i}" for i in range(n_outputs)]
        self._values += n_outputs
        self._graph.node.append(self._helper.make_node(operation, inputs, outputs, **attributes))
        return outputs

    def write(
        self,
        path: Path,
        name: str,
        inputs: tuple[int | str, ...],
        output: str,
        shape: tuple[int, ...],
        source: str = PHOTO,
    ) -> None:
        """Write the graph to a file, which appears only when it is complete. Call this method only once.

        Args:
            path: file to write.
            name: name of the graph.
            inputs: shape of the input without the batch dimension. Strings are the names of variable dimensions.
            output: name of the output value, float32 (batch, *shape).
            shape: shape of the output value without the batch dimension.
            source: name of the input, `PHOTO` or `EMBEDDING`.
        """
        value, types = self._helper.make_tensor_value_info, self.types
        self._graph.name = name
        kind = types.UINT8 if source == PHOTO else types.FLOAT
        self._graph.input.append(value(source, kind, ["batch", *inputs]))
        self._graph.output.append(value(output, types.FLOAT, ["batch", *shape]))
        with write_bytes_atomically(path) as file:
            file.write(self._model.SerializeToString())

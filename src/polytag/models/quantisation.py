"""From a Keras model to its twin in 8 bits: weights rounded together, ranges with the least error.

Weights get a step for each channel of output, activations one for each layer (Jacob et al. 2018, "Quantization and
training of neural networks for efficient integer-arithmetic-only inference"). TensorFlow's converter would round each
weight to the nearest step and take ranges from the largest values that it sees; here training photos decide both:

- the weights of a filter are rounded one after another, and what one is off by is made up for by those to come, as far
  as photos show that they go together (Frantar et al. 2023, "GPTQ: accurate post-training quantization for generative
  pre-trained transformers");
- a layer's range is the one whose rounding and cutting off make the least squared error (Nagel et al. 2021, "A white
  paper on neural network quantization").
"""

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow
from numpy.typing import NDArray
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.lite.python.schema_py_generated import (
    BuiltinOperator,
    ModelT,
    OperatorT,
    Padding,
    QuantizationParametersT,
    TensorType,
)
from tensorflow.lite.tools import flatbuffer_utils

from polytag.models.backend import keras

IN_32_BITS = ("ADD", "DIV", "FULLY_CONNECTED", "LOGISTIC", "MUL", "RELU", "SOFTMAX", "SUB")
"""Operations that stay as they are: the scaling of photos, the sums of residual branches and the curves that end in
probabilities. They take next to no time, and would add a third to the error."""

PLACES, VALUES = 200, 4_000
"""Of a layer's output for one photo, how many places, and how many values, are looked at."""

DAMPING = 0.01
"""Of the mean square of a layer's inputs: how far correlations that few photos show are mistrusted."""

NARROWINGS = np.linspace(0.2, 1, 30)
"""Ranges that are tried, as shares of the widest."""


def write_int8(model: keras.Model, photos: NDArray[np.uint8], path: Path) -> None:
    """Write a model's 8-bit twin for LiteRT: photos uint8 (batch, size, size, 3) → probabilities float32 (batch, k).

    Args:
        model: with such inputs and outputs.
        photos: uint8 (n, size, size, 3), which the model has been trained on; 50 will do.
        path: the file to write, ending in .tflite.

    Raises:
        Exception: whatever the converter raises where it cannot do it.
    """
    model(photos[:1])  # Keras exports only what has been called once
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's, of its own interpreter
        model.export(folder, format="tf_saved_model", verbose=False)
        content = tensorflow.lite.TFLiteConverter.from_saved_model(folder).convert()
        graph = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
        for convolution, products in _correlations(graph, content, photos):
            convolution.weights = rounded(convolution.weights, products)
        # The rounded weights change a little what comes after them.
        _set_ranges(graph, bytes(flatbuffer_utils.convert_object_to_bytearray(graph)), photos)
        path.write_bytes(
            mlir_quantize(
                bytes(flatbuffer_utils.convert_object_to_bytearray(graph)),
                denylisted_ops=list(IN_32_BITS),
                input_data_type=tensorflow.float32,
                output_data_type=tensorflow.float32,
            )
        )


class _Convolution:
    """A convolution of a LiteRT graph: where its weights are, and what it reads.

    Weights and inputs are seen as ``groups`` of filters that read the same inputs: all filters are one group, and each
    filter of a depthwise convolution is one.
    """

    def __init__(self, graph: ModelT, operation: OperatorT):
        tensors, options = graph.subgraphs[0].tensors, operation.builtinOptions
        self.depthwise = _kind(graph, operation) == BuiltinOperator.DEPTHWISE_CONV_2D
        self.input, weights = (int(i) for i in operation.inputs[:2])
        self._buffer = graph.buffers[tensors[weights].buffer]
        self._shape = tuple(tensors[weights].shape)
        self._sides = self._shape[1:3]
        self._output = tuple(tensors[operation.outputs[0]].shape[1:3])
        self._strides = (options.strideH, options.strideW)
        self._padded = options.padding == Padding.SAME
        dilated = (options.dilationHFactor, options.dilationWFactor) != (1, 1)
        # Filters for a part of the channels and dilated ones are left to the converter.
        self.usual = not dilated and self._shape[3] == tensors[self.input].shape[3]

    @property
    def weights(self) -> NDArray[np.float32]:
        """Float32 (groups, filters of a group, inputs of a filter)."""
        weights = np.frombuffer(bytes(self._buffer.data), np.float32).reshape(self._shape)
        if self.depthwise:
            return weights.reshape(-1, self._shape[3]).T[:, None]
        return weights.reshape(1, self._shape[0], -1)

    @weights.setter
    def weights(self, weights: NDArray[np.floating]) -> None:
        changed = weights[:, 0].T if self.depthwise else weights[0]
        self._buffer.data = np.frombuffer(np.ascontiguousarray(changed, np.float32).tobytes(), np.uint8)

    def inputs(self, activations: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """What filters see at some places of activations (height, width, channels): (groups, places, inputs)."""
        if self._padded:
            missing = [
                max(0, (n - 1) * stride + side - size)
                for n, stride, side, size in zip(
                    self._output, self._strides, self._sides, activations.shape, strict=False
                )
            ]
            activations = np.pad(activations, [*[(m // 2, m - m // 2) for m in missing], (0, 0)])
        patches = np.lib.stride_tricks.sliding_window_view(activations, self._sides, axis=(0, 1))
        patches = patches[:: self._strides[0], :: self._strides[1]]
        height, width = self._output
        places = rng.permutation(height * width)[:PLACES]
        seen = patches[places // width, places % width]  # places, channels, height, width
        if self.depthwise:
            return seen.reshape(*seen.shape[:2], -1).transpose(1, 0, 2)
        return seen.transpose(0, 2, 3, 1).reshape(1, len(seen), -1)


def _kind(graph: ModelT, operation: OperatorT) -> int:
    code = graph.operatorCodes[operation.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _activations(graph: ModelT, content: bytes, photos: NDArray[np.uint8]) -> Iterator[Any]:
    """For each photo what gives the values of a tensor of the graph, by its number."""
    network = tensorflow.lite.Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    network.allocate_tensors()
    for photo in photos:
        network.set_tensor(graph.subgraphs[0].inputs[0], photo[None])
        network.invoke()
        yield network.get_tensor


def _correlations(
    graph: ModelT, content: bytes, photos: NDArray[np.uint8]
) -> list[tuple[_Convolution, NDArray[np.float32]]]:
    """The graph's convolutions, and of each the products of its inputs, summed: float32 (groups, inputs, inputs)."""
    wanted = (BuiltinOperator.CONV_2D, BuiltinOperator.DEPTHWISE_CONV_2D)
    found = [_Convolution(graph, o) for o in graph.subgraphs[0].operators if _kind(graph, o) in wanted]
    sums: dict[_Convolution, NDArray[np.float32]] = {}
    rng = np.random.default_rng(0)
    for values in _activations(graph, content, photos):
        for convolution in filter(lambda c: c.usual, found):
            inputs = convolution.inputs(values(convolution.input)[0], rng)
            sums[convolution] = sums.get(convolution, 0) + inputs.transpose(0, 2, 1) @ inputs
    return list(sums.items())


def rounded(weights: NDArray[np.floating], products: NDArray[np.floating]) -> NDArray[np.float64]:
    """Weights as multiples of each filter's step, a 127th of its largest weight, that change little of what it gives.

    The converter, which rounds to the nearest of the same steps, leaves them as they are.

    Args:
        weights: (groups, filters, inputs).
        products: (groups, inputs, inputs), of the inputs with each other, summed over examples.
    """
    left = weights.astype(np.float64)
    products = products.astype(np.float64)
    strength = np.einsum("gii->gi", products)
    # Weights of strong inputs come first: there are still many others that can make up for them.
    order = np.argsort(-strength, axis=-1)
    products = np.take_along_axis(np.take_along_axis(products, order[:, :, None], 1), order[:, None], 2)
    left = np.take_along_axis(left, np.broadcast_to(order[:, None], left.shape), 2)
    products += (DAMPING * strength.mean(-1) + 1e-9)[:, None, None] * np.eye(products.shape[-1])
    passed_on = np.linalg.cholesky(np.linalg.inv(products)).transpose(0, 2, 1)
    largest = np.abs(left).max(-1)
    step = np.maximum(largest, 1e-12) / 127
    # The largest stays, since the converter takes the step from it.
    stays = np.abs(left) == largest[:, :, None]
    result = np.empty_like(left)
    for i in range(left.shape[-1]):
        nearest = np.clip(np.rint(left[:, :, i] / step), -127, 127) * step
        result[:, :, i] = np.where(stays[:, :, i], np.sign(left[:, :, i]) * largest, nearest)
        error = (left[:, :, i] - result[:, :, i]) / passed_on[:, None, i, i]
        left[:, :, i + 1 :] -= error[:, :, None] * passed_on[:, None, i, i + 1 :]
    back = np.argsort(order, axis=-1)
    return np.take_along_axis(result, np.broadcast_to(back[:, None], result.shape), 2)


def _set_ranges(graph: ModelT, content: bytes, photos: NDArray[np.uint8]) -> None:
    """Tell the converter from where to where the 256 steps of each activation are to reach."""
    tensors = graph.subgraphs[0].tensors
    computed = [i for o in graph.subgraphs[0].operators for i in o.outputs if tensors[i].type == TensorType.FLOAT32]
    seen: dict[int, list[NDArray[np.float32]]] = {i: [] for i in computed}
    rng = np.random.default_rng(0)
    for values in _activations(graph, content, photos):
        for i in computed:
            array = values(i).ravel()
            some = array if len(array) <= VALUES else array[rng.integers(len(array), size=VALUES)]
            seen[i] += [some, np.array([array.min(), array.max()])]
    for i, arrays in seen.items():
        low, high = best_range(np.concatenate(arrays))
        tensors[i].quantization = tensors[i].quantization or QuantizationParametersT()
        tensors[i].quantization.min, tensors[i].quantization.max = (np.array([x], np.float32) for x in (low, high))


def best_range(values: NDArray[np.floating]) -> tuple[float, float]:
    """From where to where 256 equal steps should reach for these values, so that the squared error is least."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    if low == high:
        return low, high
    errors = []
    for share in NARROWINGS:
        step = share * (high - low) / 255
        nearest = np.clip(np.rint((values - share * low) / step), 0, 255) * step + share * low
        errors.append(np.mean((nearest - values) ** 2))
    share = float(NARROWINGS[int(np.argmin(errors))])
    return share * low, share * high

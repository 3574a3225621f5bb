"""From a Keras model to its twin in 8 bits for LiteRT, rounded as `polytag.models.quantization.rounding` does it."""

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
from polytag.models.quantization.rounding import Activation, Convolution

IN_32_BITS = ("ADD", "DIV", "FULLY_CONNECTED", "LOGISTIC", "MUL", "RELU", "SOFTMAX", "SUB")
"""Operations that stay as they are: the scaling of photos, the sums of residual branches and the curves that end in
probabilities. They take next to no time, and would add a third to the error."""


LEVELS = 127
"""Steps that make up a filter's largest weight; the converter takes the same."""


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
        _round_weights(graph, content, photos)
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


def _activations(graph: ModelT, content: bytes, photos: NDArray[np.uint8]) -> Iterator[Any]:
    """For each photo what gives the values of a tensor of the graph, by its number."""
    network = tensorflow.lite.Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    network.allocate_tensors()
    for photo in photos:
        network.set_tensor(graph.subgraphs[0].inputs[0], photo[None])
        network.invoke()
        yield network.get_tensor


def _round_weights(graph: ModelT, content: bytes, photos: NDArray[np.uint8]) -> None:
    """Round the weights of the graph's convolutions; the converter then finds them on its steps."""
    operations = [(o, c) for o in graph.subgraphs[0].operators if (c := _convolution(graph, o)) is not None]
    rng = np.random.default_rng(0)
    for values in _activations(graph, content, photos):
        for operation, convolution in operations:
            convolution.see(values(operation.inputs[0])[0].transpose(2, 0, 1), rng)
    for operation, convolution in operations:
        weights = convolution.rounded(LEVELS).transpose((1, 2, 3, 0) if convolution.depthwise else (0, 2, 3, 1))
        _buffer(graph, operation).data = np.frombuffer(np.ascontiguousarray(weights).tobytes(), np.uint8)


def _convolution(graph: ModelT, operation: OperatorT) -> Convolution | None:
    """A convolution of the graph; those for a part of the channels and dilated ones are left to the converter."""
    code = graph.operatorCodes[operation.opcodeIndex]
    kind, options = max(code.builtinCode, code.deprecatedBuiltinCode), operation.builtinOptions
    if kind not in (BuiltinOperator.CONV_2D, BuiltinOperator.DEPTHWISE_CONV_2D):
        return None
    shape, channels = (tuple(graph.subgraphs[0].tensors[i].shape) for i in (operation.inputs[1], operation.inputs[0]))
    if (options.dilationHFactor, options.dilationWFactor) != (1, 1) or shape[3] != channels[3]:
        return None
    depthwise = kind == BuiltinOperator.DEPTHWISE_CONV_2D
    weights = np.frombuffer(bytes(_buffer(graph, operation).data), np.float32).reshape(shape)
    return Convolution(
        weights.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)),
        strides=(options.strideH, options.strideW),
        padding=None if options.padding == Padding.SAME else ((0, 0), (0, 0)),
        depthwise=depthwise,
    )


def _buffer(graph: ModelT, operation: OperatorT) -> Any:
    """What holds a convolution's weights."""
    return graph.buffers[graph.subgraphs[0].tensors[operation.inputs[1]].buffer]


def _set_ranges(graph: ModelT, content: bytes, photos: NDArray[np.uint8]) -> None:
    """Tell the converter from where to where the 256 steps of each activation are to reach."""
    tensors = graph.subgraphs[0].tensors
    computed = [i for o in graph.subgraphs[0].operators for i in o.outputs if tensors[i].type == TensorType.FLOAT32]
    activations = {i: Activation() for i in computed}
    rng = np.random.default_rng(0)
    for values in _activations(graph, content, photos):
        for i, activation in activations.items():
            activation.see(values(i), rng)
    for i, activation in activations.items():
        low, high = activation.range()
        tensors[i].quantization = tensors[i].quantization or QuantizationParametersT()
        tensors[i].quantization.min, tensors[i].quantization.max = (np.array([x], np.float32) for x in (low, high))

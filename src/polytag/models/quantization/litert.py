"""Quantize Keras models for LiteRT. `polytag.models.quantization.rounding` rounds the weights."""

import importlib.metadata
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import (
    BuiltinOperator,
    ModelT,
    OperatorT,
    Padding,
    QuantizationParametersT,
    TensorType,
)
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

from polytag.errors import SettingsError
from polytag.models.backend import keras
from polytag.models.quantization.rounding import Activation, Convolution

FLOAT_OPERATIONS = ("ADD", "DIV", "FULLY_CONNECTED", "LOGISTIC", "MUL", "RELU", "SOFTMAX", "SUB")
"""Operations that stay in float32: the scaling of photos, residual sums, and the final layers that compute
probabilities. They take almost no time, and quantizing them would increase the error by a third."""

LEVELS = 127
"""Number of steps from 0 to a filter's largest weight, as in the converter."""

TESTED_TENSORFLOW = ("2.20", "2.21")
"""Supported versions of TensorFlow. Other versions are refused because the converter's quantization step, which has no
public interface, may change."""


def write_int8(model: keras.Model, photos: NDArray[np.uint8], path: Path) -> None:
    """Write a quantized model for LiteRT: photos uint8 (batch, size, size, 3) → probabilities float32 (batch, k).

    Args:
        model: network with these inputs and outputs.
        photos: training photos for calibration, uint8 (n, size, size, 3). 50 photos are enough.
        path: file to write, with the extension .tflite.

    Raises:
        SettingsError: this version of TensorFlow is not supported.
        Exception: the converter failed. It may raise any exception.
    """
    check_tensorflow()
    import tensorflow
    from tensorflow.lite.python.convert import mlir_quantize

    model(photos[:1])  # Keras exports only models that have been called
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's deprecation warnings
        model.export(folder, format="tf_saved_model", verbose=False)
        content = tensorflow.lite.TFLiteConverter.from_saved_model(folder).convert()
        graph = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
        _round_weights(graph, content, photos)
        # Rounding slightly changes the activations of later layers, so ranges are measured on the rounded network.
        _set_ranges(graph, bytes(flatbuffer_utils.convert_object_to_bytearray(graph)), photos)
        path.write_bytes(
            mlir_quantize(
                bytes(flatbuffer_utils.convert_object_to_bytearray(graph)),
                denylisted_ops=list(FLOAT_OPERATIONS),
                input_data_type=tensorflow.float32,
                output_data_type=tensorflow.float32,
            )
        )


def check_tensorflow() -> None:
    """Raise a `SettingsError` unless the installed TensorFlow is one of `TESTED_TENSORFLOW`."""
    version = importlib.metadata.version("tensorflow")
    if ".".join(version.split(".")[:2]) not in TESTED_TENSORFLOW:
        raise SettingsError(f"litert-int8 needs TensorFlow {' or '.join(TESTED_TENSORFLOW)}, not {version}")


def _activations(
    graph: ModelT, content: bytes, photos: NDArray[np.uint8]
) -> Iterator[Callable[[int], NDArray[np.floating]]]:
    """Run the network on each photo and yield a function that returns the values of a tensor, given its index."""
    network = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    network.allocate_tensors()
    for photo in photos:
        network.set_tensor(graph.subgraphs[0].inputs[0], photo[None])
        network.invoke()
        yield network.get_tensor


def _round_weights(graph: ModelT, content: bytes, photos: NDArray[np.uint8]) -> None:
    """Round the weights of the convolutions to the converter's steps."""
    operations = [(o, c) for o in graph.subgraphs[0].operators if (c := _convolution(graph, o)) is not None]
    rng = np.random.default_rng(0)
    for values in _activations(graph, content, photos):
        for operation, convolution in operations:
            convolution.see(values(operation.inputs[0])[0].transpose(2, 0, 1), rng)
    for operation, convolution in operations:
        weights = convolution.rounded(LEVELS).transpose((1, 2, 3, 0) if convolution.depthwise else (0, 2, 3, 1))
        _buffer(graph, operation).data = np.frombuffer(np.ascontiguousarray(weights).tobytes(), np.uint8)


def _convolution(graph: ModelT, operation: OperatorT) -> Convolution | None:
    """Return the convolution that an operation performs, or ``None`` if it is dilated or grouped.

    The converter rounds dilated and grouped convolutions.
    """
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
    """Return the buffer that contains a convolution's weights."""
    return graph.buffers[graph.subgraphs[0].tensors[operation.inputs[1]].buffer]


def _set_ranges(graph: ModelT, content: bytes, photos: NDArray[np.uint8]) -> None:
    """Store the range of each activation. The converter divides it into 256 steps."""
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

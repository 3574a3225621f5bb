"""Networks whose convolutions count in 8 bits, which LiteRT runs twice as fast as those in 32 bits.

Weights are rounded for each channel of output, activations for each layer, on ranges that photos show (Jacob et al.
2018, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*).
"""

import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import BundleError, SettingsError
from polytag.models.quiet import quiet_stderr

if TYPE_CHECKING:
    from polytag.models.backend import keras

MOST_LOST = 0.005
"""Of validation mAP that 8 bits may cost."""

CALIBRATION_PHOTOS = 50
"""Training photos that show which values occur between layers: more of them stretch the ranges by rare values, and so
make all steps coarser."""

IN_32_BITS = ("ADD", "DIV", "FULLY_CONNECTED", "LOGISTIC", "MUL", "RELU", "SOFTMAX", "SUB")
"""Operations that stay as they are: the scaling of photos, the sums of residual branches and the curves that end in
probabilities. They take next to no time, and would add a third to the error; `benchmarks/engines.py` shows it."""


class LitertModel:
    """A network on LiteRT: a batch of arrays in, float32 (batch, width) out; may be called from any thread.

    Args:
        path: the network's file.
        threads: threads for one call. Several calls at once, each on one thread, get through more photos.

    Raises:
        SettingsError: LiteRT is not installed.
        BundleError: the file is no network that it can run.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 1):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise SettingsError("networks of 8 bits need LiteRT: pip install 'polytag[export]'") from None
        self._new: Callable[[], Any] = lambda: Interpreter(model_path=os.fspath(path), num_threads=threads)
        failure = None
        with quiet_stderr():  # the first interpreter of a process announces itself
            try:
                first = self._new()
                first.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                failure = " ".join(str(error).split())[:120]
        if failure is not None:
            raise BundleError(f"{path} is not a network that LiteRT can run ({failure})")
        # An interpreter serves one call at a time: each call takes a free one, or makes one.
        self._free = [first]
        self.width = int(first.get_output_details()[0]["shape"][-1])

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        try:
            interpreter = self._free.pop()
        except IndexError:
            interpreter = self._new()
        (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
        if tuple(inputs["shape"]) != batch.shape:
            interpreter.resize_tensor_input(inputs["index"], batch.shape)
        interpreter.allocate_tensors()  # costs nothing where nothing has changed
        interpreter.set_tensor(inputs["index"], batch)
        interpreter.invoke()
        output = interpreter.get_tensor(outputs["index"])
        self._free.append(interpreter)
        return output


def write_int8(model: "keras.Model", photos: NDArray[np.uint8], path: Path) -> None:
    """Write a model's 8-bit twin for LiteRT: photos uint8 (batch, size, size, 3) → probabilities float32 (batch, k).

    Args:
        model: with such inputs and outputs.
        photos: uint8 (n, size, size, 3), which the model has been trained on; a few hundred will do.
        path: the file to write, ending in .tflite.

    Raises:
        Exception: whatever the converter raises where it cannot do it.
    """
    import tensorflow

    lite = tensorflow.lite
    model(photos[:1])  # Keras exports only what has been called once
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's, of its own interpreter
        model.export(folder, format="tf_saved_model", verbose=False)
        converter = lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([photo[None]] for photo in photos)
        # What TensorFlow calls a debugger is its way to leave operations out.
        chooser = lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=lite.experimental.QuantizationDebugOptions(denylisted_ops=list(IN_32_BITS)),
        )
        path.write_bytes(chooser.get_nondebug_quantized_model())


def in_8_bits(facts: Mapping[str, Any]) -> str:
    """What a bundle records of its twin in 8 bits, in words."""
    if "reason" in facts:
        return f"8 bits: none, since {facts['reason']}"
    score = f"validation mAP {facts['validation_mean_average_precision']:.4f}, {facts['lost']:+.4f} lost"
    return f"8 bits: {score}; " + ("--engine int8 tags with it" if facts["kept"] else "too much, so it was not kept")

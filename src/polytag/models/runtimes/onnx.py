"""ONNX twins of Keras models: written once, then run without Keras and faster than it."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import BundleError

if TYPE_CHECKING:
    from polytag.models.backend import keras

BATCH_SIZE = 2
"""Photos for one call. Larger batches are slower, as what lies between two layers no longer fits a core's cache, and
take more memory; `benchmarks/embedding.py` shows it."""

TOLERANCE = 1e-4
"""How far a twin's results may be from its model's, relative to the largest of them or to 1."""


class OnnxModel:
    """A model on ONNX Runtime: a batch of arrays in, float32 (batch, …) out; may be called from any thread.

    Args:
        path: the model's file.
        threads: threads for one call; ``None`` takes all cores. Several calls at once, each on one thread, get
            through more batches than one call after the other on all of them.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # ONNX Runtime's own exceptions share no public base class.
            raise BundleError(f"{path} is not a model that ONNX Runtime can run ({str(error)[:120]})") from None
        self._input = self._session.get_inputs()[0].name
        self.width: int = self._session.get_outputs()[0].shape[-1]
        """Length of the output's last dimension."""

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        (output,) = self._session.run(None, {self._input: batch})
        return output


def few_at_a_time(run: Callable[[NDArray[Any]], NDArray[np.float32]], batch: NDArray[Any]) -> NDArray[np.float32]:
    """What a model gives for a batch that is better not run at once."""
    return np.concatenate([run(batch[start : start + BATCH_SIZE]) for start in range(0, len(batch), BATCH_SIZE)])


def export_onnx(model: "keras.Model", path: Path) -> bool:
    """Write a model's ONNX twin, with a free batch size.

    Returns:
        Whether there is one, which gives what the model gives: Keras on JAX or PyTorch may lack what exporting
        needs, and a model without a twin still works, through Keras.
    """
    from polytag.models.backend import keras
    from polytag.models.conversion.keras_to_onnx import UnknownLayerError, write_network
    from polytag.models.runtimes.quiet import quiet_stderr

    # Noise, on which the twin must give the same. Keras exports only what has been called once, which this does too.
    batch = np.random.default_rng(0).integers(0, 256, (2, *model.input_shape[1:])).astype(model.inputs[0].dtype)
    expected = keras.ops.convert_to_numpy(model(batch, training=False))
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        try:
            write_network(model, temporary)
        except UnknownLayerError:
            with quiet_stderr(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.export(temporary, format="onnx", verbose=False)
        _check(expected, OnnxModel(temporary)(batch))
        os.replace(temporary, path)
    except Exception as error:
        # Exporters raise what they like; a training that took hours must not be lost for the want of a twin.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        warnings.warn(f"no ONNX twin was written ({reason}): Keras runs in its place", stacklevel=2)
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _check(expected: NDArray[np.float32], got: NDArray[np.float32]) -> None:
    """Refuse a twin that gives anything else than its model."""
    difference = float(np.abs(got - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ValueError(f"it differed from the model by {difference:.2g}")

"""Run networks with ONNX Runtime, and convert Keras models for it."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import BundleError, SettingsError, raise_machine_error
from polytag.extras import require
from polytag.models.runtimes.device import CUDA, device, onnx_providers

if TYPE_CHECKING:
    from polytag.models.backend import keras

BATCH_SIZE = 2
"""Number of photos per call. Larger batches use more memory and are slower, because their feature maps do not fit into
a core's cache (`benchmarks/embedding.py`)."""

GPU_BATCH_SIZE = 64
"""Number of photos per call on a GPU, which small batches leave idle. Not measured."""

TOLERANCE = 1e-4
"""Maximum difference between ONNX and Keras outputs, relative to the largest output or 1, whichever is larger."""


class OnnxModel:
    """A network on ONNX Runtime: array (batch, …) → float32 (batch, …). It may be called from any thread.

    Args:
        path: file of the network.
        threads: number of threads for each call; ``None`` for all cores. Several concurrent calls on one thread each
            process more batches per second than successive calls on all cores.
        output: name of an inner value to return, float32. ``None`` returns the output of the network.

    Raises:
        BundleError: ONNX Runtime cannot run the file.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None, output: str | None = None):
        self.path, self.output = Path(path), output
        self._session = open_session(path, threads or 0, output)
        self.batch_size = GPU_BATCH_SIZE if CUDA in self._session.get_providers() else BATCH_SIZE
        """Number of photos per call for the highest throughput."""
        self._input = self._session.get_inputs()[0].name
        self.shape: list[int | str] = self._session.get_inputs()[0].shape
        """Shape of the input. Strings are the names of variable dimensions."""
        shape = self._session.get_outputs()[0].shape
        self.width: int = shape[-1] if shape else 0
        """Size of the output's last dimension, or 0 if the graph does not state it."""

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        (output,) = self._session.run(None, {self._input: batch})
        return output


def open_session(path: str | os.PathLike[str], threads: int, output: str | None = None) -> Any:
    """Open a network with ONNX Runtime.

    Args:
        path: file of the network.
        threads: number of threads for each call; 0 for all cores.
        output: name of an inner value that becomes the only output. ``None`` keeps the outputs of the network.

    Raises:
        BundleError: ONNX Runtime cannot run the file.
        SettingsError: a GPU was chosen, but ONNX Runtime cannot use one.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    model: str | bytes = str(path)
    if output is not None:
        model = _ending_in(path, output)
        # A graph in memory has no folder of its own, in which its external weights could be found.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(Path(path).parent))
    providers = onnx_providers()
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:
        raise_machine_error(error)
        # ONNX Runtime's exceptions share no public base class.
        raise BundleError(f"{path} is not a model that ONNX Runtime can run ({str(error)[:120]})") from None
    # Without a driver, ONNX Runtime uses the processor in silence.
    if device() == "gpu" and CUDA not in session.get_providers():
        raise SettingsError("ONNX Runtime cannot start CUDA: check the GPU's driver, CUDA and cuDNN")
    return session


def quiet_run() -> Any:
    """Return options for a call that may fail, and whose failure is reported otherwise."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    return options


def _ending_in(path: str | os.PathLike[str], output: str) -> bytes:
    """Return a network that ends with an inner value, float32 (batch, …). ONNX Runtime removes what is not needed."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    return model.SerializeToString()


def batch_size_of(run: Callable[[NDArray[Any]], NDArray[np.float32]]) -> int:
    """Return the number of photos per call of a network for the highest throughput."""
    return run.batch_size if isinstance(run, OnnxModel) else BATCH_SIZE


def run_in_small_batches(
    run: Callable[[NDArray[Any]], NDArray[np.float32]], batch: NDArray[Any]
) -> NDArray[np.float32]:
    """Run a network on a few photos at a time."""
    size = batch_size_of(run)
    return np.concatenate([run(batch[start : start + size]) for start in range(0, len(batch), size)])


def export_onnx(model: "keras.Model", path: Path) -> bool:
    """Convert a Keras model to ONNX, with a variable batch size, and compare the outputs.

    polytag converts its own networks (`polytag.models.conversion.keras_to_onnx`). Other networks need tf2onnx.

    Args:
        model: network to convert.
        path: file to write. It appears only if the outputs agree.

    Returns:
        Whether the file was written. If not, a warning states the reason, and the model can still run on Keras.
    """
    from polytag.models.backend import keras

    # Random input reveals any difference. Calling the model also makes it exportable.
    batch = np.random.default_rng(0).integers(0, 256, (2, *model.input_shape[1:])).astype(model.inputs[0].dtype)
    expected = keras.ops.convert_to_numpy(model(batch, training=False))
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        _convert(model, temporary)
        _check(expected, OnnxModel(temporary)(batch))
        os.replace(temporary, path)
    except Exception as error:
        # Converters may raise any exception, and a model that took hours to train must not be lost because of it.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        warnings.warn(f"the model was not converted to ONNX and runs on Keras instead ({reason})", stacklevel=2)
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _convert(model: "keras.Model", path: Path) -> None:
    from polytag.models.conversion.keras_to_onnx import UnknownLayerError, write_network
    from polytag.models.runtimes.quiet import quiet_stderr

    try:
        write_network(model, path)
    except UnknownLayerError as error:
        require("tf2onnx", "export", f"Converting {error}")
        with quiet_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.export(path, format="onnx", verbose=False)


def _check(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> None:
    """Raise a `ValueError` if the outputs differ."""
    difference = float(np.abs(actual - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ValueError(f"its output differs by {difference:.2g}")

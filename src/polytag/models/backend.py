"""The only module that imports Keras.

It selects an installed backend, sets how exactly it computes and suppresses log messages at start-up. All other modules
of this package use ``from polytag.models.backend import keras``.
"""

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polytag.errors import SettingsError
from polytag.models.runtimes.device import DETERMINISTIC, device
from polytag.models.runtimes.quiet import quiet_stderr


def choose_backend() -> str:
    """Return the backend that Keras will use: ``$KERAS_BACKEND`` if it is set, otherwise the first installed one.

    Raises:
        SettingsError: TensorFlow, JAX and PyTorch are all missing, or the backend named in ``$KERAS_BACKEND`` is not
            installed.
    """
    if "KERAS_BACKEND" not in os.environ:
        for backend in ("tensorflow", "jax", "torch"):
            if importlib.util.find_spec(backend) is not None:
                os.environ["KERAS_BACKEND"] = backend
                break
        else:
            raise SettingsError(
                "training needs a Keras backend, but none is installed: run 'pip install tensorflow' (or jax, or torch)"
            )
    backend = os.environ["KERAS_BACKEND"]
    if importlib.util.find_spec(backend) is None:
        raise SettingsError(f"KERAS_BACKEND is '{backend}', which is not installed: choose tensorflow, jax or torch")
    return backend


# TensorFlow reads these variables when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Otherwise, the first process would take all memory of the GPU, and other processes would fail.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
if device() == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
# Without this setting, TensorFlow warns about each additional network that a search builds.
logging.getLogger("tensorflow").setLevel(logging.ERROR)
choose_backend()
with quiet_stderr():
    import keras

__all__ = [
    "check_device",
    "choose_backend",
    "computing_in",
    "keras",
    "on_all_gpus",
    "on_cpu",
    "quiet_stderr",
    "replicas",
    "training_policy",
]

CPU_INFO = Path("/proc/cpuinfo")


def on_cpu() -> bool:
    """Return whether Keras is known to compute on the CPU: its backend is TensorFlow, and TensorFlow finds no GPU."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow

    return not tensorflow.config.list_physical_devices("GPU")


def _prepare() -> None:
    """Make TensorFlow's operations deterministic on a CPU, and as exact on a GPU as on a CPU."""
    if on_cpu():
        # The same seed then always gives the same scores. On a GPU, Keras would do without XLA, so that operations are
        # deterministic there on request only. TensorFlow reads this variable before its first operation.
        os.environ.setdefault(DETERMINISTIC, "1")
    elif keras.backend.backend() == "tensorflow":
        import tensorflow

        # TensorFloat-32 has 10 bits. Networks would differ from their conversion to ONNX in the third digit.
        tensorflow.config.experimental.enable_tensor_float_32_execution(False)


_prepare()


def check_device() -> None:
    """Check that Keras can use the chosen device.

    Raises:
        SettingsError: a GPU was chosen, but TensorFlow finds none.
    """
    if device() == "gpu" and on_cpu():
        raise SettingsError("TensorFlow finds no GPU: install its CUDA packages (pip install 'tensorflow[and-cuda]')")


def training_policy() -> str:
    """Return the Keras dtype policy that trains large networks fastest.

    With TensorFlow, the policy is "mixed_bfloat16" if the GPU or CPU supports bfloat16, and "mixed_float16" if the GPU
    supports float16 only. Otherwise, it is "float32". Weights are float32 under all policies (Micikevicius et al. 2018,
    "Mixed precision training").
    """
    if keras.backend.backend() != "tensorflow":
        return "float32"
    import tensorflow

    if gpus := tensorflow.config.list_physical_devices("GPU"):
        details = [tensorflow.config.experimental.get_device_details(gpu) for gpu in gpus]
        oldest = min(d.get("compute_capability", (0, 0)) for d in details)
        return "mixed_bfloat16" if oldest >= (8, 0) else "mixed_float16" if oldest >= (7, 0) else "float32"
    info = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    return "mixed_bfloat16" if "avx512_bf16" in info or "amx_bf16" in info else "float32"


def replicas() -> list[str]:
    """Return the names of the GPUs among which TensorFlow can divide each batch."""
    if keras.backend.backend() != "tensorflow":
        return []
    import tensorflow

    return [gpu.name for gpu in tensorflow.config.list_logical_devices("GPU")]


@contextmanager
def on_all_gpus() -> Iterator[None]:
    """Train the networks that are created in the block on all GPUs, each with a part of every batch.

    With one GPU or none, the block runs as usual.
    """
    devices = replicas()
    if len(devices) < 2:
        yield
        return
    import tensorflow

    with tensorflow.distribute.MirroredStrategy(devices).scope():
        yield


@contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Set the dtype policy of all layers that are created in the block, except those that set their own."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)

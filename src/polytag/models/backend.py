"""Keras, imported in one place: with an installed backend, deterministic, and without start-up noise.

Every module of this package imports Keras from here: ``from polytag.models.backend import keras``.
"""

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polytag.errors import SettingsError
from polytag.models.runtimes.quiet import quiet_stderr


def choose_backend() -> str:
    """Return the backend that Keras will use: ``$KERAS_BACKEND``, else the first installed one.

    Raises:
        SettingsError: none of TensorFlow, JAX and PyTorch is installed, or ``$KERAS_BACKEND`` is not.
    """
    if "KERAS_BACKEND" not in os.environ:
        for backend in ("tensorflow", "jax", "torch"):
            if importlib.util.find_spec(backend) is not None:
                os.environ["KERAS_BACKEND"] = backend
                break
        else:
            raise SettingsError(
                "training needs a backend for Keras, but none is installed: run 'pip install tensorflow' (or jax, "
                "or torch)"
            )
    backend = os.environ["KERAS_BACKEND"]
    if importlib.util.find_spec(backend) is None:
        raise SettingsError(f"KERAS_BACKEND is '{backend}', which is not installed: choose tensorflow, jax or torch")
    return backend


# TensorFlow reads these when it is first imported. Determinism makes the same seed give the same scores.
os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow warns about each further network that a search builds.
logging.getLogger("tensorflow").setLevel(logging.ERROR)
choose_backend()
with quiet_stderr():
    import keras

__all__ = ["choose_backend", "computing_in", "keras", "on_cpu", "quiet_stderr", "training_policy"]

CPU_INFO = Path("/proc/cpuinfo")


def on_cpu() -> bool:
    """Whether Keras certainly computes on the CPU: its backend is TensorFlow, which sees no GPU."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow

    return not tensorflow.config.list_physical_devices("GPU")


def training_policy() -> str:
    """Return the Keras dtype policy in which large networks train fastest.

    It is "mixed_bfloat16" on TensorFlow if the GPU or CPU supports bfloat16, else "float32". Weights are float32 in
    both (Micikevicius et al. 2018, "Mixed precision training").
    """
    if keras.backend.backend() != "tensorflow":
        return "float32"
    import tensorflow

    if gpus := tensorflow.config.list_physical_devices("GPU"):
        details = [tensorflow.config.experimental.get_device_details(gpu) for gpu in gpus]
        supported = all(d.get("compute_capability", (0, 0)) >= (8, 0) for d in details)
    else:
        info = CPU_INFO.read_text() if CPU_INFO.exists() else ""
        supported = "avx512_bf16" in info or "amx_bf16" in info
    return "mixed_bfloat16" if supported else "float32"


@contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Give layers that are created in the block this dtype policy, unless they set their own."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)

"""Keras, imported in one place: with a backend that is installed, deterministic, and without start-up noise.

Every module of this package takes Keras from here: ``from polytag.models.backend import keras``.
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
    """The backend Keras will use: ``$KERAS_BACKEND``, else the first installed of TensorFlow, JAX, PyTorch."""
    if "KERAS_BACKEND" not in os.environ:
        for backend in ("tensorflow", "jax", "torch"):
            if importlib.util.find_spec(backend) is not None:
                os.environ["KERAS_BACKEND"] = backend
                break
        else:
            raise SettingsError("training needs a backend for Keras: run 'pip install tensorflow' (or jax, or torch)")
    backend = os.environ["KERAS_BACKEND"]
    if importlib.util.find_spec(backend) is None:
        raise SettingsError(f"KERAS_BACKEND is '{backend}', which is not installed: choose tensorflow, jax or torch")
    return backend


# Read by TensorFlow when it is first imported: the same seed must give the same scores.
os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A search builds one network after another, and TensorFlow would warn of each.
logging.getLogger("tensorflow").setLevel(logging.ERROR)
choose_backend()
with quiet_stderr():
    import keras

__all__ = ["choose_backend", "computing_in", "keras", "on_processor", "quiet_stderr", "training_policy"]

CPU_FACTS = Path("/proc/cpuinfo")


def on_processor() -> bool:
    """Whether Keras computes on the processor for certain: on TensorFlow, which has no GPU here."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow

    return not tensorflow.config.list_physical_devices("GPU")


def training_policy() -> str:
    """Keras' name of the types that large networks train fastest in: with bfloat16 where what computes has it.

    Weights, and what is learned, are in float32 either way (Micikevicius et al. 2018, "Mixed precision training").
    """
    if keras.backend.backend() != "tensorflow":
        return "float32"
    import tensorflow

    if cards := tensorflow.config.list_physical_devices("GPU"):
        details = [tensorflow.config.experimental.get_device_details(card) for card in cards]
        able = all(d.get("compute_capability", (0, 0)) >= (8, 0) for d in details)
    else:
        facts = CPU_FACTS.read_text() if CPU_FACTS.exists() else ""
        able = "avx512_bf16" in facts or "amx_bf16" in facts
    return "mixed_bfloat16" if able else "float32"


@contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Layers that are made in the block compute in the types of this policy, except where they name others."""
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(usual)

"""Keras, imported in one place: with a backend that is installed, deterministic, and without start-up noise.

Every module of this package takes Keras from here: ``from polytag.models.backend import keras``.
"""

import importlib.util
import logging
import os

from polytag.errors import SettingsError
from polytag.models.quiet import quiet_stderr


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

__all__ = ["choose_backend", "keras", "quiet_stderr"]

"""Choose between the processor and a GPU, for ONNX Runtime and for Keras.

The choice is an environment variable, so that processes that polytag starts make the same one.
"""

import os
from typing import Any

from polytag.errors import SettingsError

DEVICES = ("auto", "cpu", "gpu")
"""``auto`` uses a GPU if the installed packages find one."""

VARIABLE = "POLYTAG_DEVICE"

DETERMINISTIC = "TF_DETERMINISTIC_OPS"
"""Variable with which TensorFlow makes its operations deterministic."""

CUDA = "CUDAExecutionProvider"


def use_device(name: str | None, deterministic: bool = False) -> None:
    """Choose the device for this process and those that it starts. Call this before Keras is imported.

    Args:
        name: one of `DEVICES`; ``None`` leaves the choice to the environment variable.
        deterministic: whether TensorFlow computes deterministically on a GPU too.
    """
    if name is not None:
        os.environ[VARIABLE] = name
    if deterministic:
        os.environ[DETERMINISTIC] = "1"
    device()


def device() -> str:
    """Return the chosen device, one of `DEVICES`.

    Raises:
        SettingsError: the environment variable has another value.
    """
    name = os.environ.get(VARIABLE, "auto")
    if name not in DEVICES:
        raise SettingsError(f"the device must be {', '.join(DEVICES[:-1])} or {DEVICES[-1]}, not '{name}'")
    return name


def onnx_providers() -> list[Any]:
    """Return ONNX Runtime's execution providers for the chosen device, in order of preference.

    Raises:
        SettingsError: a GPU was chosen, but ONNX Runtime cannot use one.
    """
    import onnxruntime

    found = CUDA in onnxruntime.get_available_providers()
    if device() == "gpu" and not found:
        raise SettingsError("ONNX Runtime cannot use a GPU: install onnxruntime-gpu instead of onnxruntime")
    if device() == "cpu" or not found:
        return ["CPUExecutionProvider"]
    # TensorFloat-32 has 10 bits, so that probabilities would differ from those of a processor in the third digit.
    return [(CUDA, {"use_tf32": 0}), "CPUExecutionProvider"]

"""Run networks with OpenVINO, the fastest runtime for quantized networks (`benchmarks/engines.py`)."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import BundleError
from polytag.extras import require

BATCH_SIZE = 8
"""Number of photos per call. With fewer photos, passing the call to OpenVINO's threads takes too much of the time."""


def check_openvino() -> None:
    """Raise a `SettingsError` if OpenVINO is not installed."""
    require("openvino", "export", "The quantized model")


class OpenvinoModel:
    """A network on OpenVINO: array (batch, …) → float32 (batch, width). It may be called from any thread.

    Args:
        path: file of the network, in OpenVINO's own format or ONNX.
        calls: number of concurrent calls, each on its own thread.

    Raises:
        SettingsError: OpenVINO is not installed.
        BundleError: OpenVINO cannot run the file.
    """

    def __init__(self, path: str | os.PathLike[str], calls: int = 1):
        check_openvino()
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # the default is bfloat16 if the CPU supports it
            "INFERENCE_NUM_THREADS": calls,
            "NUM_STREAMS": calls,
            "ENABLE_CPU_PINNING": False,  # photos are decoded on the same cores
        }
        try:
            self._network = openvino.Core().compile_model(os.fspath(path), "CPU", settings)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:120]
            raise BundleError(f"{path} is not a network that OpenVINO can run ({reason})") from None
        # A request can run only one call at a time. A call uses an idle request, or creates a new one.
        self._idle: list[Any] = []
        # The first call in a process initialises shared state. If two threads did this at the same time, they would
        # deadlock.
        (photo,) = self._network.inputs
        _, *shape = photo.partial_shape
        self(np.zeros([1, *(side.get_length() for side in shape)], photo.element_type.to_dtype()))

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._network.create_infer_request()
        output = request.infer([batch])[0]
        self._idle.append(request)
        return output

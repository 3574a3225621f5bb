"""Networks on OpenVINO, which runs those in 8 bits fastest; `benchmarks/engines.py` compares it with others."""

import importlib.util
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import BundleError, SettingsError

BATCH_SIZE = 8
"""Photos for one call: its threads are handed each call, which takes a while for few photos."""


def check_openvino() -> None:
    """Raise a `SettingsError` where OpenVINO is not installed."""
    if importlib.util.find_spec("openvino") is None:
        raise SettingsError("networks in 8 bits, and for OpenVINO, need it installed: pip install 'polytag[export]'")


class OpenvinoModel:
    """A network on OpenVINO: a batch of arrays in, float32 (batch, width) out; may be called from any thread.

    Args:
        path: the network's file, OpenVINO's own or ONNX.
        calls: calls at once, each on a thread of its own.

    Raises:
        SettingsError: OpenVINO is not installed.
        BundleError: the file is no network that it can run.
    """

    def __init__(self, path: str | os.PathLike[str], calls: int = 1):
        check_openvino()
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # or it computes in bfloat16 wherever it can
            "INFERENCE_NUM_THREADS": calls,
            "NUM_STREAMS": calls,
            "ENABLE_CPU_PINNING": False,  # photos are decoded on the same cores
        }
        try:
            self._network = openvino.Core().compile_model(os.fspath(path), "CPU", settings)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:120]
            raise BundleError(f"{path} is not a network that OpenVINO can run ({reason})") from None
        # A request serves one call at a time: each call takes a free one, or makes one.
        self._free: list[Any] = []
        # The first call of a process sets up what all share: two threads that did so at once would wait for ever.
        (photo,) = self._network.inputs
        _, *shape = photo.partial_shape
        self(np.zeros([1, *(side.get_length() for side in shape)], photo.element_type.to_dtype()))

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        try:
            request = self._free.pop()
        except IndexError:
            request = self._network.create_infer_request()
        output = request.infer([batch])[0]
        self._free.append(request)
        return output

"""The device is chosen once, for ONNX Runtime and for Keras."""

import os
import subprocess
import sys
import warnings

import onnxruntime
import pytest

from polytag.errors import SettingsError
from polytag.models.backend import check_device
from polytag.models.encoders.encoder import find_encoder
from polytag.models.runtimes.device import CUDA, DETERMINISTIC, VARIABLE, onnx_providers, use_device
from polytag.models.runtimes.onnx import OnnxModel
from tiny_encoders import TINY


def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "auto")
    assert onnx_providers() == ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    assert onnx_providers() == [(CUDA, {"use_tf32": 0}), "CPUExecutionProvider"]
    use_device("cpu")
    assert onnx_providers() == ["CPUExecutionProvider"]
    use_device(None)
    assert onnx_providers() == ["CPUExecutionProvider"]


def test_a_gpu_that_does_not_start_is_not_replaced_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    encoder = find_encoder(str(TINY / "clip"))
    assert encoder.path is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ONNX Runtime's own about the missing provider
        assert OnnxModel(encoder.path).width
        monkeypatch.setenv(VARIABLE, "gpu")
        with pytest.raises(SettingsError, match="ONNX Runtime cannot start CUDA"):
            OnnxModel(encoder.path)


def test_a_gpu_that_is_missing_is_not_replaced_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "gpu")
    with pytest.raises(SettingsError, match="install onnxruntime-gpu"):
        onnx_providers()
    with pytest.raises(SettingsError, match="TensorFlow finds no GPU"):
        check_device()
    monkeypatch.setenv(VARIABLE, "tpu")
    with pytest.raises(SettingsError, match="the device must be auto, cpu or gpu, not 'tpu'"):
        onnx_providers()


PRETENDED = """
import sys
import keras, tensorflow
from polytag.models.runtimes.device import use_device

tensorflow.config.list_physical_devices = lambda kind=None: [kind] * int(sys.argv[1])
use_device(None, deterministic=sys.argv[2] == "1")
import polytag.models.backend
from tensorflow.python.framework.config import is_op_determinism_enabled

print(is_op_determinism_enabled())
"""


@pytest.mark.parametrize(("gpus", "asked", "deterministic"), [(0, 0, True), (1, 0, False), (1, 1, True)])
def test_a_gpu_is_deterministic_on_request(gpus: int, asked: int, deterministic: bool) -> None:
    given = {name: value for name, value in os.environ.items() if name != DETERMINISTIC}
    command = [sys.executable, "-W", "ignore", "-c", PRETENDED, str(gpus), str(asked)]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(deterministic)]

"""The device is chosen once, for ONNX Runtime and for Keras."""

import onnxruntime
import pytest

from polytag.errors import SettingsError
from polytag.models.backend import check_device
from polytag.models.runtimes.device import CUDA, VARIABLE, onnx_providers, use_device


def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "auto")
    assert onnx_providers() == ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    assert onnx_providers() == [(CUDA, {"use_tf32": 0}), "CPUExecutionProvider"]
    use_device("cpu")
    assert onnx_providers() == ["CPUExecutionProvider"]
    use_device(None)
    assert onnx_providers() == ["CPUExecutionProvider"]


def test_a_gpu_that_is_missing_is_not_replaced_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "gpu")
    with pytest.raises(SettingsError, match="install onnxruntime-gpu"):
        onnx_providers()
    with pytest.raises(SettingsError, match="TensorFlow finds no GPU"):
        check_device()
    monkeypatch.setenv(VARIABLE, "tpu")
    with pytest.raises(SettingsError, match="the device must be auto, cpu or gpu, not 'tpu'"):
        onnx_providers()

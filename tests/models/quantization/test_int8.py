"""Quantized networks: close to their models, at any batch size, from any thread, without TensorFlow."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import polytag as pt
from polytag.errors import BundleError, SettingsError
from polytag.models.backend import keras
from polytag.models.quantization import litert as int8_litert
from polytag.models.quantization import onnx as int8_onnx
from polytag.models.runtimes.litert import LitertModel
from polytag.models.runtimes.onnx import export_onnx
from polytag.models.runtimes.openvino import OpenvinoModel
from polytag.models.runtimes.quiet import quiet_stderr
from polytag.photos.decode import decode

layers = keras.layers
SIZE = 32
RUNTIMES = {"litert": LitertModel, "openvino": partial(OpenvinoModel, calls=4)}
NAMES = {"litert": "LiteRT", "openvino": "OpenVINO"}


@pytest.fixture(scope="module")
def photos(squares):
    return np.stack([decode(path, SIZE) for path in squares[0].paths[:24]])


@pytest.fixture(scope="module")
def network(photos) -> keras.Model:
    """A small network like a backbone with random weights: a residual branch, and probabilities that vary."""
    keras.utils.set_random_seed(0)
    inputs = layers.Input((SIZE, SIZE, 3), dtype="uint8", name="photo")
    x = layers.Rescaling([0.02, 0.017, 0.015], [-2.0, -1.9, -1.8])(inputs)
    x = layers.ReLU(6)(layers.Conv2D(32, 3, 2, "same")(x))
    x = layers.Add()([x, layers.Conv2D(32, 1)(layers.ReLU(6)(layers.DepthwiseConv2D(3, 1, "same")(x)))])
    x = layers.Dense(64, "relu")(layers.GlobalAveragePooling2D()(layers.Conv2D(64, 3)(x)))
    logits = keras.Model(inputs, x)(photos) @ (kernel := np.random.default_rng(0).normal(size=(64, 3)).astype("f"))
    scale = 2 / np.std(logits, axis=0)
    outputs = layers.Dense(3, "sigmoid", name="probabilities")
    model = keras.Model(inputs, outputs(x))
    outputs.set_weights([kernel * scale, -np.mean(logits, axis=0) * scale])
    return model


def write(runtime: str, network: keras.Model, photos: np.ndarray, folder: Path) -> Path:
    if runtime == "litert":
        with quiet_stderr():
            int8_litert.write_int8(network, photos, folder / "model.tflite")
        return folder / "model.tflite"
    assert export_onnx(network, folder / "float.onnx")
    int8_onnx.write_int8(folder / "float.onnx", photos, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def quantized(runtime, network, photos, tmp_path_factory) -> Path:
    return write(runtime, network, photos, tmp_path_factory.mktemp("int8"))


@pytest.fixture
def run(runtime, quantized):
    return RUNTIMES[runtime](quantized)


def test_it_is_small_and_close(network, quantized, run, photos) -> None:
    expected = np.asarray(network.predict_on_batch(photos))
    got = run(photos)
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    assert 0 < np.abs(got - expected).mean() < 0.02 < np.ptp(expected, axis=0).min()
    weights = sum(int(np.prod(weight.shape)) for weight in network.weights)
    assert quantized.stat().st_size < 2 * weights  # bytes; float32 takes four per weight


def test_a_batch_of_any_size_gives_what_single_photos_give(run, photos) -> None:
    single = np.concatenate([run(photo[None]) for photo in photos])
    assert single.shape == (24, 3)
    for n in (2, 5, 1, 7, 24):
        assert np.array_equal(run(photos[:n]), single[:n])


def test_calls_from_several_threads_do_not_mix(run, photos) -> None:
    single = [run(photo[None]) for photo in photos]
    batches = [photos[i : i + 1 + i % 3] for i in range(20)] * 5
    with ThreadPoolExecutor(6) as pool:
        for i, got in enumerate(pool.map(run, batches)):
            start = i % 20
            assert np.array_equal(got, np.concatenate(single[start : start + len(got)]))


def elsewhere(path: Path, photos: np.ndarray, folder: Path, **environment: str) -> np.ndarray:
    """What OpenVINO gives in a process of its own."""
    np.save(folder / "photos.npy", photos)
    code = (
        "import sys, numpy as np; from polytag.models.runtimes.openvino import OpenvinoModel; "
        "np.save(sys.argv[3], OpenvinoModel(sys.argv[1])(np.load(sys.argv[2]))); "
        "assert not {'keras', 'tensorflow'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code, path, folder / "photos.npy", folder / "result.npy"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "result.npy")


def test_the_engine_runs_without_tensorflow(network, photos, tmp_path) -> None:
    path = write("openvino", network, photos, tmp_path)
    assert np.array_equal(elsewhere(path, photos, tmp_path), OpenvinoModel(path)(photos))


def test_the_first_calls_of_a_process_may_come_at_once(network, photos, tmp_path) -> None:
    path = write("openvino", network, photos, tmp_path)
    code = (
        "import sys, threading, numpy as np; from concurrent.futures import ThreadPoolExecutor; "
        "from polytag.models.runtimes.openvino import OpenvinoModel; "
        f"run = OpenvinoModel(sys.argv[1], calls=8); photo = np.zeros((1, {SIZE}, {SIZE}, 3), np.uint8); "
        "sys.setswitchinterval(1e-6); together = threading.Barrier(8); "
        "print(len(list(ThreadPoolExecutor(8).map(lambda _: (together.wait(), run(photo)), range(8)))))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60)
    assert done.stdout == "8\n", done.stderr


def test_a_cpu_without_int8_instructions_gives_the_same(network, photos, tmp_path) -> None:
    path = write("openvino", network, photos, tmp_path)
    expected = OpenvinoModel(path)(photos)
    got = elsewhere(path, photos, tmp_path, ONEDNN_MAX_CPU_ISA="AVX2")
    assert np.abs(got - expected).max() < 0.01


@pytest.mark.parametrize("content", [b"", b"nonsense" * 100])
def test_a_file_that_is_no_network_is_refused(runtime, quantized, tmp_path, content: bytes) -> None:
    path = tmp_path / quantized.name
    path.write_bytes(content)
    for wrong in (path, tmp_path / "none" / quantized.name):
        with pytest.raises(BundleError, match=f"is not a network that {NAMES[runtime]} can run"):
            RUNTIMES[runtime](wrong)


def test_constant_photos_are_no_reason_to_fail(runtime, network, tmp_path) -> None:
    path = write(runtime, network, np.zeros((1, SIZE, SIZE, 3), np.uint8), tmp_path)
    assert np.isfinite(RUNTIMES[runtime](path)(np.full((1, SIZE, SIZE, 3), 255, np.uint8))).all()


def test_a_network_without_convolutions_is_refused(photos, tmp_path) -> None:
    inputs = layers.Input((SIZE, SIZE, 3), dtype="uint8")
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(inputs))
    assert export_onnx(keras.Model(inputs, layers.Dense(3)(x)), tmp_path / "float.onnx")
    with pytest.raises(ValueError, match="no convolutions"):
        int8_onnx.write_int8(tmp_path / "float.onnx", photos, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_without_openvino_it_is_refused_before_any_work(squares, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    train, validation, _ = squares
    for work in (
        lambda: pt.fit(train, validation, "baseline", int8=True, show_progress=False),
        lambda: pt.compare(train, tmp_path / "run", models=["baseline"], int8=True, show_progress=False),
        lambda: OpenvinoModel(tmp_path / "model.onnx"),
    ):
        with pytest.raises(SettingsError, match=r"needs openvino.*pip install 'polytag\[export\]'"):
            work()
    assert not (tmp_path / "run").exists()


def test_tensorflow_is_a_tested_version(network, photos, tmp_path, monkeypatch) -> None:
    int8_litert.check_tensorflow()
    for version in ("2.19.1", "2.22.0", "3.0.0"):
        monkeypatch.setattr(int8_litert.importlib.metadata, "version", lambda name, version=version: version)
        with pytest.raises(SettingsError, match=rf"litert-int8 needs TensorFlow 2\.20 or 2\.21, not {version}"):
            int8_litert.write_int8(network, photos, tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()

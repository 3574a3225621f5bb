"""Conversion of polytag's own networks from Keras to ONNX."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from polytag.evaluation.calibration import Calibration
from polytag.models.backend import keras
from polytag.models.classical.methods import fit_head
from polytag.models.conversion.keras_to_onnx import UnknownLayerError, write_network
from polytag.models.networks.architectures import cnn, head, transfer, with_head
from polytag.models.networks.calibrated import calibrated
from polytag.models.recipe import CLASSICAL
from polytag.models.runtimes.onnx import OnnxModel, export_onnx

layers = keras.layers
SIZE = 64


def photos_to(make: Callable[[keras.KerasTensor], keras.KerasTensor]) -> keras.Model:
    photo = layers.Input((SIZE, SIZE, 3), dtype="uint8", name="photo")
    return keras.Model(photo, make(photo))


def padded_twice() -> keras.Model:
    return photos_to(
        lambda x: layers.GlobalMaxPooling2D()(
            layers.Conv2D(2, 3)(layers.ZeroPadding2D(1)(layers.ZeroPadding2D(2)(layers.Rescaling(0.1)(x))))
        )
    )


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "baseline": lambda: cnn(3, SIZE),
    "tuned": lambda: cnn(3, SIZE, reduce=2, filters1=8, filters4=0, pooling="average"),
    "four blocks": lambda: cnn(3, SIZE, filters1=4, filters2=4, filters3=4, filters4=4, pooling="max"),
    "an odd reduction": lambda: cnn(3, SIZE + 32, reduce=3, filters1=4, filters2=4, filters3=4),
    "padded twice": padded_twice,
    "nested twice": lambda: with_head(photos_to(lambda x: layers.GlobalAveragePooling2D()(x)), head(3, 2, dense=4)),
    "kernels of three by one, without bias": lambda: photos_to(
        lambda x: layers.Flatten()(
            layers.Conv2D(2, (3, 1), use_bias=False, padding="same", activation="relu6")(layers.Rescaling(0.02)(x))
        )
    ),
    "steps of two": lambda: photos_to(
        lambda x: layers.Flatten()(layers.DepthwiseConv2D(3, 2, padding="same")(layers.Rescaling([1, 2, 3], 0.5)(x)))
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_equals_the_network(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]()
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.weights])
        elif isinstance(layer, layers.Dense):
            layer.set_weights([w + rng.normal(0, 0.01, w.shape) for w in layer.get_weights()])
    write_network(network, tmp_path / "a.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"), full_check=True)
    model = OnnxModel(tmp_path / "a.onnx")
    photos = rng.integers(0, 256, (3, *network.input_shape[1:]), dtype=np.uint8)
    for batch in (photos, photos[:1]):
        expected = keras.ops.convert_to_numpy(network(batch, training=False))
        np.testing.assert_allclose(model(batch), expected, rtol=1e-4, atol=1e-4)
        assert expected.std() > 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_methods_are_converted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(60, 3)).astype(np.float32)
    targets = (embeddings @ rng.normal(size=(3, 4)) > 0).astype(np.int8)
    targets[:, 3] = 1  # a label that never varies
    top, _, _ = fit_head(name, embeddings, targets, embeddings, targets)
    features = photos_to(lambda x: layers.GlobalAveragePooling2D()(layers.Rescaling(0.1, -12.7)(x)))
    network = with_head(features, top)
    curves = Calibration(
        "isotonic", rng.uniform(0.5, 2, 4), rng.normal(size=4), rng.normal(size=(4, 2)), rng.uniform(0, 1, (4, 2))
    )
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    for model in (network, calibrated(network, curves)):
        write_network(model, tmp_path / "a.onnx")
        photos = rng.integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
        expected = keras.ops.convert_to_numpy(model(photos))
        np.testing.assert_allclose(OnnxModel(tmp_path / "a.onnx")(photos), expected, atol=1e-5)


def test_a_missing_tf2onnx_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    network = photos_to(lambda x: layers.Dense(2, activation="softmax")(layers.Flatten()(x)))
    with pytest.warns(UserWarning, match=r"Converting the activation softmax needs tf2onnx.*polytag\[export\]"):
        assert not export_onnx(network, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: transfer(3, SIZE, backbone="MobileNetV3Small"), "hard_silu"),
        (lambda: head(4, 2), "not photos"),
        (lambda: photos_to(lambda x: layers.MaxPooling2D()(layers.ZeroPadding2D(1)(x))), "padded"),
        (lambda: photos_to(layers.ZeroPadding2D(((0, 1), (0, 1)))), "differs between sides"),
        (
            lambda: keras.Model(photo := layers.Input((SIZE, SIZE, 3), dtype="uint8"), layers.ZeroPadding2D()(photo)),
            "at the end",
        ),
        (lambda: photos_to(layers.Conv2D(4, 3, dilation_rate=2)), "a convolution like"),
        (lambda: photos_to(layers.MaxPooling2D(padding="same")), "MaxPooling2D"),
        (lambda: photos_to(lambda x: keras.ops.exp(layers.Rescaling(0.01)(x))), "Exp"),
        (
            lambda: photos_to(lambda x: layers.Rescaling(1.0)(x) * np.ones(3, np.float32)),
            "Multiply with an array as input",
        ),
    ],
)
def test_unknown_layers_are_named(make: Callable[[], keras.Model], message: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownLayerError, match=message):
        write_network(make(), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_unknown_layers_are_left_to_tf2onnx(tmp_path: Path) -> None:
    network = photos_to(lambda x: layers.Dense(2, activation="softmax")(layers.Flatten()(x)))
    with pytest.raises(UnknownLayerError):
        write_network(network, tmp_path / "a.onnx")
    assert export_onnx(network, tmp_path / "a.onnx")
    photos = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    expected = keras.ops.convert_to_numpy(network(photos))
    np.testing.assert_allclose(OnnxModel(tmp_path / "a.onnx")(photos), expected, atol=1e-5)

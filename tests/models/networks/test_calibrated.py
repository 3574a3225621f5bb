"""A calibrated network gives what NumPy computes, wherever it runs, and the network it was made from stays as it is."""

import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from polytag.evaluation.calibration import Calibration
from polytag.models.backend import keras
from polytag.models.networks.architectures import head, with_head
from polytag.models.networks.calibrated import calibrated
from polytag.models.runtimes.onnx import OnnxModel, export_onnx

layers = keras.layers

STRAIGHT = Calibration.straight("platt", np.array([1.3, 0.7, 2.0]), np.array([-0.5, 0.2, 1.0]))
BENT = Calibration(
    "isotonic",
    STRAIGHT.slope,
    STRAIGHT.bias,
    np.array([[-1.0, 0.1], [-0.5, 0.5], [0.0, 0.0]]),
    np.array([[0.5, -0.3], [2.0, -0.1], [0.0, 0.0]]),
)


def photo_features() -> tuple[keras.KerasTensor, keras.KerasTensor]:
    photo = layers.Input((6, 6, 3), dtype="uint8", name="photo")
    return photo, layers.Flatten()(layers.Rescaling(1 / 255)(photo))


def transfer() -> keras.Model:
    """A backbone and a head, as in transfer learning."""
    return with_head(keras.Model(*photo_features(), name="backbone"), head(108, 3, dense=5))


def sequential() -> keras.Model:
    return keras.Sequential([layers.Input((6, 6, 3), dtype="uint8"), layers.Rescaling(1 / 255), layers.Flatten(),
                             layers.Dense(3, activation="sigmoid", use_bias=False)])  # fmt: skip


def ensemble() -> keras.Model:
    """Ends in no sigmoid, but in a layer that has the name of the one to come."""
    photo, features = photo_features()
    softmaxes = [layers.Dense(3, activation="softmax")(features) for _ in range(2)]
    return keras.Model(photo, layers.Average(name="probabilities")(softmaxes))


def sum_of_two() -> keras.Model:
    """Ends in no layer at all."""
    photo, features = photo_features()
    one, two = (layers.Dense(3, activation="softmax")(features) for _ in range(2))
    return keras.Model(photo, (one + two) / 2)


@pytest.mark.parametrize(
    ("network_of", "calibration"),
    [(transfer, STRAIGHT), (transfer, BENT), (sequential, STRAIGHT), (ensemble, BENT), (sum_of_two, STRAIGHT)],
    ids=lambda x: getattr(x, "__name__", None) or x.kind,
)
def test_it_is_calibrated_wherever_it_runs(network_of: Callable, calibration: Calibration, tmp_path) -> None:
    network = network_of()
    photos = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3)).astype(np.uint8)
    raw = network.predict_on_batch(photos)
    expected = calibration(raw)
    assert np.abs(expected - raw).max() > 0.05

    new = calibrated(network, calibration)
    np.testing.assert_allclose(new.predict_on_batch(photos), expected, atol=1e-6)
    new.save(tmp_path / "model.keras")
    assert b"polytag" not in zipfile.ZipFile(tmp_path / "model.keras").read("config.json")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(loaded.predict_on_batch(photos), expected, atol=1e-6)
    assert export_onnx(new, tmp_path / "model.onnx")
    onnx = OnnxModel(tmp_path / "model.onnx")
    for size in (1, 4):
        np.testing.assert_allclose(onnx(photos[:size]), expected[:size], atol=1e-5)

    np.testing.assert_array_equal(network.predict_on_batch(photos), raw)
    assert new.name == network.name


def test_straight_curves_of_a_dense_layer_cost_nothing() -> None:
    network = transfer()
    new = calibrated(network, STRAIGHT)
    assert new.count_params() == network.count_params()
    assert [layer.name for layer in new.layers] == [layer.name for layer in network.layers]
    assert new.get_layer("backbone") is network.get_layer("backbone")
    assert [type(layer) for layer in new.get_layer("head").layers] == [
        type(layer) for layer in network.get_layer("head").layers
    ]


def test_a_calibrated_network_ends_in_a_sigmoid() -> None:
    for network in (transfer().get_layer("head"), ensemble()):
        end = calibrated(network, BENT).layers[-1]
        assert end.name == "probabilities" and end.activation is keras.activations.sigmoid


def test_no_calibration_is_the_network_itself() -> None:
    network = sequential()
    assert calibrated(network, Calibration.straight("none", np.ones(3), np.zeros(3))) is network

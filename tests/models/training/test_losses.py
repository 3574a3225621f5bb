"""The losses: unknown labels cost nothing, known ones what the papers say."""

import numpy as np
import pytest

from polytag.models.backend import keras
from polytag.models.training.losses import LOSSES

TRAINING = np.array([[1, 0], [0, 0], [0, 1], [0, -1]], np.int8)


def loss(name: str, targets, probabilities) -> np.ndarray:
    function = LOSSES[name](TRAINING)
    return keras.ops.convert_to_numpy(function(np.array(targets, np.float32), np.array(probabilities, np.float32)))


def test_bce_is_what_keras_computes_when_all_is_known() -> None:
    rng = np.random.default_rng(0)
    targets, p = (rng.random((6, 2)) < 0.5).astype(np.float32), rng.random((6, 2)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(keras.losses.binary_crossentropy(targets, p))
    np.testing.assert_allclose(loss("bce", targets, p), expected, rtol=1e-5)
    focal = keras.losses.binary_focal_crossentropy(targets, p, gamma=2.0)
    np.testing.assert_allclose(loss("focal", targets, p), keras.ops.convert_to_numpy(focal), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [
        ("bce", -np.log(0.3), -np.log(0.7)),
        ("weighted_bce", -3 * np.log(0.3), -np.log(0.7)),
        ("focal", -(0.7**2) * np.log(0.3), -(0.3**2) * np.log(0.7)),
        ("asymmetric", -np.log(0.3), -(0.25**4) * np.log(0.75)),
    ],
)
def test_a_present_and_an_absent_label_cost_what_the_paper_says(name: str, present: float, absent: float) -> None:
    np.testing.assert_allclose(loss(name, [[1, -1]], [[0.3, 0.3]]), [present / 2], rtol=1e-5)
    np.testing.assert_allclose(loss(name, [[0, -1]], [[0.3, 0.3]]), [absent / 2], rtol=1e-5)


def test_the_second_label_weighs_by_its_own_share() -> None:
    np.testing.assert_allclose(loss("weighted_bce", [[-1, 1]], [[0.3, 0.3]]), [-2 * np.log(0.3) / 2], rtol=1e-5)
    constant = LOSSES["weighted_bce"](np.ones((3, 1), np.int8))(np.ones((1, 1), np.float32), np.full((1, 1), 0.5, "f"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(constant), [np.log(2)], rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_unknown_labels_cost_nothing_and_certainty_stays_finite(name: str) -> None:
    assert loss(name, [[-1, -1]], [[0.9, 0.1]])[0] == 0
    assert loss(name, [[1, -1]], [[0.5, 0.01]])[0] == loss(name, [[1, -1]], [[0.5, 0.99]])[0]
    assert np.isfinite(loss(name, [[1, 0]], [[0, 1]])).all()


@pytest.mark.parametrize("name", LOSSES)
def test_training_ignores_unknown_labels(name: str) -> None:
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((8, 3)).astype(np.float32)
    targets = np.tile(np.array([[1, -1]], np.float32), (8, 1))
    layer = keras.layers.Dense(2, activation="sigmoid")
    model = keras.Sequential([keras.Input((3,)), layer])
    before = layer.get_weights()[0].copy()
    model.compile(keras.optimizers.SGD(1.0), LOSSES[name](TRAINING))
    model.fit(x, targets, epochs=3, verbose=0)
    after = layer.get_weights()[0]
    np.testing.assert_array_equal(after[:, 1], before[:, 1])
    assert np.isfinite(after).all() and (after[:, 0] != before[:, 0]).any()

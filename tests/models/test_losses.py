"""The masked loss: unknown labels cost nothing, known ones what binary cross-entropy says."""

import numpy as np

from polytag.models.backend import keras
from polytag.models.losses import masked_binary_crossentropy


def loss(targets, probabilities) -> np.ndarray:
    return keras.ops.convert_to_numpy(
        masked_binary_crossentropy(np.array(targets, np.float32), np.array(probabilities, np.float32))
    )


def test_equals_binary_crossentropy_when_all_is_known() -> None:
    rng = np.random.default_rng(0)
    targets, p = (rng.random((6, 4)) < 0.5).astype(np.float32), rng.random((6, 4)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(keras.losses.binary_crossentropy(targets, p))
    np.testing.assert_allclose(loss(targets, p), expected, rtol=1e-5)


def test_unknown_labels_cost_nothing() -> None:
    assert loss([[-1, -1]], [[0.9, 0.1]])[0] == 0
    np.testing.assert_allclose(loss([[1, -1]], [[0.5, 0.01]]), [np.log(2) / 2], rtol=1e-5)
    assert loss([[1, -1]], [[0.5, 0.01]])[0] == loss([[1, -1]], [[0.5, 0.99]])[0]


def test_certainty_stays_finite() -> None:
    assert np.isfinite(loss([[1, 0]], [[0, 1]])).all()


def test_training_ignores_unknown_labels() -> None:
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((8, 3)).astype(np.float32)
    targets = np.tile(np.array([[1, -1]], np.float32), (8, 1))
    layer = keras.layers.Dense(2, activation="sigmoid")
    model = keras.Sequential([keras.Input((3,)), layer])
    before = layer.get_weights()[0].copy()
    model.compile(keras.optimizers.SGD(1.0), masked_binary_crossentropy)
    model.fit(x, targets, epochs=3, verbose=0)
    after = layer.get_weights()[0]
    np.testing.assert_array_equal(after[:, 1], before[:, 1])
    assert (after[:, 0] != before[:, 0]).any()

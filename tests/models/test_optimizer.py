"""The optimizer: as Keras' own, whatever it is made of."""

import numpy as np
import pytest

from polytag.models.backend import keras
from polytag.models.optimizer import Adam

RATES = keras.optimizers.schedules.CosineDecay(1e-2, 30)


def trained(optimizer: keras.optimizers.Optimizer) -> list[np.ndarray]:
    """The weights of a small network after 30 steps."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.layers.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(2, activation="sigmoid"),
        ]
    )
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(48, 6)).astype("float32"), (rng.random((48, 2)) < 0.5).astype("float32")
    network.compile(optimizer, "binary_crossentropy")
    network.fit(features, targets, batch_size=16, epochs=10, verbose=0, shuffle=False)
    return network.get_weights()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("rate", [1e-2, RATES])
def test_it_steps_as_keras_does(rate, decay: float) -> None:
    expected = trained(keras.optimizers.AdamW(rate, weight_decay=decay))
    for one, other in zip(trained(Adam(rate, weight_decay=decay)), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_it_averages_weights_and_excludes_some_from_decay_as_keras_does() -> None:
    options = {"use_ema": True, "ema_momentum": 0.9, "weight_decay": 0.1}
    both = Adam(1e-2, **options), keras.optimizers.AdamW(1e-2, **options)
    for optimizer in both:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    one, other = map(trained, both)
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_each_variable_has_its_own_rate() -> None:
    start = trained(Adam(0.0))
    plain = trained(Adam(1e-2))
    factored = trained(Adam(1e-2, factors=[0, 1, 1, 0]))
    for i, held in enumerate((True, False, False, True)):
        assert (factored[i] == start[i]).all() == held
        assert not (plain[i] == start[i]).all()
    for ours, half in zip(trained(Adam(1e-2, factors=[0.5] * 4)), trained(Adam(5e-3)), strict=True):
        np.testing.assert_allclose(ours, half, atol=1e-5)

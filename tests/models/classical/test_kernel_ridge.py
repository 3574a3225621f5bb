"""Kernel ridge regression: it learns what no linear model can, and as a network it is the same."""

import numpy as np
import pytest
from scipy.special import expit, logit

from polytag.evaluation.metrics import scores
from polytag.models.classical import kernel_ridge
from polytag.models.classical.kernel_ridge import averaged, fit_kernel_ridge
from polytag.models.networks.architectures import head


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings, and three labels. The last one is present where two numbers have the same sign."""
    x = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    return x, np.stack([x[:, 0] > 0.5, x[:, 1] > -0.5, x[:, 2] * x[:, 3] > 0], axis=1).astype(np.int8)


TRAIN, VALIDATION, TEST = drawn(400, 0), drawn(150, 1), drawn(200, 2)


def score(predicted: np.ndarray) -> float:
    return scores(TEST[1], expit(predicted).astype(np.float32))["mean_average_precision"]


@pytest.mark.parametrize("landmarks", [2000, 150])
def test_it_learns_labels_that_are_not_linear(monkeypatch, landmarks: int) -> None:
    monkeypatch.setattr(kernel_ridge, "LANDMARKS", landmarks)
    fitted = fit_kernel_ridge(*TRAIN, *VALIDATION)
    assert len(fitted.landmarks) == min(landmarks, 400)
    assert score(fitted.logits(TEST[0])) > 0.85
    probabilities = expit(fitted.logits(TEST[0]))
    np.testing.assert_allclose(probabilities.mean(axis=0), TEST[1].mean(axis=0), atol=0.1)


def test_unknown_entries_do_not_count_as_absent() -> None:
    targets = TRAIN[1].copy()
    targets[:200, 0] = -1
    fitted = fit_kernel_ridge(TRAIN[0], targets, *VALIDATION)
    np.testing.assert_allclose(fitted.share[0], (TRAIN[1][200:, 0] == 1).mean())


@pytest.mark.parametrize("dense", [0, 16])
def test_the_average_with_a_head_is_one_network(dense: int) -> None:
    fitted, top = fit_kernel_ridge(*TRAIN, *VALIDATION), head(6, 3, dense=dense)
    probabilities = top.predict(TEST[0], verbose=0).astype(np.float64)
    expected = expit((logit(probabilities) + fitted.logits(TEST[0])) / 2)
    network = averaged(top, fitted)
    np.testing.assert_allclose(network.predict(TEST[0], verbose=0), expected, atol=1e-5)
    assert network.layers[-1].activation.__name__ == "sigmoid"

"""The calibration error is that of the probabilities, without the noise of few photos."""

import numpy as np
import pytest

from polytag.evaluation.reliability import calibration_error, reliability_bins


def drawn(n: int, k: int, seed: int, off: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Targets and probabilities; these are too high by ``off`` on odd labels and too low on even ones."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.2, 0.8, (n, k))
    signs = np.where(np.arange(k) % 2, 1, -1)
    return (rng.random((n, k)) < truth).astype(np.int8), (truth + off * signs).astype(np.float32)


def test_perfect_probabilities_have_none_on_average() -> None:
    errors = [calibration_error(*drawn(100, 4, seed), np.arange(100)) for seed in range(40)]
    assert np.mean(np.square(errors)) < 0.003
    assert np.median(errors) < 0.03


def test_errors_of_labels_do_not_cancel() -> None:
    assert calibration_error(*drawn(5000, 4, 0, off=0.15), np.arange(5000)) == pytest.approx(0.15, abs=0.02)


def test_copies_are_one_piece_of_evidence() -> None:
    targets, p = (np.repeat(array, 10, axis=0) for array in drawn(100, 4, 3))
    together = calibration_error(targets, p, np.repeat(np.arange(100), 10))
    assert together < 0.06 < calibration_error(targets, p, np.arange(1000))


def test_unknown_labels_have_no_influence() -> None:
    targets, p = drawn(50, 3, 0)
    targets[:20, 1] = -1
    other = np.where(targets < 0, 0.99, p).astype(np.float32)
    assert calibration_error(targets, p, np.arange(50)) == calibration_error(targets, other, np.arange(50))
    assert np.isnan(calibration_error(np.full((3, 1), -1, np.int8), p[:3, :1], np.arange(3)))


def test_bins_by_hand() -> None:
    targets = np.array([[1, 0], [0, -1]], np.int8)
    p = np.array([[0.95, 0.1], [0.97, 0.5]], np.float32)
    mean, share, count = reliability_bins(targets, p)
    assert mean == pytest.approx([0.1, 0.96]) and share == pytest.approx([0, 0.5])
    np.testing.assert_array_equal(count, [1, 2])

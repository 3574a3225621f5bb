"""The score that chooses between epochs, trials and models."""

import numpy as np
import pytest

from polytag.evaluation.metrics import average_precisions, precisions_at_positives, scores
from polytag.evaluation.selection import FULL_SUPPORT, paired_difference, selection_score


def drawn(seed: int, n: int, shares) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, len(shares))) < np.array(shares)).astype(np.int8)
    return targets, (0.3 * targets + 0.7 * rng.random(targets.shape)).astype(np.float32)


def test_it_equals_map_if_every_label_has_enough_photos() -> None:
    targets, p = drawn(0, 200, [0.2, 0.4, 0.6])
    assert (targets.sum(axis=0) >= FULL_SUPPORT).all()
    assert selection_score(targets, p) == pytest.approx(scores(targets, p)["mean_average_precision"])


def test_a_label_with_one_photo_counts_a_tenth_of_a_frequent_one() -> None:
    targets, p = drawn(1, 100, [0.0, 0.3, 0.0])
    targets[7, 0] = 1
    rare, frequent, _ = average_precisions(targets, p)
    assert selection_score(targets, p) == pytest.approx((rare + 10 * frequent) / 11)


def test_without_labels_or_with_infinite_predictions_it_is_zero() -> None:
    targets, p = drawn(2, 20, [0.5, 0.5])
    assert selection_score(np.zeros_like(targets), p) == 0
    p[3, 1] = np.nan
    assert selection_score(targets, p) == 0


def test_average_precision_is_the_mean_of_the_precisions_at_positives() -> None:
    targets, p = drawn(3, 60, [0.3, 0.5])
    targets[::7, 0], p = -1, p.round(1)  # unknown labels and ties
    found = precisions_at_positives(targets, p)
    assert (found[targets != 1] == 0).all() and (found[targets == 1] > 0).all()
    for j in range(2):
        assert found[targets[:, j] == 1, j].mean() == pytest.approx(average_precisions(targets, p)[j])


def test_the_paired_difference_is_that_of_the_scores() -> None:
    targets, a = drawn(4, 90, [0.02, 0.1, 0.5])
    b = drawn(5, 90, [0.02, 0.1, 0.5])[1]
    lead, error = paired_difference(targets, a, b, np.arange(90))
    assert lead == pytest.approx(selection_score(targets, a) - selection_score(targets, b))
    assert paired_difference(targets, b, a, np.arange(90)) == pytest.approx((-lead, error))
    b[0, 0] = np.nan
    assert paired_difference(targets, a, b, np.arange(90))[0] == pytest.approx(selection_score(targets, a))


def test_copies_of_photos_do_not_lower_the_standard_error() -> None:
    targets, a = drawn(6, 80, [0.3, 0.5])
    b = np.roll(a, 1, axis=0)
    photo, copies = np.arange(80), [np.repeat(x, 5, axis=0) for x in (targets, a, b, np.arange(80))]
    assert paired_difference(*copies)[1] == pytest.approx(paired_difference(targets, a, b, photo)[1], rel=0.25)
    assert paired_difference(targets, a, b, np.zeros(80, int))[1] == np.inf

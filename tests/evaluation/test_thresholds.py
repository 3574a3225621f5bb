"""Thresholds maximise F1 on validation data and do not overfit rare labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from polytag.evaluation.thresholds import best_f1_threshold, choose_thresholds


@given(st.integers(0, 10_000), st.integers(2, 40), st.booleans())
@settings(deadline=None, max_examples=60)
def test_no_other_threshold_has_a_better_f1(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    present = rng.random(n) < 0.4
    present[0] = True
    p = rng.random(n).astype(np.float32)
    if ties:
        p = np.clip(np.round(p, 1), 0.05, 0.95)  # a sigmoid never gives 0 or 1
    best = f1_score(present, p >= best_f1_threshold(present, p))
    for threshold in np.unique(p):
        assert best >= f1_score(present, p >= threshold) - 1e-9


def test_separable_labels_are_cut_between_the_two_sides() -> None:
    p = np.array([0.1, 0.2, 0.6, 0.8], np.float32)
    assert best_f1_threshold(p > 0.5, p) == pytest.approx(0.4)


def test_without_positives_it_is_a_half() -> None:
    assert best_f1_threshold(np.zeros(3, bool), np.array([0.1, 0.9, 0.4])) == 0.5
    np.testing.assert_array_equal(choose_thresholds(np.zeros((3, 2), np.int8), np.full((3, 2), 0.3)), [0.5, 0.5])


def test_a_rare_label_stays_near_the_common_threshold() -> None:
    rng = np.random.default_rng(0)
    targets = np.zeros((400, 2), np.int8)
    targets[:200, 0] = 1
    targets[0, 1] = 1
    p = np.where(targets == 1, rng.uniform(0.5, 1, targets.shape), rng.uniform(0, 0.4, targets.shape))
    p[0, 1] = 0.05  # the only photo with the rare label got a low probability: luck, not a rule
    common, rare = choose_thresholds(targets, p.astype(np.float32))
    assert 0.35 < common < 0.55
    assert rare > 0.3


def test_unknown_labels_do_not_move_thresholds() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(-1, 2, (60, 3)).astype(np.int8)
    p = rng.random((60, 3)).astype(np.float32)
    other = np.where(targets < 0, 1 - p, p)
    np.testing.assert_array_equal(choose_thresholds(targets, p), choose_thresholds(targets, other))

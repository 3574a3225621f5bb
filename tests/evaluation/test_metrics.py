"""Scores agree with scikit-learn, with hand-computed cases, and leave unknown labels out."""

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag.evaluation.metrics import argmax_accuracy, average_precisions, label_scores, photo_f1, scores


def one(targets, probabilities, thresholds=0.5, judged=None) -> dict[str, float]:
    return scores(np.array(targets, np.int8), np.array(probabilities, np.float32), thresholds, judged)


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 8), st.booleans())
@settings(deadline=None, max_examples=60)
def test_agrees_with_scikit_learn(seed: int, n: int, k: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, k)) < 0.4).astype(np.int8)
    targets[0], targets[1] = 1, 0  # every label is both present and absent somewhere
    probabilities = rng.random((n, k)).astype(np.float32)
    if ties:
        probabilities = np.round(probabilities, 1)
    given_labels = probabilities >= 0.5
    got = one(targets, probabilities)
    assert got["samples_f1"] == pytest.approx(sk.f1_score(targets, given_labels, average="samples", zero_division=1.0))
    assert got["subset_accuracy"] == pytest.approx(sk.accuracy_score(targets, given_labels))
    assert got["hamming_loss"] == pytest.approx(sk.hamming_loss(targets, given_labels))
    assert got["label_accuracy"] == pytest.approx(1 - got["hamming_loss"])
    assert got["micro_f1"] == pytest.approx(sk.f1_score(targets, given_labels, average="micro"))
    assert got["macro_f1"] == pytest.approx(sk.f1_score(targets, given_labels, average="macro", zero_division=np.nan))
    assert got["mean_average_precision"] == pytest.approx(sk.average_precision_score(targets, probabilities))
    assert got["label_ranking_average_precision"] == pytest.approx(
        sk.label_ranking_average_precision_score(targets, probabilities)
    )
    assert got["coverage_error"] == pytest.approx(sk.coverage_error(targets, probabilities))
    assert got["label_ranking_loss"] == pytest.approx(sk.label_ranking_loss(targets, probabilities))
    by_label = label_scores(targets, probabilities)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(targets, given_labels, zero_division=np.nan)
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        np.testing.assert_allclose(by_label[name], expected, err_msg=name)


def test_hand_computed() -> None:
    targets = [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    probabilities = [[0.9, 0.6, 0.2], [0.1, 0.8, 0.3], [0.4, 0.2, 0.1]]
    got = one(targets, probabilities)
    # Photo 1: one of two found, one wrong: F1 = 2·1/(2+2) = 1/2; photo 2: 1; photo 3: nothing to find, 1.
    assert got["samples_f1"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert got["subset_accuracy"] == pytest.approx(2 / 3)
    assert got["hamming_loss"] == pytest.approx(2 / 9)
    # Label 1: AP 1; label 2: its photo is first, AP 1; label 3: its photo is second, AP 1/2.
    assert got["mean_average_precision"] == pytest.approx(2.5 / 3)
    # Photo 1 needs all three labels to be covered, photo 2 one, photo 3 none.
    assert got["coverage_error"] == pytest.approx(4 / 3)
    # Photo 1: of the pairs (1 over 2), (3 over 2) one is wrong.
    assert got["label_ranking_loss"] == pytest.approx(0.5 / 3)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_unknown_labels_have_no_influence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.integers(-1, 2, (30, 5)).astype(np.int8)
    probabilities = rng.random((30, 5)).astype(np.float32)
    other = np.where(targets < 0, rng.random((30, 5)), probabilities).astype(np.float32)
    before, after = one(targets, probabilities), one(targets, other)
    assert before == pytest.approx(after, nan_ok=True)


def test_unknown_by_hand() -> None:
    # The unknown label of photo 1 would be wrong either way; what is left is right.
    got = one([[1, -1], [0, 1]], [[0.9, 0.9], [0.1, 0.9]])
    assert got["samples_f1"] == got["subset_accuracy"] == got["label_accuracy"] == 1
    assert got["mean_average_precision"] == 1
    assert got["hamming_loss"] == 0


def test_a_photo_of_which_nothing_is_known_counts_for_nothing() -> None:
    rest = one([[1, 0], [0, 1]], [[0.1, 0.9], [0.2, 0.8]])
    with_it = one([[1, 0], [-1, -1], [0, 1]], [[0.1, 0.9], [0.7, 0.7], [0.2, 0.8]])
    assert with_it == pytest.approx(rest)


def test_a_whole_label_unknown_is_left_out() -> None:
    known = one([[1], [0]], [[0.9], [0.6]])
    both = one([[1, -1], [0, -1]], [[0.9, 0.3], [0.6, 0.9]])
    for name in ("mean_average_precision", "macro_f1", "label_accuracy", "samples_f1", "micro_f1"):
        assert both[name] == pytest.approx(known[name]), name


def test_labels_that_are_not_judged_do_not_count_in_macro_scores() -> None:
    rng = np.random.default_rng(0)
    targets, p = (rng.random((50, 4)) < 0.4).astype(np.int8), rng.random((50, 4)).astype(np.float32)
    judged = np.array([True, False, True, False])
    some, rest = scores(targets, p, 0.5, judged), scores(targets[:, judged], p[:, judged], 0.5)
    for name in ("macro_f1", "mean_average_precision"):
        assert some[name] == pytest.approx(rest[name])
    assert some["samples_f1"] == scores(targets, p, 0.5)["samples_f1"]
    assert np.isnan(scores(targets, p, 0.5, np.zeros(4, bool))["mean_average_precision"])


def test_samples_f1_is_the_mean_over_photos() -> None:
    rng = np.random.default_rng(0)
    targets, p = rng.integers(-1, 2, (50, 4)).astype(np.int8), rng.random((50, 4)).astype(np.float32)
    targets[7] = -1
    f1 = photo_f1(targets, p, 0.4)
    assert np.isnan(f1[7])
    assert np.nanmean(f1) == pytest.approx(scores(targets, p, 0.4)["samples_f1"])


def test_average_precision_does_not_depend_on_the_order_of_ties() -> None:
    targets = np.array([[1], [0], [0], [1]], np.int8)
    p = np.full((4, 1), 0.5, np.float32)
    assert average_precisions(targets, p)[0] == average_precisions(targets[::-1], p)[0] == pytest.approx(0.5)
    assert np.isnan(average_precisions(np.zeros((4, 1), np.int8), p)[0])


def test_thresholds_are_per_label_and_inclusive() -> None:
    targets, probabilities = [[1, 0]], [[0.3, 0.6]]
    assert one(targets, probabilities, [0.3, 0.7])["subset_accuracy"] == 1
    assert one(targets, probabilities, 0.5)["subset_accuracy"] == 0


def test_argmax_accuracy_is_what_keras_computes() -> None:
    keras = pytest.importorskip("keras")
    rng = np.random.default_rng(3)
    targets = (rng.random((200, 6)) < 0.3).astype(np.int8)
    probabilities = rng.random((200, 6)).astype(np.float32)
    metric = keras.metrics.CategoricalAccuracy()
    metric.update_state(targets, probabilities)
    assert argmax_accuracy(targets, probabilities) == pytest.approx(float(metric.result()))

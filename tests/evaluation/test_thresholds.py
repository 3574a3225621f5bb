"""Thresholds serve their objective and do not overfit rare labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import f1_score

from polytag.errors import SettingsError
from polytag.evaluation.metrics import label_scores, scores
from polytag.evaluation.objectives import aim
from polytag.evaluation.thresholds import best_f1_threshold, choose_thresholds, out_of_reach


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


def confident(n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets int8 (n, k) and honest probabilities float32 (n, k) that tell them apart fairly well."""
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(-1.5, 2.5, (n, k))).astype(np.float32)
    return (rng.random((n, k)) < p).astype(np.int8), p


@pytest.mark.parametrize("objective", ["f1", "subset", "precision=0.9", "recall=0.9", "fnr=0.1"])
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), extreme=st.booleans())
@settings(deadline=None, max_examples=25)
def test_thresholds_lie_between_0_and_1(objective: str, seed: int, n: int, extreme: bool) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.integers(-1, 2, (n, 3)).astype(np.int8)
    p = rng.random((n, 3)).astype(np.float32)
    thresholds = choose_thresholds(targets, p.round() if extreme else p, objective)
    assert thresholds.dtype == np.float32
    assert ((thresholds > 0) & (thresholds < 1)).all()
    np.testing.assert_array_equal(thresholds, choose_thresholds(targets, p.round() if extreme else p, objective))


def test_one_photo_moves_a_rare_labels_threshold_little() -> None:
    targets, p = confident(400, 3)
    targets[:, 2] = 0
    p[:, 2] = np.random.default_rng(1).uniform(0, 0.1, 400)
    moved = []
    for place in (0.02, 0.09):
        targets[0, 2], p[0, 2] = 1, place
        moved.append(choose_thresholds(targets, p)[2])
    assert abs(moved[0] - moved[1]) < 0.02
    assert abs(best_f1_threshold(targets[:, 2] == 1, p[:, 2]) - moved[1]) > 0.02


def test_each_objective_does_what_it_says() -> None:
    targets, p = confident(3000, 4)
    new_targets, new_p = confident(3000, 4, seed=1)

    def judged(objective: str, what: str) -> float:
        thresholds = choose_thresholds(targets, p, objective)
        if what in ("precision", "recall"):
            return float(np.mean(label_scores(new_targets, new_p, thresholds)[what]))
        return float(scores(new_targets, new_p, thresholds)[what])

    assert judged("precision=0.9", "precision") == pytest.approx(0.91, abs=0.03)
    assert judged("recall=0.9", "recall") == pytest.approx(0.9, abs=0.03)
    assert judged("precision=0.7", "recall") > judged("precision=0.9", "recall")
    assert judged("recall=0.7", "precision") > judged("recall=0.9", "precision")
    assert judged("f1", "macro_f1") > judged("subset", "macro_f1")
    assert judged("subset", "subset_accuracy") > judged("f1", "subset_accuracy") + 0.01


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_subset_is_never_worse_than_f1_on_validation(seed: int) -> None:
    targets, p = confident(80, 4, seed)
    targets[np.random.default_rng(seed).random(targets.shape) < 0.1] = -1
    f1, subset = (
        scores(targets, p, choose_thresholds(targets, p, objective))["subset_accuracy"]
        for objective in ("f1", "subset")
    )
    assert subset >= f1


def test_precision_is_the_lowest_cut_that_reaches_it() -> None:
    p = np.linspace(0.01, 0.99, 99, dtype=np.float32)[:, None]
    targets = (p > 0.5).astype(np.int8)
    cut = choose_thresholds(np.tile(targets, (100, 1)), np.tile(p, (100, 1)), "precision=0.9")[0]
    given_now, given_then = p >= cut, p >= cut - 0.03
    assert targets[given_now].mean() >= 0.9 > targets[given_then].mean() - 0.02


def test_precision_needs_evidence() -> None:
    """Ten right photos do not show a precision of 0.9; a hundred do."""
    p = np.array([[0.8]] * 10 + [[0.05]] * 90, np.float32)
    targets = (p > 0.5).astype(np.int8)
    assert out_of_reach(targets, p, "precision=0.9")[0]
    assert not out_of_reach(np.tile(targets, (10, 1)), np.tile(p, (10, 1)), "precision=0.9")[0]


def test_precision_is_reached_on_new_photos() -> None:
    reached, new = [], confident(20_000, 6, seed=99)
    for seed in range(30):
        targets, p = confident(300, 6, seed)
        usable = ~out_of_reach(targets, p, "precision=0.9")
        precision = label_scores(*new, choose_thresholds(targets, p, "precision=0.9"))["precision"]
        reached += precision[usable].tolist()
    assert len(reached) > 100 and np.mean(np.array(reached) >= 0.9) >= 0.85


def missed_share(targets: np.ndarray, p: np.ndarray, threshold: float) -> float:
    """Mean share of a photo's labels that are missed, over photos with any."""
    rows = (targets == 1).any(axis=1)
    missed = ((targets == 1) & (p < threshold)).sum(axis=1)[rows] / (targets == 1).sum(axis=1)[rows]
    return float(missed.mean())


def test_the_share_of_missed_labels_is_controlled() -> None:
    shares, new = [], confident(20_000, 6, seed=99)
    for seed in range(60):
        thresholds = choose_thresholds(*confident(60, 6, seed), "fnr=0.1")
        assert len(set(thresholds)) == 1
        shares.append(missed_share(*new, thresholds[0]))
    assert 0.07 < np.mean(shares) <= 0.102


def test_few_photos_cannot_control_the_risk() -> None:
    targets, p = np.ones((8, 2), np.int8), np.full((8, 2), 0.9, np.float32)
    assert out_of_reach(targets, p, "fnr=0.1").all() and choose_thresholds(targets, p, "fnr=0.1")[0] < 1e-5
    enough = np.tile(targets, (2, 1)), np.tile(p, (2, 1))
    assert not out_of_reach(*enough, "fnr=0.1").any()
    assert out_of_reach(*enough, "fnr=0.1", np.arange(16) // 4).all(), "copies are not more photos"
    assert "too few validation photos" in aim("fnr=0.1", ["a", "b"])


def test_labels_out_of_reach_are_named() -> None:
    targets, p = confident(500, 3)
    p[:, 1] = np.random.default_rng(0).uniform(0.2, 0.4, 500)
    targets[:, 1] = np.random.default_rng(1).random(500) < 0.3
    targets[:, 2] = 0
    np.testing.assert_array_equal(out_of_reach(targets, p, "precision=0.9")[:2], [False, True])
    np.testing.assert_array_equal(out_of_reach(targets, p, "recall=0.9"), [False, False, True])
    assert not out_of_reach(targets, p, "f1").any() and not out_of_reach(targets, p, "subset").any()
    assert "except for cat, where too few validation photos confirm it" in aim("precision=0.9", ["cat"])
    assert "a recall of 0.75" in aim("recall=0.75") and "except" not in aim("recall=0.75")


@pytest.mark.parametrize(
    "objective",
    ["", "F1", "f1=0.5", "precision", "precision=", "precision=1", "recall=x", "recall=nan", "fnr", "fnr=0"],
)
def test_other_objectives_are_refused(objective: str) -> None:
    with pytest.raises(SettingsError, match=r"f1, subset, precision=0\.9, recall=0\.9 or fnr=0\.1"):
        choose_thresholds(np.ones((2, 1), np.int8), np.ones((2, 1), np.float32), objective)


def test_a_label_of_which_nothing_is_known_takes_the_common_cut() -> None:
    targets, p = confident(300, 3)
    targets[:, 1] = -1
    known = targets >= 0
    common = best_f1_threshold(targets[known] == 1, p[known])
    assert choose_thresholds(targets, p)[1] == pytest.approx(common)

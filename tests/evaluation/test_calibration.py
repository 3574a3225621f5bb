"""Calibration repairs what is wrong with probabilities, keeps their order, and stays out of the way otherwise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from polytag.evaluation import calibration as module
from polytag.evaluation.calibration import KINDS, choose_calibration, isotonic, log_losses, logits_of, platt
from polytag.evaluation.reliability import calibration_error, in_words


def honest(n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets int8 (n, k) and the logits float64 (n, k) that they were drawn by."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, (n, k))
    return (rng.random((n, k)) < expit(logits)).astype(np.int8), logits


def chosen(targets, logits, groups=None, seed=0):
    return choose_calibration(
        targets, expit(logits).astype(np.float32), np.arange(len(targets)) if groups is None else groups, seed
    )


def test_a_planted_slope_and_bias_are_recovered() -> None:
    targets, logits = honest(6000, 3)
    slope, bias = np.array([0.5, 1.0, 2.0]), np.array([1.0, 0.0, -1.0])
    found = platt(targets, (logits - bias) / slope)
    np.testing.assert_allclose(found.slope, slope, rtol=0.15)
    np.testing.assert_allclose(found.bias, bias, atol=0.25)


def test_an_overconfident_network_gets_one_temperature() -> None:
    targets, logits = honest(3000, 4)
    found, losses = chosen(targets, 2 * logits)
    assert found.kind == "temperature"
    np.testing.assert_allclose(found.slope, 0.5, rtol=0.05)
    assert losses["temperature"] == pytest.approx(log_losses(targets, logits).mean(), abs=0.003)
    assert losses["none"] > losses["temperature"] + 0.05


def test_a_bend_is_repaired() -> None:
    """A network that is honest about what it doubts and overconfident where it is sure."""
    targets, logits = honest(6000, 3)
    found, losses = chosen(targets, logits + 2 * np.maximum(logits - 1, 0) + 2 * np.minimum(logits + 1, 0))
    assert found.kind == "isotonic" and losses["isotonic"] < losses["platt"]
    repaired = found(expit(logits + 2 * np.maximum(logits - 1, 0) + 2 * np.minimum(logits + 1, 0)).astype(np.float32))
    photos = np.arange(len(targets))
    before = calibration_error(targets, expit(3 * logits).astype(np.float32), photos)
    assert calibration_error(targets, repaired, photos) < 0.03 < before


def test_honest_probabilities_stay_as_they_are() -> None:
    kinds = []
    for seed in range(3):
        targets, logits = honest(400, 3, seed)
        p = expit(logits).astype(np.float32)
        found, losses = chosen(targets, logits)
        assert losses["none"] == pytest.approx(log_losses(targets, logits_of(p)).mean())
        kinds.append(found.kind)
        if found.kind == "none":
            np.testing.assert_array_equal(found(p), p)
        # Each kind may only do the little harm of its few parameters.
        assert max(losses.values()) < losses["none"] + 0.01
    assert kinds.count("none") >= 2, kinds


def test_few_photos_are_left_alone() -> None:
    targets, logits = honest(9, 2)
    found, losses = chosen(targets, 5 * logits)
    assert found.kind == "none" and losses == {}
    assert "too few" in in_words(found.kind, losses)


@given(st.integers(0, 10_000), st.sampled_from(list(KINDS)), st.integers(2, 60), st.booleans())
@settings(deadline=None, max_examples=60)
def test_the_order_of_a_labels_photos_is_kept(seed: int, kind: str, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.integers(-1, 2, (n, 3)).astype(np.int8)
    logits = rng.normal(0, 2, (n, 3)).round(0 if ties else 6) * rng.choice([-1, 1, 3])
    found = KINDS[kind](targets, logits)
    calibrated = found.curve(logits)
    assert np.isfinite(calibrated).all()
    for x, y in zip(logits.T, calibrated.T, strict=True):
        order = np.argsort(x)
        rises = np.diff(x[order]) > 0
        assert (np.diff(y[order])[rises] > 0).all()
        assert np.diff(y[order])[~rises] == pytest.approx(0, abs=1e-9)


def test_a_rare_label_takes_the_common_curve() -> None:
    targets, logits = honest(1500, 5)
    targets[:, 4] = 0
    targets[:2, 4] = 1
    logits[:, 4] = np.random.default_rng(0).normal(-8, 0.5, 1500)
    logits[:2, 4] = 0  # two photos that would part the label from all others: a slope without end
    found = platt(targets, logits)
    assert found.slope[4] == pytest.approx(found.slope[:4].mean(), rel=0.35)


def test_labels_that_teach_nothing_take_the_common_curve() -> None:
    targets, logits = honest(2000, 6)
    logits *= 2
    targets[:, 3], targets[:, 4], targets[:, 5] = -1, np.where(np.arange(2000) < 5, 0, -1), 1
    targets[8:, 5] = -1
    found = platt(targets, logits)
    np.testing.assert_allclose(found.slope[3:], 0.5, rtol=0.3)
    for kind, fit in KINDS.items():
        assert np.isfinite(fit(targets, logits).curve(logits)).all(), kind
    assert np.isfinite(list(chosen(targets, logits)[1].values())).all()


@pytest.mark.parametrize("value", [-1, 0, 1])
def test_targets_of_one_kind(value: int) -> None:
    targets = np.full((40, 2), value, np.int8)
    p = np.random.default_rng(0).random((40, 2)).astype(np.float32)
    found, losses = choose_calibration(targets, p, np.arange(40))
    assert ((found(p) > 0) & (found(p) < 1)).all()
    assert (losses == {}) == (value == -1)


def test_probabilities_of_0_and_1_are_finite() -> None:
    targets, logits = honest(200, 2)
    p = (logits > 0).astype(np.float32)
    found, losses = choose_calibration(targets, p, np.arange(200))
    assert found.kind != "none" and np.isfinite(found(p)).all() and losses["none"] > 2


def test_unknown_entries_teach_nothing() -> None:
    targets, logits = honest(300, 3)
    targets[np.random.default_rng(1).random(targets.shape) < 0.3] = -1
    other = np.where(targets < 0, -logits, logits)
    for kind, fit in KINDS.items():
        np.testing.assert_allclose(fit(targets, logits).curve(logits), fit(targets, other).curve(logits), err_msg=kind)
    assert chosen(targets, logits)[1] == chosen(targets, other)[1]


def test_photos_of_a_group_are_in_the_same_fold(monkeypatch) -> None:
    targets, logits = honest(120, 2)
    groups = np.repeat(np.arange(40), 3)
    # A network that has learned nothing but the groups: each of them has its own logit.
    logits = np.repeat(np.arange(40) / 7.0, 3)[:, None] * [1, -1]
    seen = []

    def spy(targets, logits):
        seen.append(set(logits[:, 0].round(3)))
        return KINDS["temperature"](targets, logits)

    monkeypatch.setattr(module, "KINDS", {"none": KINDS["none"], "platt": spy})
    chosen(targets, logits, groups)
    everything = set(logits_of(expit(logits).astype(np.float32))[:, 0].round(3))
    assert len(seen) >= 5
    # A group is a logit here: with all of its photos it is either fitted or held out, and each is held out once.
    held_out = [everything - fitted for fitted in seen[:5]]
    assert sorted(x for fold in held_out for x in fold) == sorted(everything)


def test_the_same_seed_gives_the_same_calibration() -> None:
    targets, logits = honest(300, 3)
    (a, losses_a), (b, losses_b), (_, losses_c) = (chosen(targets, 2 * logits, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(a.curve(logits), b.curve(logits))
    assert losses_a == losses_b != losses_c


def test_an_isotonic_curve_follows_platts_where_photos_are_few() -> None:
    targets, logits = honest(30, 2)
    np.testing.assert_allclose(
        isotonic(targets, logits)(expit(logits)), platt(targets, logits)(expit(logits)), atol=0.1
    )


def test_words() -> None:
    losses = {"none": 0.3, "temperature": 0.25, "platt": 0.2, "isotonic": 0.21}
    assert "(platt), which lowered the log loss from 0.3000 to 0.2000" in in_words("platt", losses)
    assert "no curve clearly improved their log loss of 0.3000" in in_words("none", losses)

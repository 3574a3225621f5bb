"""Budgets: options fit the minutes, what was asked for is kept, and a comparison shares its time."""

import time
from dataclasses import replace

import pytest

import polytag as pt
from polytag.comparison.time_share import TimeShare, time_notes
from polytag.errors import SettingsError
from polytag.models.backbones.weights import find_weights
from polytag.models.budget import budget as budgets
from polytag.models.budget.budget import plan_budget
from polytag.models.budget.rates import Rates, measure, with_fine_tuning
from polytag.models.options import TrainOptions, check_training
from polytag.models.training import step_rate
from tiny_encoders import TINY

SMALL, LARGE = ("mobilenet_v2", 224), ("efficientnet_lite2", 384)


def _timed(rates: Rates, weights, photos: int) -> Rates:
    return replace(rates, fine_tuning={one: 2e-2 for one in rates.embedding if one[0] == weights.backbone})


@pytest.fixture
def measured(monkeypatch) -> list[list[tuple[str, int]]]:
    """The candidates that were timed. Every one has the same speed, and fine-tuning costs twice as much."""
    asked: list[list[tuple[str, int]]] = []

    def rates(paths, candidates, weights) -> Rates:
        asked.append(candidates)
        return Rates({size: 1e-3 for _, size in candidates}, dict.fromkeys(candidates, 1e-2))

    monkeypatch.setattr(budgets, "measure", rates)
    monkeypatch.setattr(budgets, "with_fine_tuning", _timed)
    monkeypatch.setattr(budgets, "is_installed", {SMALL[0], LARGE[0]}.__contains__)
    return asked


def planned(squares, model: str, **settings) -> budgets.Budget:
    options = TrainOptions(**settings)
    return plan_budget(model, options, check_training(model, options)[1], squares[:2], time.monotonic())


def test_best_chooses_among_the_installed_backbones(squares, measured) -> None:
    budget = planned(squares, "best", minutes=10)
    assert measured == [[SMALL, (LARGE[0], 288), LARGE]]
    # More epochs than are expected to fit
    assert budget.changes == {"backbone": LARGE[0], "image_size": LARGE[1], "fine_tune": 39}
    assert budget.words.startswith(
        "best: 10.0 minutes: efficientnet_lite2 at 384 px, fine-tuned for about 30.0 epochs, because this machine reads"
    )
    assert 0 < budget.reserve < 0.2 * 600


def test_what_was_asked_for_is_kept(squares, measured) -> None:
    budget = planned(squares, "best", minutes=10, backbone="mobilenet_v2", image_size=96, fine_tune=3)
    assert budget.changes == {"backbone": "mobilenet_v2", "image_size": 96}
    assert "mobilenet_v2 at 96 px, fine-tuned for about 3.0 epochs" in budget.words
    assert "Expected with twice the time: nothing better." in budget.words
    transfer = planned(squares, "transfer", minutes=10).changes
    assert (transfer["backbone"], transfer["image_size"]) == SMALL and transfer["fine_tune"]
    assert "fine_tune" not in planned(squares, "chains", minutes=10).changes
    assert planned(squares, "tuned", minutes=10).changes == {}


def test_epochs_that_were_asked_for_are_counted(squares, measured) -> None:
    frozen, tuned = (planned(squares, "best", minutes=10, fine_tune=epochs) for epochs in (0, 3))
    assert "frozen" in frozen.words and frozen.reserve < tuned.reserve, "photos are embedded again"
    late = planned(squares, "best", minutes=1.5, fine_tune=30)
    assert "fine-tuned for about 30.0 epochs, although it needs about" in late.words


def test_short_budgets_say_that_fine_tuning_was_not_timed(squares, measured) -> None:
    assert planned(squares, "best", minutes=1).words.endswith("but fine-tuning was not timed.")


def test_an_encoder_is_timed_too(squares, monkeypatch) -> None:
    encoder = str(TINY / "clip")
    budget = planned(squares, "transfer", minutes=1, backbone=encoder)
    assert budget.words.startswith(f"transfer: 1.0 minutes: {encoder} at 32 px, frozen, because ")
    assert budget.words.endswith("Expected with twice the time: nothing better.")
    slow = Rates({32: 1e-3}, {(encoder, 32): 10.0})
    monkeypatch.setattr(budgets, "measure", lambda *_: slow)
    late = planned(squares, "chains", minutes=1, backbone=encoder)
    assert "frozen, although it needs about" in late.words and late.changes.get("fine_tune") is None


def test_the_photos_of_an_earlier_timing_are_not_timed_again(squares, measured, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(budgets, "measure", lambda paths, candidates, known: seen.append(tuple(paths)) or 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            planned(squares, "best", minutes=1)
    assert seen[0] != seen[1] and sorted(seen[0]) == sorted(seen[1])


def test_a_search_without_time_completes_a_trial(squares) -> None:
    bundle = pt.fit(*squares[:2], "tuned", minutes=0.05, image_size=32, epochs=1, show_progress=False)
    assert len(bundle.manifest["trials"]) == 1


def test_weights_from_a_file_belong_to_one_backbone(squares, measured, small_weights) -> None:
    planned(squares, "best", minutes=1, weights=small_weights)
    assert len(measured[-1]) == 1


def test_the_timing_uses_the_photos_and_leaves_them_in_the_cache(squares) -> None:
    rates = measure(squares[0].paths[:20], [("mobilenet_v2", 32)], {})
    assert rates.reading[32] > 0 and rates.embedding["mobilenet_v2", 32] > 0
    assert measure(squares[0].paths[:20], [("mobilenet_v2", 32)], {}).embedding["mobilenet_v2", 32] < 0.01


def test_other_sizes_of_a_backbone_are_expected_to_take_as_long_as_their_pixels(squares, monkeypatch) -> None:
    monkeypatch.setattr(step_rate, "seconds_per_photo", lambda weights, size, photos: 1.0 if size == 32 else 1 / 0)
    rates = measure(squares[0].paths[:8], [("mobilenet_v2", 32), ("mobilenet_v2", 64)], {})
    times = rates.embedding
    assert times["mobilenet_v2", 64] == pytest.approx(4 * times["mobilenet_v2", 32])
    assert set(rates.reading) == {32, 64}
    assert with_fine_tuning(rates, find_weights(), 8).fine_tuning == {
        ("mobilenet_v2", 32): 1.0,
        ("mobilenet_v2", 64): 4.0,
    }


def test_minutes_out_of_range_are_refused() -> None:
    with pytest.raises(SettingsError, match="minutes must be greater than 0, not 0"):
        TrainOptions(minutes=0)


def test_a_comparison_shares_what_is_left() -> None:
    share = TimeShare(10, 4)
    assert share.next() == pytest.approx(10 / 4, rel=0.2)
    share._trainings = 1  # two trainings took no time
    assert share.next() == pytest.approx(10, rel=0.2)
    assert TimeShare(None, 3).next() is None


def test_the_report_names_what_was_cut_short(squares, tmp_path) -> None:
    comparison = pt.compare(
        squares[0], tmp_path / "run", ["baseline"], minutes=0.1, epochs=5000, image_size=48, show_progress=False
    )
    notes = " ".join(comparison.contest.notes)
    assert "baseline: 0.1 minutes; training ends in time" in notes
    assert "The time limit ended baseline's training after" in notes and "of 5000 epochs" in notes
    assert "The time limit ended" in (tmp_path / "run" / "report.html").read_text()
    assert time_notes("baseline", {}) == ()

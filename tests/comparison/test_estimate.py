"""The expected time of a comparison, before it begins and while it runs."""

import pytest

from polytag.comparison import estimate
from polytag.comparison.plan import check_comparison
from polytag.comparison.time_share import TimeShare
from polytag.models.budget.rates import Rates
from polytag.models.options import TrainOptions
from tiny_encoders import TINY


def test_the_time_is_shared_out_by_model(squares, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(estimate, "measure", lambda paths, candidates, weights: Rates({224: 0.5}, {candidates[0]: 2.0}))
    data = squares[0]
    plan = check_comparison(tmp_path / "run", ["baseline", "transfer", "powerset"], TrainOptions(fine_tune=0))
    found = estimate.expected_seconds(data, plan)
    assert list(found) == ["", "baseline", "transfer", "powerset"]
    assert found[""] == (len(data) * 0.5, 0)
    assert found["baseline"][0] == found["baseline"][1] > found["transfer"][0] == found["powerset"][0] + len(data) * 2
    assert found["transfer"][1] == found["powerset"][1] == found["powerset"][0]  # embeddings are in the cache
    tuned = check_comparison(tmp_path / "run", ["baseline", "transfer", "powerset"], TrainOptions(fine_tune=4))
    more = estimate.expected_seconds(data, tuned)["transfer"][0] - found["transfer"][0]
    assert more == pytest.approx(4 * 0.7 * len(data) * 2 * estimate.FINE_TUNING_COST)


def test_encoders_are_timed_and_read_at_their_own_size(squares, tmp_path, monkeypatch) -> None:
    encoder, asked = str(TINY / "clip"), []

    def timed(paths, candidates, known) -> Rates:
        asked.append((candidates, list(known)))
        return Rates({size: 0.5 for _, size in candidates}, dict.fromkeys(candidates, 2.0))

    monkeypatch.setattr(estimate, "measure", timed)
    plan = check_comparison(tmp_path / "run", ["transfer", "powerset"], TrainOptions(backbone=encoder))
    assert plan.sizes == [32]
    found = estimate.expected_seconds(squares[0], plan)
    assert found[""] == (len(squares[0]) * (0.5 + 0.5), 0)  # at 224 px for the split
    assert found["transfer"][0] - found["transfer"][1] == len(squares[0]) * 2
    with_cnn = check_comparison(tmp_path / "run", ["baseline", "transfer"], TrainOptions(backbone=encoder))
    assert estimate.expected_seconds(squares[0], with_cnn)["baseline"][0] > 0
    assert asked == [([(encoder, 32)], [encoder]), ([(encoder, 32), ("mobilenet_v2", 224)], [encoder])]


def test_searches_count_as_long_as_they_may_take(squares, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(estimate, "measure", lambda *_: Rates({224: 0.5}, {("mobilenet_v2", 224): 2.0}))

    def expected(**settings) -> dict[str, float]:
        options = TrainOptions(fine_tune=0, **settings)
        plan = check_comparison(tmp_path / "run", ["tuned", "transfer"], options, tune=["tuned", "transfer"])
        return {model: first for model, (first, _) in estimate.expected_seconds(squares[0], plan).items()}

    few, many, timed, both = (
        expected(**settings)
        for settings in ({"trials": 4}, {"trials": 400}, {"timeout": "2h"}, {"trials": 4, "timeout": "2h"})
    )
    for model in ("tuned", "transfer"):
        assert few[model] < many[model] and few[model] == both[model]
        assert timed[model] > 7200


def test_sizes_that_a_budget_will_choose_are_not_read_before(tmp_path) -> None:
    models = ["transfer", "best"]
    unlimited, limited = (check_comparison(tmp_path, models, TrainOptions(minutes=m)) for m in (None, 5))
    assert (unlimited.sizes, limited.sizes) == ([224, 288], [224])
    asked = check_comparison(tmp_path, models, TrainOptions(minutes=5, backbone="mobilenet_v2", image_size=96))
    assert asked.sizes == [96]


def test_what_is_left_is_corrected_by_what_it_took() -> None:
    share = TimeShare(None, 4)
    line = share.expect({"": (10, 0), "baseline": (600, 600), "transfer": (80, 50)}, {"baseline": 1, "transfer": 3})
    assert line.startswith("about 13 min 10 s on this machine") and line.endswith(
        "baseline 10 min 00 s, transfer 3 min 00 s"
    )
    assert share.left_after("transfer", 160.0) == "; about 23 min 20 s left"  # twice as long as expected
    assert share.left_after("transfer", None) == "; about 21 min 40 s left"  # it had been trained before
    assert share.left_after("baseline", 1200.0) == "; about 1 min 40 s left"
    assert share.left_after("transfer", 120.0) == ""
    limited = TimeShare(10, 1)
    assert (
        limited.expect({"": (1, 0), "transfer": (60, 60)}, {"transfer": 1})
        == ""
        == limited.left_after("transfer", 60.0)
    )
    assert TimeShare(None, 1).left_after("transfer", 60.0) == ""

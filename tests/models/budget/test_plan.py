"""Plans for a time budget: they fit it, more time never gives a worse plan, and the words say why."""

import pytest

from polytag.models.budget.plan import FROZEN_GAINS, RIDGE_GAIN, choose, in_words
from polytag.models.budget.rates import Rates

SMALL, LARGE = ("mobilenet_v2", 224), ("efficientnet_lite2", 288)
RATES = Rates({224: 0.002, 288: 0.003}, {SMALL: 0.005, LARGE: 0.02}, {SMALL: 0.01, LARGE: 0.02})
PHOTOS = (5600, 1200)


def plan(seconds: float, **changes):
    arguments = {
        "candidates": [SMALL, LARGE],
        "rates": RATES,
        "photos": PHOTOS,
        "ridge": True,
        "fine_tune": None,
    } | changes
    return choose(seconds=seconds, **arguments)


@pytest.mark.parametrize("seconds", [120, 200, 300, 600, 1200, 3600])
def test_plans_fit_and_more_time_is_never_worse(seconds: float) -> None:
    made = plan(seconds)
    assert made.seconds <= seconds
    assert plan(2 * seconds).gain >= made.gain
    assert made.after < made.seconds and (made.after > 0) == (made.epochs > 0)
    assert made.epochs == 0 or made.epochs == 30 or made.seconds == pytest.approx(seconds), "fine-tuning uses all of it"


def test_little_time_is_for_the_fastest_backbone_and_more_for_better_ones() -> None:
    too_short = plan(10)
    assert (too_short.backbone, too_short.epochs) == ("mobilenet_v2", 0) and too_short.seconds > 10
    frozen = plan(220)
    assert (frozen.backbone, frozen.epochs) == ("efficientnet_lite2", 0)
    assert frozen.gain == FROZEN_GAINS[LARGE] + RIDGE_GAIN
    assert plan(3600).epochs > 5 and plan(3600).backbone == "efficientnet_lite2"


def test_fine_tuning_is_not_planned_where_it_is_not_allowed_or_was_not_measured() -> None:
    assert plan(3600, fine_tune=0).epochs == 0
    assert plan(3600, rates=Rates(RATES.reading, RATES.embedding)).epochs == 0


def test_the_words_say_what_was_chosen_and_what_twice_the_time_gives() -> None:
    words = in_words(plan(220), plan(900), RATES, 220, 220, True)
    assert words.startswith("3.7 minutes: efficientnet_lite2 at 288 px, frozen, because this machine reads 333")
    assert "twice the time: efficientnet_lite2 at 288 px, fine-tuned" in words and "(mAP +0.0" in words
    assert "although it needs" in in_words(plan(200), plan(400), RATES, 220, 190, True)
    in_cache = Rates(dict.fromkeys(RATES.reading, 5e-5), RATES.embedding)
    assert "because this machine embeds" in in_words(plan(220), plan(900), in_cache, 220, 220, True)
    in_cache = Rates(in_cache.reading, dict.fromkeys(RATES.embedding, 0.0))
    assert "because these photos are in the cache." in in_words(plan(220), plan(900), in_cache, 220, 220, True)

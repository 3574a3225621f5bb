"""Choose what to train within a time budget, from measured rates and a table of expected gains."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from polytag.models.budget.rates import Candidate, Rates
from polytag.models.recipe import fine_tuning_size

FROZEN_GAINS: dict[Candidate, float] = {
    ("mobilenet_v2", 224): 0.0,
    ("efficientnet_lite0", 224): 0.017,
    ("efficientnet_lite1", 224): 0.036,
    ("efficientnet_lite1", 288): 0.056,
    ("efficientnet_lite2", 288): 0.056,
    ("efficientnet_lite2", 384): 0.068,
}
"""Gain in validation mAP over MobileNetV2 at 224 px, both frozen and averaged with a kernel ridge regression, on 2,400
photos of coco18 (`benchmarks/candidates.py`, three splits).

Larger sizes gain little more: EfficientNet-Lite2 at 448 px 0.070.
"""

RIDGE_GAIN = 0.009
"""Gain from averaging the head with a kernel ridge regression."""

FULL_FINE_TUNING_GAIN, HALF_PHOTOS = 0.060, 15_000
"""Gain from endless fine-tuning, and number of photos to process for half of it.

On coco18, MobileNetV2 gained 0.025 with 11,200 photos and 0.052 with 101,000 (`benchmarks/transfer.py`).
"""

MIN_EPOCHS, MAX_EPOCHS = 0.5, 30
"""Fine-tuning for fewer or more epochs than this is not planned."""

HEAD_SECONDS = 0.003
"""Time to train a head and a regression, in seconds per photo."""

START_SECONDS = 12.0
"""Time to load libraries and to save the model, in seconds."""

BUILDING_SECONDS, CONVERTING_SECONDS = 20.0, 6.0
"""Time to build the networks for fine-tuning, and to convert the result so that it embeds photos, in seconds."""

VALIDATION_COST = 1.0
"""Time to validate fine-tuning with a photo, relative to the time to embed it."""


CACHED_SECONDS = 1e-4
"""Reading or embedding a photo in less time than this means that the cache has the result."""


@dataclass(frozen=True)
class Plan:
    """What to train.

    Attributes:
        backbone: name of the backbone.
        image_size: width and height of the photos, in pixels.
        epochs: number of epochs of fine-tuning, 0 for none. The last one need not be complete.
        gain: expected gain in mAP over frozen MobileNetV2 at 224 px.
        seconds: expected time.
        after: part of this time after fine-tuning, for embedding photos with the result.
    """

    backbone: str
    image_size: int
    epochs: float
    gain: float
    seconds: float
    after: float = 0.0

    def __str__(self) -> str:
        how = f"fine-tuned for about {self.epochs:.1f} epochs" if self.epochs else "frozen"
        return f"{self.backbone} at {self.image_size} px, {how}"


def choose(
    candidates: Sequence[Candidate],
    rates: Rates,
    photos: tuple[int, int],
    seconds: float,
    ridge: bool,
    fine_tune: int | None,
) -> Plan:
    """Return the plan with the highest expected gain that fits the time, or the fastest one if none fits.

    Args:
        candidates: backbones and image sizes to choose from.
        rates: speed of this machine.
        photos: numbers of training and validation photos.
        seconds: available time.
        ridge: whether a frozen model is averaged with a kernel ridge regression.
        fine_tune: number of epochs of fine-tuning, 0 for none. With ``None``, fine-tuning may be chosen if its rate
            was measured, and then uses all of the time.
    """
    plans = [plan for candidate in candidates for plan in _plans(candidate, rates, photos, seconds, ridge, fine_tune)]
    fitting = [plan for plan in plans if plan.seconds <= seconds]
    return max(fitting, key=lambda plan: plan.gain) if fitting else min(plans, key=lambda plan: plan.seconds)


def _plans(
    candidate: Candidate, rates: Rates, photos: tuple[int, int], seconds: float, ridge: bool, fine_tune: int | None
) -> list[Plan]:
    """Return the frozen plan for a backbone, and the fine-tuned one if there is enough time, as far as they may be."""
    (backbone, size), (train, validation) = candidate, photos
    reading, embedding = rates.reading[size], rates.embedding[candidate]
    # Validation photos are embedded once more when thresholds are chosen.
    frozen = START_SECONDS + (train + validation) * (reading + embedding + HEAD_SECONDS) + validation * embedding
    # At a size that was not measured, the best that is known of the backbone ranks it.
    known = [gain for (name, _), gain in FROZEN_GAINS.items() if name == backbone]
    gain = FROZEN_GAINS.get(candidate, max(known, default=0.0)) + RIDGE_GAIN * ridge
    plans = [] if fine_tune else [Plan(backbone, size, 0, gain, frozen)]
    if fine_tune != 0:
        after = CONVERTING_SECONDS + (train * ridge + validation) * (embedding + HEAD_SECONDS * ridge)
        smaller = 0 if fine_tuning_size(size) == size else (train + validation) * reading
        fixed = frozen + BUILDING_SECONDS + smaller + after
        epoch = train * rates.fine_tuning.get(candidate, inf) + VALIDATION_COST * validation * embedding
        epochs = min(float(MAX_EPOCHS), (seconds - fixed) / epoch) if fine_tune is None else float(fine_tune)
        if epochs >= MIN_EPOCHS or fine_tune:
            processed = epochs * train
            gain += FULL_FINE_TUNING_GAIN * processed / (processed + HALF_PHOTOS)
            plans.append(Plan(backbone, size, epochs, gain, fixed + epochs * epoch, after))
    return plans


def in_words(plan: Plan, twice: Plan, rates: Rates, seconds: float, left: float, timed: bool) -> str:
    """Say in one line what was chosen, why, and what twice the time is expected to give.

    Args:
        plan: what was chosen.
        twice: what would be chosen with twice the time.
        rates: speed of this machine.
        seconds: budget.
        left: time that is left of it.
        timed: whether fine-tuning was timed, or is not wanted.
    """
    seconds_of = {
        "reads": rates.reading[plan.image_size],
        "embeds": rates.embedding[plan.backbone, plan.image_size],
    }
    speeds = [f"{does} {1 / each:,.0f}" for does, each in seconds_of.items() if each > CACHED_SECONDS]
    why = f"this machine {' and '.join(speeds)} photos per second" if speeds else "these photos are in the cache"
    late = f", although it needs about {plan.seconds / 60:.1f} minutes" if plan.seconds > left else ""
    gain = twice.gain - plan.gain
    more = f"{twice} (mAP {gain:+.3f})" if gain >= 0.001 else "nothing better"
    more += "" if timed else ", but fine-tuning was not timed"
    return f"{seconds / 60:.1f} minutes: {plan}{late}, because {why}. Expected with twice the time: {more}."

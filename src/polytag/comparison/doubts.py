"""Doubts: reasons, found in the numbers themselves, not to rely too much on the results of a contest."""

import numpy as np

from polytag.comparison.contest import DECISIVE, Contest, Contestant
from polytag.errors import counted, listed
from polytag.evaluation.metrics import TITLES
from polytag.pages.text import joined

FEW_TEST_PHOTOS, FEW_POSITIVES, FEW_TRIALS = 300, 20, 20
"""Numbers of test photos, positives and trials below which results are reported as uncertain."""

NAMED = 20
"""Maximum number of labels or photos named in one sentence."""


def doubts(contest: Contest) -> list[str]:
    """Return the reasons for doubt that apply, most important first."""
    best, *others = contest.ranked
    e = best.evaluation
    n, unknown = len(e.names), e.targets < 0
    support = {label: int(e.per_label[label]["support"]) for label in e.labels}
    rare = [f"{label} ({support[label]})" for label in e.too_rare]
    few = [f"{label} ({photos})" for label, photos in support.items() if e.min_photos <= photos < FEW_POSITIVES]
    same_group = n - len(np.unique(e.groups))
    judged = ~unknown.all(axis=0)
    absent = np.mean((e.targets == 0).sum(axis=0)[judged] / (~unknown).sum(axis=0)[judged])
    unproven = [c.name for c in others if not contest.between(best.name, c.name)[DECISIVE].beyond_chance]
    repeats = contest.repeats
    counts = {} if repeats is None else {c.name: repeats.count(c.name) for c in contest.contestants}
    fewer = [f"{name} ({times})" for name, times in counts.items() if times < max(counts.values())]
    left_out = [f"{name} ({reason})" for name, reason in contest.left_out.items()]
    unlearned = [f"{label} ({reason})" for label, reason in contest.labels_left_out.items()]
    found = [
        (
            unlearned,
            f"{counted(len(unlearned), 'label')} could not be learned: {listed(unlearned, NAMED)}. No model assigns "
            "these labels, and no score counts them.",
        ),
        (
            repeats is None and "unseen" not in contest.parts,
            f"Each model was trained once, on one split (seed {contest.seed}). Intervals say what other test photos "
            "would change, not what another training or split would.",
        ),
        (
            repeats is not None and repeats.one_split,
            "All trainings used the split that came with the data. Nothing here says what another split would change.",
        ),
        (
            fewer,
            f"Models with fewer repeats: {', '.join(fewer)}. Their means rest on those alone. Two models are compared "
            "only on repeats that both have, and have an interval only if these are two or more.",
        ),
        (n < FEW_TEST_PHOTOS, f"The test set is small: {counted(n, 'photo')}. It may show none of the rare errors."),
        (
            rare,
            f"Too rare to score, with fewer than {e.min_photos} test photos: {listed(rare, NAMED)}. These labels are "
            "left out of mAP and macro-F1.",
        ),
        (few, f"Fewer than {FEW_POSITIVES} test photos show {listed(few, NAMED)}. These scores are rough."),
        (unproven, f"The lead of {best.name} over {joined(unproven)} in samples-F1 may be chance."),
        (others, "The winner was picked on these test photos, which flatters its score slightly."),
        *((True, doubt) for c in contest.contestants for doubt in _about_training(c)),
        (
            {"baseline", "tuned"} <= {c.name for c in contest.contestants},
            "The difference between tuned and baseline includes tuned's schedule, augmentation and image size, not "
            "only its search.",
        ),
        (
            absent > 0.8,
            "Most labels are absent from most photos, so per-label accuracy is high for any model. Assigning no label "
            f"at all reaches {absent:.3f}.",
        ),
        (
            unknown.any(),
            f"Unknown labels are not scored: {unknown.sum():,} of {unknown.size:,} test entries "
            f"({unknown.mean():.1%}).",
        ),
        (
            same_group,
            f"{counted(same_group, 'test photo')} share a group with another one, as copies do. The intervals count a "
            "group once.",
        ),
        (left_out, f"{counted(len(left_out), 'photo')} could not be used: {listed(left_out, NAMED)}."),
        (
            True,
            "Photos from elsewhere (other cameras, places, seasons, labeling habits) may look different. Expect lower "
            "scores there, and evaluate on some of your own.",
        ),
    ]
    return [doubt for applies, doubt in found if applies]


def _about_training(c: Contestant) -> list[str]:
    found = []
    if 0 < len(c.trials) < FEW_TRIALS:
        found.append(f"The search for {c.name} ran only {counted(len(c.trials), 'trial')}. More may find better.")
    validation, test = c.validation_score, c.evaluation.scores["mean_average_precision"]
    if abs(validation - test) > 0.05:
        why = "Choosing by validation photos flattered it, or one" if validation > test else "One"
        numbers = f"{validation:.3f} on validation photos but {test:.3f} on test photos"
        found.append(f"The mAP of {c.name} is {numbers}. {why} of the two sets is small or unusual.")
    return found


def in_text(metric: str) -> str:
    """Return the name of a score as it is written within a sentence."""
    return TITLES[metric][0].lower() + TITLES[metric][1:]

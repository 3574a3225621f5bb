"""Contest: several models on the same test photos, as numbers: the table, results.json, who wins."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polytag.evaluation.evaluate import MAIN_SCORES, Difference, Evaluation, differences
from polytag.evaluation.metrics import TITLES
from polytag.progress import duration

DECISIVE = "samples_f1"
"""The score by which models are ranked."""


@dataclass(frozen=True)
class Contestant:
    """One trained and evaluated model.

    Attributes:
        name: baseline, tuned, transfer, …
        evaluation: its scores on the test photos.
        validation_accuracy: Keras' argmax "accuracy" on the validation photos, 0 to 1.
        trainable_parameters, parameters: how many numbers training may change, and how many there are.
        fit_seconds: wall-clock time of training with its search and embedding; photos that were not in the cache
            yet were decoded in that time as well.
        validation_score: mAP on the validation photos, 0 to 1.
        history: for each epoch loss, learning_rate, validation_loss, validation_mean_average_precision.
        kept_epoch: the row of the history whose weights were kept; ``None`` without a history, or where they are the
            mean of several trainings.
        trials: of the search, each with score (or None), state and its hyperparameters; empty without one.
        recipe: the settings it was trained with.
        importance: of each hyperparameter of the search, most important first, 1 in all; empty where it is not known.
        calibration: its kind, and the cross-validated log_loss of each kind on validation photos.
        objective: what its thresholds were chosen for.
        out_of_reach: labels that cannot keep what the objective promises.
    """

    name: str
    evaluation: Evaluation
    validation_accuracy: float
    trainable_parameters: int
    parameters: int
    fit_seconds: float
    validation_score: float
    history: Sequence[Mapping[str, float]] = ()
    kept_epoch: int | None = None
    trials: Sequence[Mapping[str, Any]] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    importance: Mapping[str, float] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=lambda: {"kind": "none", "log_loss": {}})
    objective: str = "f1"
    out_of_reach: Sequence[str] = ()


@dataclass(frozen=True)
class Pair:
    """Two models compared on the same photos; differences are ``a`` minus ``b``."""

    a: str
    b: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Contest:
    """Everything that a report tells.

    Attributes:
        data_name: of the folder or table, for headings.
        images, labels: how many photos were used, and the label names.
        fingerprint: of photos and labels.
        parts: photos in "train", "validation" and "test".
        notes: what reading and splitting recognised, decided and left out, in words.
        left_out: photos that could not be used, with the reason.
        contestants: in the order of the tables.
        pairs: every two of them, the later against the earlier.
        version: of polytag.
        seed: of split and training.
    """

    data_name: str
    images: int
    labels: tuple[str, ...]
    fingerprint: str
    parts: Mapping[str, int]
    notes: tuple[str, ...]
    left_out: Mapping[str, str]
    contestants: tuple[Contestant, ...]
    pairs: tuple[Pair, ...]
    version: str
    seed: int

    @property
    def ranked(self) -> list[Contestant]:
        """The contestants, best first."""
        return sorted(self.contestants, key=lambda c: -c.evaluation.scores[DECISIVE])

    def between(self, a: str, b: str) -> dict[str, Difference]:
        """The differences of a minus b, by score."""
        for pair in self.pairs:
            if (pair.a, pair.b) == (a, b):
                return {d.metric: d for d in pair.differences}
            if (pair.a, pair.b) == (b, a):
                return {d.metric: Difference(d.metric, -d.difference, -d.high, -d.low) for d in pair.differences}
        raise KeyError(f"{a} and {b} were not compared")

    def answer(self) -> str:
        """Which approach tags these photos best, by how much, and whether to believe it: two sentences."""
        best, *others = self.ranked
        score = best.evaluation.scores
        low, high = best.evaluation.intervals[DECISIVE]
        name = best.name[0].upper() + best.name[1:]
        right = f"{score['subset_accuracy'] * 100:.0f} % of {len(best.evaluation.names):,} unseen test photos"
        first = (
            f"{name} tags these photos {'best: ' if others else 'with '}samples-F1 {score[DECISIVE]:.3f} "
            f"(95 % interval {low:.3f} to {high:.3f}), with every label of a photo right in {right}."
        )
        if not others:
            return first
        difference = self.between(best.name, others[0].name)[DECISIVE]
        believed = (
            "which is more than chance"
            if difference.beyond_chance
            else "which may be chance: more test photos would tell"
        )
        second = (
            f"That is {difference.difference:+.3f} against {others[0].name} on the same photos "
            f"(95 % interval {difference.low:+.3f} to {difference.high:+.3f}), {believed}."
        )
        return f"{first} {second}"


def pairs(contestants: Sequence[Contestant]) -> tuple[Pair, ...]:
    """Compare every two contestants on their common test photos, the later minus the earlier."""
    return tuple(
        Pair(b.name, a.name, tuple(differences(b.evaluation, a.evaluation)))
        for i, a in enumerate(contestants)
        for b in contestants[i + 1 :]
    )


def table(contest: Contest) -> list[tuple[str, ...]]:
    """The comparison as rows of text: a header, then a row for each fact, a column for each model."""

    def ranged(c: Contestant, name: str) -> str:
        low, high = c.evaluation.intervals[name]
        return f"{c.evaluation.scores[name]:.3f} [{low:.3f}–{high:.3f}]"

    def plain(c: Contestant, name: str) -> str:
        return f"{c.evaluation.scores[name]:.3f}"

    contestants = contest.contestants
    rows: list[tuple[str, ...]] = [("", *(c.name for c in contestants))]
    for name in MAIN_SCORES:
        title = "Average per-label accuracy" if name == "label_accuracy" else TITLES[name]
        rows.append((title, *(ranged(c, name) for c in contestants)))
    rows.append(("Validation accuracy (argmax)", *(f"{c.validation_accuracy:.3f}" for c in contestants)))
    rows.append(("Strongest labels", *(", ".join(c.evaluation.strongest()) for c in contestants)))
    rows.append(("Weakest labels", *(", ".join(c.evaluation.weakest()) for c in contestants)))
    rows.append(("Trainable parameters", *(f"{c.trainable_parameters:,}" for c in contestants)))
    for name, title in TITLES.items():
        if name not in MAIN_SCORES:
            rows.append((title, *(plain(c, name) for c in contestants)))
    rows.append(("Samples-F1 at threshold 0.5", *(f"{c.evaluation.at_half['samples_f1']:.3f}" for c in contestants)))
    rows.append(("Fit", *(duration(c.fit_seconds) for c in contestants)))
    rows.append(("Tags images/s", *(f"{c.evaluation.images_per_second:.0f}" for c in contestants)))
    return rows


def results(contest: Contest) -> dict[str, Any]:
    """The content of results.json; a score that is not defined is null."""

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    def model(c: Contestant) -> dict[str, Any]:
        e = c.evaluation
        columns = ("precision", "recall", "f1", "average_precision", "accuracy", "support", "threshold")
        return {
            **{
                name: dict(
                    zip(("value", "low", "high"), map(number, (e.scores[name], *e.intervals[name])), strict=True)
                )
                for name in MAIN_SCORES
            },
            **{name: number(e.scores[name]) for name in TITLES if name not in MAIN_SCORES},
            "at_threshold_half": {name: number(value) for name, value in e.at_half.items()},
            "validation_accuracy": c.validation_accuracy,
            "strongest_labels": e.strongest(),
            "weakest_labels": e.weakest(),
            "trainable_parameters": c.trainable_parameters,
            "parameters": c.parameters,
            "fit_seconds": c.fit_seconds,
            "tag_images_per_second": round(e.images_per_second, 1),
            "per_label": {label: {name: number(row[name]) for name in columns} for label, row in e.per_label.items()},
            "calibration": dict(c.calibration),
            "objective": c.objective,
            "out_of_reach": list(c.out_of_reach),
            "recipe": dict(c.recipe),
        }

    return {
        "polytag": contest.version,
        "data": {
            "images": contest.images,
            "labels": list(contest.labels),
            "fingerprint": contest.fingerprint,
            "split": dict(contest.parts),
            "left_out": dict(contest.left_out),
            "notes": list(contest.notes),
        },
        "models": {c.name: model(c) for c in contest.contestants},
        "comparisons": [
            {"a": p.a, "b": p.b, **{k: number(v) if k != "metric" else v for k, v in vars(d).items()}}
            for p in contest.pairs
            for d in p.differences
        ],
    }

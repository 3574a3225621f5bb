"""Contest: the results of several models on the same test photos, the table, results.json and the winner."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polytag.comparison.repeats import Repeats, with_test_photos
from polytag.comparison.time_share import time_notes
from polytag.errors import counted
from polytag.evaluation.evaluate import MAIN_SCORES, Difference, Evaluation, compared
from polytag.evaluation.metrics import LABEL_TITLES, TITLES
from polytag.evaluation.slices import Columns, Slice, slices
from polytag.progress import duration

DECISIVE = "samples_f1"
"""The score that ranks the models."""


@dataclass(frozen=True)
class Contestant:
    """One trained and evaluated model.

    Attributes:
        name: the name of the model, such as "baseline", "tuned" or "transfer".
        evaluation: the scores of the model on the test photos.
        validation_accuracy: Keras' argmax "accuracy" on the validation photos, 0 to 1; ``None`` if unknown.
        trainable_parameters, parameters: number of trainable parameters and of all parameters.
        fit_seconds: wall-clock time of training. It includes the search, the computation of embeddings, and the
            decoding of photos that were not cached.
        validation_score: mAP on the validation photos, 0 to 1; NaN if unknown.
        history: loss, learning_rate, validation_loss and support-weighted validation mAP of each epoch.
        kept_epoch: row in the history of the epoch whose weights are in the bundle; ``None`` if there is no history or
            if the weights are averaged over several training runs.
        trials: trials of the search, each with its score (or None), state and hyperparameters; empty without a search.
        recipe: the settings with which the model was trained.
        importance: relative importance of each hyperparameter in the search, most important first. The values sum to 1.
            Empty if unknown.
        calibration: the kind of calibration, and the cross-validated log_loss of each kind on the validation photos.
        objective: the objective for which the thresholds were chosen.
        out_of_reach: labels that cannot reach the objective.
        time_notes: what was chosen for a time limit, and whether the limit ended training early.
        quantized_from: for a quantized model that stands beside its original, the name of the original.
    """

    name: str
    evaluation: Evaluation
    validation_accuracy: float | None
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
    time_notes: Sequence[str] = ()
    quantized_from: str | None = None


def contestant(name: str, evaluation: Evaluation, facts: Mapping[str, Any], engine: str = "float32") -> Contestant:
    """Create a contestant from the evaluation and the manifest of a bundle.

    Args:
        name: name of the model in the report.
        evaluation: the scores of the bundle on the test photos.
        facts: the bundle's manifest.
        engine: the engine that was evaluated.
    """
    judged = facts["int8"] if engine == "int8" else facts
    training: Mapping[str, Any] = facts if engine == "float32" else {"history": ()}  # only the original was trained
    score = judged.get("validation", {}).get("mean_average_precision")
    return Contestant(
        name=name,
        evaluation=evaluation,
        validation_accuracy=facts["validation_accuracy"] if engine == "float32" else None,
        trainable_parameters=facts["trainable_parameters"],
        parameters=facts["parameters"],
        fit_seconds=facts["fit_seconds"],
        validation_score=math.nan if score is None else score,
        history=training["history"],
        kept_epoch=training.get("kept_epoch"),
        trials=training.get("trials", ()),
        recipe=facts["recipe"],
        importance=facts.get("importance", {}),
        calibration=facts.get("calibration", {"kind": "none", "log_loss": {}}),
        objective=facts.get("objective", "f1"),
        out_of_reach=judged.get("out_of_reach", ()),
        time_notes=time_notes(name, facts),
    )


@dataclass(frozen=True)
class Pair:
    """The comparison of two models on the same photos. Differences are ``a`` minus ``b``."""

    a: str
    b: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Contest:
    """Everything that a report shows.

    Attributes:
        data_name: name of the folder or table with the data, for headings.
        images, labels: number of photos used, and the labels.
        fingerprint: fingerprint of the photos and labels.
        parts: number of photos in "train", "validation" and "test".
        notes: sentences about what was recognized, decided and left out while reading and splitting the data.
        left_out: photos that could not be used, with the reason.
        labels_left_out: labels that could not be learned, with the reason.
        contestants: the results of the models on the first repeat, in the order of the tables.
        pairs: the differences between every two models, the later minus the earlier, as returned by `pairs`.
        version: version of polytag.
        seed: seed of the split and of training; text if the bundles were trained with different seeds.
        repeats: the scores of all repeats, if there is more than one.
        slices: the value of each column for each test photo, such as {"camera": ["A", "B", …]}; "" if it has no value.
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
    seed: int | str
    repeats: Repeats | None = None
    labels_left_out: Mapping[str, str] = field(default_factory=dict)
    slices: Columns = field(default_factory=dict)

    @property
    def ranked(self) -> list[Contestant]:
        """Return the contestants without quantized copies of others, best first, by score or mean score."""
        originals = [c for c in self.contestants if c.quantized_from is None]
        return sorted(originals, key=lambda c: -self.score(c, DECISIVE))

    def slice_scores(self) -> list[Slice]:
        """Return the scores of the best model on each slice, worst first."""
        return slices(self.ranked[0].evaluation, self.slices)

    def score(self, contestant: Contestant, metric: str) -> float:
        """Return a score on the test photos, or its mean over the repeats."""
        if self.repeats is None:
            return contestant.evaluation.scores[metric]
        return self.repeats.mean(contestant.name, metric)

    def uncertainty(self, contestant: Contestant, metric: str) -> str:
        """Return the 95% interval of a score, or its standard deviation over the repeats; "" if there is neither."""
        if self.repeats is not None and self.repeats.count(contestant.name) > 1:
            spread = self.repeats.spread(contestant.name, metric)
            return f"± {spread:.3f}" if math.isfinite(spread) else ""
        low, high = contestant.evaluation.intervals[metric]
        return f"[{low:.3f}–{high:.3f}]" if math.isfinite(low) else ""

    def between(self, a: str, b: str) -> dict[str, Difference]:
        """Return the difference in each score, ``a`` minus ``b``."""
        for pair in self.pairs:
            if (pair.a, pair.b) == (a, b):
                return {d.metric: d for d in pair.differences}
            if (pair.a, pair.b) == (b, a):  # Not -x, which would turn 0 into -0.
                return {
                    d.metric: Difference(d.metric, 0 - d.difference, 0 - d.high, 0 - d.low) for d in pair.differences
                }
        raise KeyError(f"{a} and {b} were not compared")

    @property
    def scope(self) -> str:
        """Describe the data on which the scores are based."""
        if self.repeats is None:
            return "in this evaluation" if "unseen" in self.parts else "in this one training on this one split"
        return self.repeats.scope

    def answer(self) -> str:
        """Say in a few sentences which model tags these photos best, by how much, and whether the lead is reliable."""
        best, *others = self.ranked
        tags = f"{best.name[0].upper()}{best.name[1:]} tags these photos" + " best" * bool(others)
        score = f"samples-F1 {self.score(best, DECISIVE):.3f}"
        if self.repeats is None or self.repeats.count(best.name) == 1:
            low, high = best.evaluation.intervals[DECISIVE]
            score += f" (95% interval {low:.3f} to {high:.3f})"
        else:
            score += f" {self.uncertainty(best, DECISIVE)}"
        right = f"{self.score(best, 'subset_accuracy') * 100:.0f}% of"
        known = best.evaluation.targets >= 0
        which = "All labels" if known.all() else "All known labels"
        exact = f"{which} are right on {right} {counted(int(known.any(axis=1).sum()), 'unseen test photo')}."
        if self.repeats is not None:
            exact = f"On average, all labels are right on {right} the unseen test photos."
        lead = [self._lead(best.name, others[0].name)] if others else []
        return " ".join([f"{tags} {self.scope}: {score}.", exact, *lead])

    def _lead(self, best: str, other: str) -> str:
        """Say by how much the best model leads, and whether the lead is reliable."""
        d = self.between(best, other)[DECISIVE]
        lead = f"Its lead over {other} is {d.difference:+.3f}"
        if math.isfinite(d.low):
            lead += f" (95% interval {d.low:+.3f} to {d.high:+.3f})"
        if self.repeats is not None:
            common = self.repeats.count(best, other)
            if common < max(self.repeats.count(best), self.repeats.count(other)):
                # On the repeats that both models have, even their order may differ.
                lead += f" on the {counted(common, 'repeat')} that both have"
        return f"{lead}, which {self.verdict(d)}."

    def verdict(self, difference: Difference) -> str:
        """Say whether a difference is more than chance, and which sources of variation were considered."""
        chance, more = "the choice of test photos; another training may differ", "test photos"
        if self.repeats is not None:
            chance, more = "splits and trainings", "repeats"
            if self.repeats.one_split:
                chance, more = "trainings and the choice of test photos", "repeats or test photos"
        if difference.beyond_chance:
            return f"is more than chance in {chance}"
        return f"may be chance: more {more} would tell"


def pairs(contestants: Sequence[Contestant], repeats: Repeats | None = None) -> tuple[Pair, ...]:
    """Compare every two contestants, the later minus the earlier, with simultaneous intervals.

    A quantized model beside its original is compared with the original only.

    Without repeats, the intervals reflect how much the differences would vary with other test photos. With repeats,
    they reflect other splits and training runs. With repeats on one split, they reflect other test photos and training
    runs.
    """
    every = [(b, a) for i, a in enumerate(contestants) for b in contestants[i + 1 :]]
    both = [(b, a) for b, a in every if b.quantized_from in (None, a.name) and a.quantized_from is None]
    if repeats is None:
        found = compared([(b.evaluation, a.evaluation) for b, a in both])
    else:
        found = repeats.compared([(b.name, a.name) for b, a in both])
        if repeats.one_split:
            once = compared([(b.evaluation, a.evaluation) for b, a in both])
            found = [list(map(with_test_photos, *pair)) for pair in zip(found, once, strict=True)]
    return tuple(Pair(b.name, a.name, tuple(d)) for (b, a), d in zip(both, found, strict=True))


@dataclass(frozen=True)
class Cell:
    """One cell of the table: its text, its interval or spread ("" if it has neither), and its number or NaN."""

    text: str
    interval: str = ""
    value: float = math.nan


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        title: the title of the row.
        cells: one cell per model.
        metric: key of the score, or "" if the row does not show a score.
        best: whether each cell shows the best value; all False if only one model has a value.
    """

    title: str
    cells: tuple[Cell, ...]
    metric: str = ""

    @property
    def lower(self) -> bool:
        """Return whether lower is better."""
        return self.metric.endswith(("loss", "error"))

    @property
    def best(self) -> tuple[bool, ...]:
        """Return which cells show the best value. Values with the same text are equally good."""
        values = [round(cell.value, 3) for cell in self.cells]
        finite = [value for value in values if math.isfinite(value)]
        top = (min if self.lower else max)(finite) if len(finite) > 1 else None
        return tuple(value == top for value in values)


def rows(contest: Contest) -> list[Row]:
    """Return the comparison as rows, with one row per fact and one cell per model."""
    contestants = contest.contestants

    def row(title: str, texts: Sequence[str]) -> Row:
        return Row(title, tuple(map(Cell, texts)))

    def score(name: str, title: str) -> Row:
        return Row(title, tuple(_cell(contest, c, name) for c in contestants), name)

    main = [score(name, _title(name)) for name in MAIN_SCORES]
    others = [score(name, title) for name, title in TITLES.items() if name not in MAIN_SCORES]
    repeats = contest.repeats
    times = [] if repeats is None else [row("Repeats", [f"{repeats.count(c.name)}" for c in contestants])]
    at_half = [_share(c.evaluation.at_half[DECISIVE]) for c in contestants]
    return [
        *main,
        *times,
        row("Validation accuracy (argmax)", [_share(c.validation_accuracy) for c in contestants]),
        row("Strongest labels", [", ".join(c.evaluation.strongest()) for c in contestants]),
        row("Weakest labels", [", ".join(c.evaluation.weakest()) for c in contestants]),
        row("Trainable parameters", [f"{c.trainable_parameters:,}" for c in contestants]),
        *others,
        row("Samples-F1 at threshold 0.5", at_half),
        row("Fit", [duration(c.fit_seconds) for c in contestants]),
        row("Tags images/s", [f"{c.evaluation.images_per_second:.0f}" for c in contestants]),
    ]


def table(contest: Contest) -> list[tuple[str, ...]]:
    """Return the comparison as text, with a header, one row per fact and one column per model."""
    header = ("", *(c.name for c in contest.contestants))
    return [header, *((row.title, *(f"{c.text} {c.interval}".strip() for c in row.cells)) for row in rows(contest))]


def _share(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"


def _title(metric: str) -> str:
    return "Average per-label accuracy" if metric == "label_accuracy" else TITLES[metric]


def _cell(contest: Contest, c: Contestant, metric: str) -> Cell:
    value = contest.score(c, metric)
    if not math.isfinite(value):
        return Cell("–")
    return Cell(f"{value:.3f}", contest.uncertainty(c, metric), value)


def results(contest: Contest) -> dict[str, Any]:
    """Return the content of results.json. Undefined scores are null."""

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    def ends(interval: tuple[float, float]) -> list[float | None]:
        return [number(end) for end in interval]

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
            "intervals": {name: ends(e.intervals[name]) for name in TITLES},
            "at_threshold_half": {name: number(value) for name, value in e.at_half.items()},
            "validation_accuracy": c.validation_accuracy,
            "strongest_labels": e.strongest(),
            "weakest_labels": e.weakest(),
            "too_rare": list(e.too_rare),
            "min_photos": e.min_photos,
            "trainable_parameters": c.trainable_parameters,
            "parameters": c.parameters,
            "fit_seconds": c.fit_seconds,
            "tag_images_per_second": round(e.images_per_second, 1),
            "per_label": {
                label: {
                    **{name: number(row[name]) for name in columns},
                    "intervals": {name: ends(e.label_intervals[label][name]) for name in LABEL_TITLES},
                }
                for label, row in e.per_label.items()
            },
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
            "labels_left_out": dict(contest.labels_left_out),
            "notes": list(contest.notes),
        },
        "scope": contest.scope,
        "repeats": None if contest.repeats is None else contest.repeats.recorded(),
        "models": {c.name: model(c) for c in contest.contestants},
        "comparisons": [
            {"a": p.a, "b": p.b, **{k: number(v) if k != "metric" else v for k, v in vars(d).items()}}
            for p in contest.pairs
            for d in p.differences
        ],
        "slices": [one.recorded() for one in contest.slice_scores()],
    }

"""Evaluation: what a bundle is worth on photos it has never seen."""

import math
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import DataError, counted, listed
from polytag.evaluation.metrics import TITLES, bootstrapped, interval, label_scores, scores

MAIN_SCORES = ("samples_f1", "subset_accuracy", "label_accuracy", "mean_average_precision")
"""The scores that are reported with an interval and compared between models."""


class Tagger(Protocol):
    """What can be evaluated: anything that turns photos into probabilities."""

    labels: tuple[str, ...]
    thresholds: NDArray[np.float32]

    def predict(self, paths: Any) -> tuple[NDArray[np.float32], dict[str, str]]:
        """Probabilities (n, k), NaN for photos that cannot be read, and the reason for each of those."""

    def seen(self, dataset: Dataset) -> NDArray[np.bool_]:
        """bool (n,): which photos had a part in the training."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model on one set of photos.

    Attributes:
        labels: the k names.
        thresholds: float32 (k,), that decisions were made with.
        scores: each of `polytag.evaluation.metrics.TITLES`, on all photos.
        intervals: the 95 % bootstrap interval of each score.
        resampled: each of `MAIN_SCORES` on every bootstrap resample, float64 (n_resamples,).
        at_half: the scores with a threshold of 0.5 for every label.
        per_label: for each label its precision, recall, f1, average_precision, accuracy (NaN where
            undefined), support (photos that have it) and threshold.
        names, targets, probabilities, groups: the photos, n of them.
        images_per_second: from file to probabilities, on this machine.
        notes: what was left out, and why.
    """

    labels: tuple[str, ...]
    thresholds: NDArray[np.float32]
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    resampled: dict[str, NDArray[np.float64]] = field(repr=False)
    at_half: dict[str, float]
    per_label: dict[str, dict[str, float]]
    names: list[str] = field(repr=False)
    targets: NDArray[np.int8] = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    groups: NDArray[np.int64] = field(repr=False)
    images_per_second: float
    notes: tuple[str, ...] = ()

    def strongest(self, count: int = 3) -> list[str]:
        """The labels with the highest F1, the best first; none of them is among the weakest."""
        ranked = sorted(self._judged(), key=lambda label: -self.per_label[label]["f1"])
        return ranked[: min(count, (len(ranked) + 1) // 2)]

    def weakest(self, count: int = 3) -> list[str]:
        """The labels with the lowest F1, the worst first."""
        ranked = sorted(self._judged(), key=lambda label: -self.per_label[label]["f1"])
        return ranked[::-1][: min(count, len(ranked) // 2)]

    def recorded(self) -> dict[str, Any]:
        """What a bundle records of its test beside the scores, for JSON; what is not defined is ``None``."""

        def number(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "photos": len(self.names),
            "intervals": {name: [number(low), number(high)] for name, (low, high) in self.intervals.items()},
            "labels": {label: {k: number(v) for k, v in row.items()} for label, row in self.per_label.items()},
            "notes": list(self.notes),
        }

    def _judged(self) -> list[str]:
        return [label for label in self.labels if math.isfinite(self.per_label[label]["f1"])]

    def __str__(self) -> str:
        lines = []
        for name, title in TITLES.items():
            low, high = self.intervals[name]
            lines.append(f"{title:18} {self.scores[name]:7.4f}   95 % interval {low:.4f} to {high:.4f}")
        lines.append("")
        width = max(map(len, self.labels))
        lines.append(f"{'label':{width}}  threshold  precision  recall     F1     AP  photos")
        for label, row in self.per_label.items():
            lines.append(
                f"{label:{width}}  {row['threshold']:9.2f}  {row['precision']:9.3f}  {row['recall']:6.3f}  "
                f"{row['f1']:5.3f}  {row['average_precision']:5.3f}  {row['support']:6.0f}"
            )
        lines.append("")
        lines.append(f"on {counted(len(self.names), 'image')}, tagged at {self.images_per_second:.0f} images/s")
        lines += self.notes
        return "\n".join(lines)


def evaluate(bundle: Tagger, dataset: Dataset, n_resamples: int = 1000) -> Evaluation:
    """Judge a bundle on photos that had no part in its training.

    Photos that did are recognised by their content and left out, so that a score is never flattered.

    Args:
        bundle: the model; its thresholds were chosen on validation data.
        dataset: the photos; its labels must be the bundle's, in any order. Labels that the dataset lacks
            count as unknown.
        n_resamples: bootstrap resamples for the intervals.

    Raises:
        DataError: the labels do not fit, or no photo is left.
    """
    targets, notes = aligned(bundle.labels, dataset)
    seen = bundle.seen(dataset)
    if seen.any():
        notes.append(f"{counted(int(seen.sum()), 'image')} left out because the model has seen them in training")
        dataset, targets = dataset.take(~seen), targets[~seen]
    if not len(dataset):
        raise DataError("the model has seen all of these images in training: evaluate it on others")

    bundle.predict(dataset.paths[:1])  # loads the model, which is no part of tagging's speed
    start = time.perf_counter()
    probabilities, bad = bundle.predict(dataset.paths)
    seconds = time.perf_counter() - start
    if bad:
        readable = np.isfinite(probabilities).all(axis=1)
        probabilities, targets = probabilities[readable], targets[readable]
        dataset = dataset.without(bad)
        notes.append(dataset.notes[-1])
    return judge(
        bundle.labels, bundle.thresholds, dataset, targets, probabilities, len(dataset) / seconds, notes, n_resamples
    )


def judge(
    labels: tuple[str, ...],
    thresholds: NDArray[np.float32],
    dataset: Dataset,
    targets: NDArray[np.int8],
    probabilities: NDArray[np.float32],
    images_per_second: float,
    notes: list[str],
    n_resamples: int = 1000,
) -> Evaluation:
    """Score probabilities (n, k) against targets (n, k); the rest of `evaluate` once photos are tagged."""
    point = scores(targets, probabilities, thresholds)
    resampled = bootstrapped(targets, probabilities, thresholds, dataset.groups, n_resamples)
    at_half = scores(targets, probabilities, 0.5)
    by_label = label_scores(targets, probabilities, thresholds)
    per_label = {
        label: {
            **{name: float(values[0, j]) for name, values in by_label.items()},
            "support": int((targets[:, j] == 1).sum()),
            "threshold": float(thresholds[j]),
        }
        for j, label in enumerate(labels)
    }
    return Evaluation(
        labels=labels,
        thresholds=thresholds,
        scores={name: float(value[0]) for name, value in point.items()},
        intervals={name: interval(value) for name, value in resampled.items()},
        resampled={name: resampled[name] for name in MAIN_SCORES},
        at_half={name: float(value[0]) for name, value in at_half.items()},
        per_label=per_label,
        names=dataset.names,
        targets=targets,
        probabilities=probabilities,
        groups=dataset.groups,
        images_per_second=images_per_second,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class Difference:
    """Score of ``a`` minus score of ``b`` on the same photos, with its 95 % paired bootstrap interval."""

    metric: str
    difference: float
    low: float
    high: float

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def differences(a: Evaluation, b: Evaluation) -> list[Difference]:
    """Compare two models on the same test photos: each resample draws the same photos for both.

    Raises:
        DataError: the evaluations are of different photos, groups or labels, or resampled another number of times.
    """
    if a.names != b.names or a.labels != b.labels or not np.array_equal(a.groups, b.groups):
        raise DataError("two models can be compared only on the same images, in the same groups, and labels")
    times = [len(e.resampled[MAIN_SCORES[0]]) for e in (a, b)]
    if times[0] != times[1]:
        raise DataError(f"two models can be compared only by equally many resamples, not {times[0]} and {times[1]}")
    return [
        Difference(name, a.scores[name] - b.scores[name], *interval(a.resampled[name] - b.resampled[name]))
        for name in MAIN_SCORES
    ]


def aligned(labels: tuple[str, ...], dataset: Dataset) -> tuple[NDArray[np.int8], list[str]]:
    """The dataset's targets in the order of the model's labels, -1 for labels it lacks; and notes on the difference.

    Raises:
        DataError: they have no label in common.
    """
    if dataset.labels == labels:
        return dataset.targets, []
    shared = [label for label in labels if label in dataset.labels]
    if not shared:
        raise DataError(
            f"the data has none of the model's labels: expected some of {listed(list(labels))}, "
            f"got {listed(list(dataset.labels))}"
        )
    targets = np.full((len(dataset), len(labels)), -1, dtype=np.int8)
    for label in shared:
        targets[:, labels.index(label)] = dataset.targets[:, dataset.labels.index(label)]
    notes = []
    missing = [label for label in labels if label not in dataset.labels]
    extra = [label for label in dataset.labels if label not in labels]
    if missing:
        notes.append(f"labels that the data lacks were not judged: {listed(missing)}")
    if extra:
        notes.append(f"labels that the model does not know were ignored: {listed(extra)}")
    return targets, notes

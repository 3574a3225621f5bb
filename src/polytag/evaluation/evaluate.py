"""Evaluation of bundles on photos that they have never seen."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.data.splitting.groups import keep_together
from polytag.errors import DataError, counted, listed
from polytag.evaluation.intervals import UNDEFINED, Interval, interval, simultaneous_intervals
from polytag.evaluation.jackknife import blocks_of, left_out
from polytag.evaluation.metrics import LABEL_TITLES, MAIN_SCORES, TITLES, label_scores, scores
from polytag.evaluation.min_photos import MIN_PHOTOS, check_min_photos
from polytag.evaluation.reliability import calibration_error
from polytag.evaluation.unseen import Tagger, aligned, copies_noted, seen_by
from polytag.progress import progress_bar


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model on one set of photos.

    Attributes:
        labels: the k labels.
        thresholds: float32 (k,), the thresholds in use.
        scores: one for each key of `polytag.evaluation.metrics.TITLES`. mAP and macro-F1 exclude the labels in
            ``too_rare``.
        intervals: the 95% interval of each score; NaN for the calibration error, which has no interval.
        left_out: for each of `MAIN_SCORES`, the score without each block of photos, float64 (b,).
        at_half: the scores with a threshold of 0.5 for every label.
        per_label: the precision, recall, f1, average_precision and accuracy of each label (NaN if undefined), its
            support (number of photos with the label) and its threshold.
        label_intervals: the 95% intervals of precision, recall, f1 and average_precision for each label.
        too_rare: labels with fewer than ``min_photos`` photos, in the order of ``labels``.
        min_photos: minimum number of photos that a label needs for reliable scores.
        names, targets, probabilities, groups: the names, targets, probabilities and groups of the n photos.
        images_per_second: throughput on this machine, from file to probabilities.
        notes: what was left out, and why.
    """

    labels: tuple[str, ...]
    thresholds: NDArray[np.float32]
    scores: dict[str, float]
    intervals: dict[str, Interval]
    left_out: dict[str, NDArray[np.float64]] = field(repr=False)
    at_half: dict[str, float]
    per_label: dict[str, dict[str, float]]
    label_intervals: dict[str, dict[str, Interval]] = field(repr=False)
    too_rare: tuple[str, ...]
    min_photos: int
    names: list[str] = field(repr=False)
    targets: NDArray[np.int8] = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    groups: NDArray[np.int64] = field(repr=False)
    images_per_second: float
    notes: tuple[str, ...] = ()

    def strongest(self, count: int = 3) -> list[str]:
        """Return the labels with the highest F1, best first. None of them is also among the weakest."""
        ranked = sorted(self._judged(), key=lambda label: -self.per_label[label]["f1"])
        return ranked[: min(count, (len(ranked) + 1) // 2)]

    def weakest(self, count: int = 3) -> list[str]:
        """Return the labels with the lowest F1, worst first."""
        ranked = sorted(self._judged(), key=lambda label: -self.per_label[label]["f1"])
        return ranked[::-1][: min(count, len(ranked) // 2)]

    @property
    def rarity(self) -> str:
        """Return one line that names the labels that are too rare to score, or "" if there are none."""
        if not self.too_rare:
            return ""
        named = listed([f"{label} ({self.per_label[label]['support']:.0f})" for label in self.too_rare], 20)
        least = counted(self.min_photos, "photo")
        return f"too rare to score, with fewer than {least}, so left out of mAP and macro-F1: {named}"

    def recorded(self) -> dict[str, Any]:
        """Return the test results that a bundle records in addition to the scores. Undefined numbers are ``None``."""

        def number(value: float) -> float | None:
            return value if math.isfinite(value) else None

        def ends(intervals: dict[str, Interval]) -> dict[str, list[float | None]]:
            return {name: [number(low), number(high)] for name, (low, high) in intervals.items()}

        return {
            "photos": len(self.names),
            "intervals": ends(self.intervals),
            "labels": {label: {k: number(v) for k, v in row.items()} for label, row in self.per_label.items()},
            "label_intervals": {label: ends(row) for label, row in self.label_intervals.items()},
            "too_rare": list(self.too_rare),
            "min_photos": self.min_photos,
            "notes": list(self.notes),
        }

    def _judged(self) -> list[str]:
        judged = [label for label in self.labels if label not in self.too_rare]
        return [label for label in judged if math.isfinite(self.per_label[label]["f1"])]

    def __str__(self) -> str:
        lines = []
        for name, title in TITLES.items():
            low, high = self.intervals[name]
            told = f"   95% interval {low:.4f} to {high:.4f}" if math.isfinite(low) else ""
            lines.append(f"{title:18} {self.scores[name]:7.4f}{told}")
        lines.append("")
        width = max(map(len, self.labels))
        lines.append(
            f"{'label':{width}}  threshold  precision  recall     F1  95% interval     AP  95% interval  photos"
        )
        for label, row in self.per_label.items():
            f1, ap = ("{:.3f} to {:.3f}".format(*self.label_intervals[label][n]) for n in ("f1", "average_precision"))
            lines.append(
                f"{label:{width}}  {row['threshold']:9.2f}  {row['precision']:9.3f}  {row['recall']:6.3f}  "
                f"{row['f1']:5.3f}  {f1:14}  {row['average_precision']:5.3f}  {ap:14}  {row['support']:6.0f}"
            )
        lines.append("")
        lines.append(f"on {counted(len(self.names), 'image')}, tagged at {self.images_per_second:.0f} images/s")
        lines += [self.rarity] if self.too_rare else []
        lines += self.notes
        return "\n".join(lines)


def evaluate(bundle: Tagger, dataset: Dataset, min_photos: int = MIN_PHOTOS, show_progress: bool = False) -> Evaluation:
    """Evaluate a bundle on photos that were not used in its training; see `evaluate_all`."""
    return evaluate_all([bundle], dataset, min_photos, show_progress)[0]


def evaluate_all(
    bundles: Sequence[Tagger], dataset: Dataset, min_photos: int = MIN_PHOTOS, show_progress: bool = False
) -> list[Evaluation]:
    """Evaluate bundles on the same photos, none of which was used in training any of the bundles.

    Photos that any bundle has seen are excluded, because they would inflate the scores. Copies of these photos and
    photos from the same groups are excluded too. Remaining copies of the same photo form one group,
    which the intervals count once.

    Args:
        bundles: the models, at least one. All have the same labels, in any order; the first bundle's order is used.
        dataset: the photos, with the same labels as the bundles, in any order. Labels that the dataset lacks count as
            unknown.
        min_photos: minimum number of photos with a label. Labels with fewer photos are reported separately and excluded
            from mAP and macro-F1.
        show_progress: draw progress bars on stderr.

    Returns:
        The evaluation of each bundle, all on the same photos.

    Raises:
        DataError: the labels of the dataset and the bundles do not match, or no photo is left.
        SettingsError: ``min_photos`` is below 1.
    """
    check_min_photos(min_photos)
    labels = bundles[0].labels
    for other in bundles[1:]:
        if set(other.labels) != set(labels):
            differing = sorted(set(other.labels) ^ set(labels))
            raise DataError(
                f"The bundles have different labels ({listed(differing)}), so they cannot be compared. Evaluate each "
                "alone."
            )
    targets, notes = aligned(labels, dataset)
    own = dataset.groups
    with progress_bar(len(dataset), "looking for duplicates", "photo", show_progress) as bar:
        joined = keep_together(dataset, on_progress=bar.update)
    dataset = replace(dataset, groups=joined.groups, look_alikes=joined.look_alikes)
    seen, said = seen_by(bundles, dataset)
    notes += said
    if not (targets >= 0).any():
        raise DataError("All labels of the model are unknown on these images, so no score can be computed.")
    if seen.all():
        raise DataError("The model has seen all of these images in training or for thresholds. Evaluate it on others.")
    dataset, targets, own = dataset.take(~seen), targets[~seen], own[~seen]

    tagged = [_tagged(bundle, labels, dataset) for bundle in bundles]
    bad = {path: reason for _, reasons, _ in tagged for path, reason in reasons.items()}
    if bad:
        readable = np.array([path not in bad for path in dataset.paths])
        dataset = dataset.without(bad)
        targets, own = targets[readable], own[readable]
        tagged = [(probabilities[readable], reasons, speed) for probabilities, reasons, speed in tagged]
        notes.append(dataset.notes[-1])
    notes += copies_noted(dataset, own)
    return [
        judge(
            labels, bundle.thresholds[_order(bundle, labels)], dataset, targets, probabilities, speed, notes, min_photos
        )
        for bundle, (probabilities, _, speed) in zip(bundles, tagged, strict=True)
    ]


def _order(bundle: Tagger, labels: tuple[str, ...]) -> list[int]:
    """Return the position of each label among the bundle's labels."""
    return [bundle.labels.index(label) for label in labels]


def _tagged(
    bundle: Tagger, labels: tuple[str, ...], dataset: Dataset
) -> tuple[NDArray[np.float32], dict[str, str], float]:
    """Return the probabilities (n, k) of the labels, the unreadable photos with the reasons, and photos per second."""
    bundle.predict(dataset.paths[:1])  # Loads the model, which is not part of the throughput.
    start = time.perf_counter()
    probabilities, bad = bundle.predict(dataset.paths)
    seconds = time.perf_counter() - start
    return probabilities[:, _order(bundle, labels)], bad, (len(dataset) - len(bad)) / seconds


def judge(
    labels: tuple[str, ...],
    thresholds: NDArray[np.float32],
    dataset: Dataset,
    targets: NDArray[np.int8],
    probabilities: NDArray[np.float32],
    images_per_second: float,
    notes: Sequence[str],
    min_photos: int = MIN_PHOTOS,
) -> Evaluation:
    """Score probabilities (n, k) against targets (n, k). This is the part of `evaluate` that follows tagging."""
    support = (targets == 1).sum(axis=0)
    judged = support >= min_photos
    point = scores(targets, probabilities, thresholds, judged)
    point["calibration_error"] = calibration_error(targets, probabilities, dataset.groups)
    by_label = label_scores(targets, probabilities, thresholds)
    blocks = blocks_of(dataset.groups)
    without, labels_without = left_out(targets, probabilities, thresholds, blocks, judged)
    evidence = _evidence(targets, probabilities >= thresholds, blocks)
    affecting = _affecting(targets, probabilities >= thresholds, judged, blocks)
    unbounded = {"coverage_error"}
    return Evaluation(
        labels=labels,
        thresholds=thresholds,
        scores=point,
        intervals={
            name: interval(point[name], without[name], None if name in unbounded else 1.0, affecting[name])
            if name in without
            else UNDEFINED
            for name in TITLES
        },
        left_out={name: without[name] for name in MAIN_SCORES},
        at_half=scores(targets, probabilities, 0.5, judged),
        per_label={
            label: {
                **{name: float(values[j]) for name, values in by_label.items()},
                "support": int(support[j]),
                "threshold": float(thresholds[j]),
            }
            for j, label in enumerate(labels)
        },
        label_intervals={
            label: {
                name: interval(float(by_label[name][j]), labels_without[name][:, j], 1.0, int(evidence[name][j]))
                for name in LABEL_TITLES
            }
            for j, label in enumerate(labels)
        },
        too_rare=tuple(label for label, enough in zip(labels, judged, strict=True) if not enough),
        min_photos=min_photos,
        names=dataset.names,
        targets=targets,
        probabilities=probabilities,
        groups=dataset.groups,
        images_per_second=images_per_second,
        notes=tuple(notes),
    )


def _evidence(
    targets: NDArray[np.int8], assigned: NDArray[np.bool_], blocks: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Return, for each score of a label, the number of blocks that affect it, int64 (k,)."""
    present, given = targets == 1, assigned & (targets >= 0)

    def count(photos: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.array([len(np.unique(blocks[column])) for column in photos.T], np.int64)

    with_label = count(present)
    return {
        "f1": count(present | given),
        "average_precision": with_label,
        "precision": count(given),
        "recall": with_label,
    }


def _affecting(
    targets: NDArray[np.int8], assigned: NDArray[np.bool_], judged: NDArray[np.bool_], blocks: NDArray[np.int64]
) -> dict[str, int]:
    """Return, for each score, the number of blocks that affect it."""
    known, present = targets >= 0, targets == 1
    positive = present | (assigned & known)
    rows = dict.fromkeys(TITLES, known.any(axis=1)) | {
        "mean_average_precision": present[:, judged].any(axis=1),
        "micro_f1": positive.any(axis=1),
        "macro_f1": positive[:, judged].any(axis=1),
    }
    return {name: len(np.unique(blocks[some])) for name, some in rows.items()}


@dataclass(frozen=True)
class Difference:
    """Difference in one score between two models on the same photos, ``a`` minus ``b``, with its 95% interval.

    The intervals in one report are simultaneous: the probability that any of them misses the true difference is 5%.
    """

    metric: str
    difference: float
    low: float
    high: float

    @property
    def beyond_chance(self) -> bool:
        """Return whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def differences(a: Evaluation, b: Evaluation) -> list[Difference]:
    """Compare two models on the same test photos; see `compared`."""
    return compared([(a, b)])[0]


def compared(pairs: Sequence[tuple[Evaluation, Evaluation]]) -> list[list[Difference]]:
    """Compare models pairwise on the same test photos, all pairs and scores at once.

    The intervals are simultaneous. If all models were equally good, the probability that a report finds any difference
    would be 5%, no matter how many models it compares.

    Returns:
        The difference in each of `MAIN_SCORES` for each pair.

    Raises:
        DataError: the evaluations differ in their photos, groups, labels, or the labels that are too rare to score.
    """
    for a, b in pairs:
        same = a.names == b.names and a.labels == b.labels and a.too_rare == b.too_rare
        if not same or not np.array_equal(a.groups, b.groups):
            raise DataError("Models can be compared only on the same images, in the same groups, with the same labels.")
    if not pairs:
        return []
    values = np.array([a.scores[name] - b.scores[name] for a, b in pairs for name in MAIN_SCORES])
    without = np.stack([a.left_out[name] - b.left_out[name] for a, b in pairs for name in MAIN_SCORES], axis=1)
    ends = simultaneous_intervals(values, without)
    found = [
        Difference(name, float(value), float(low), float(high))
        for name, value, (low, high) in zip(MAIN_SCORES * len(pairs), values, ends, strict=True)
    ]
    return [found[i : i + len(MAIN_SCORES)] for i in range(0, len(found), len(MAIN_SCORES))]

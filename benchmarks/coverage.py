"""How often polytag's 95 % intervals cover the truth, by simulation.

    python benchmarks/coverage.py [--sets 400] [--photos 150 300 1000] [--groups 0 12 100] [--out coverage]

Each simulated set has 20 labels and calibrated probabilities. Rare labels have 2 to 46 photos on average, common ones
at least 16. Photos come one by one or in 12 or 100 groups that look alike and are labeled alike. The truth is the score
on all photos of that kind, from 100,000 of them. The first table shows, for each cell, the share of sets whose interval
contains the truth and the mean width of the interval; for mAP also those of a percentile bootstrap. The second shows
the intervals of single labels by the number of photos with the label. The third shows how often a report on equally
good models claims any difference between them. All numbers are written to OUT/coverage.json after each cell. Cells
that are already in this file are not repeated.
"""

import argparse
import json
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from polytag.evaluation.evaluate import MAIN_SCORES, _evidence
from polytag.evaluation.intervals import interval, simultaneous_intervals
from polytag.evaluation.jackknife import blocks_of, left_out
from polytag.evaluation.metrics import LABEL_TITLES, TITLES, label_mean, label_scores, scores
from polytag.evaluation.min_photos import MIN_PHOTOS

LABELS, SPREAD, PHOTO_SHARE, GROUP_SHARE = 20, 2.5, 0.2, 0.2
"""Number of labels, standard deviation of the logits, and the fractions of their variance that are common to the labels
of a photo and to the photos of a group."""

BINS = [1, 2, 3, 4, 5, 6, 8, 10, 15, 25, 50]
"""Numbers of photos at which the rows of the second table start."""

THRESHOLD, POPULATION, RESAMPLES = 0.35, 100_000, 200


class World:
    """A population of photos, and the true scores of two models. The second model sees noisy logits of the first."""

    def __init__(self, photos: int, rare: bool, groups: int, seed: int, noise: float = 0.0):
        low, high = (2, 46) if rare else (16, 0.4 * photos)
        self.photos, self.groups, self.noise = photos, groups, noise
        nodes, weights = np.polynomial.hermite_e.hermegauss(61)
        weights = weights / weights.sum()
        self.centers = np.array(
            [brentq(lambda m, q=q: weights @ expit(m + SPREAD * nodes) - q, -20, 10)
             for q in np.geomspace(low, high, LABELS) / photos]
        )  # fmt: skip
        self.thresholds = np.full(LABELS, THRESHOLD, np.float32)
        self.rng = np.random.default_rng(seed)
        p, targets, _ = self.draw(POPULATION, 0)
        self.truth = [self._true_scores(targets, p), self._true_scores(targets, self.blurred(p))]

    def draw(self, n: int, groups: int) -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.int64]]:
        """Return the probabilities, targets and groups of n photos."""
        rng, share = self.rng, GROUP_SHARE if groups else 0.0
        group = rng.integers(groups, size=n) if groups else np.arange(n)
        alike = rng.standard_normal((2, groups or 1, LABELS))[:, group if groups else np.zeros(n, int)]
        logits = np.sqrt(PHOTO_SHARE) * rng.standard_normal((n, 1)) + np.sqrt(share) * alike[0]
        logits += np.sqrt(1 - PHOTO_SHARE - share) * rng.standard_normal((n, LABELS))
        p = expit(self.centers + SPREAD * logits)
        luck = ndtr(np.sqrt(share) * alike[1] + np.sqrt(1 - share) * rng.standard_normal((n, LABELS)))
        return p.astype(np.float32), (luck < p).astype(np.int8), group

    def blurred(self, p: NDArray[np.float32], noise: float | None = None) -> NDArray[np.float32]:
        logits = np.log(p) - np.log1p(-p)
        return expit(logits + (self.noise if noise is None else noise) * self.rng.standard_normal(p.shape)).astype("f4")

    def _true_scores(self, targets: NDArray[np.int8], p: NDArray[np.float32]) -> tuple[dict, dict]:
        return scores(targets, p, self.thresholds), label_scores(targets, p, self.thresholds)

    def true(self, model: int, judged: NDArray[np.bool_]) -> dict[str, float]:
        """Return the true scores of a model if only these labels count in mAP and macro-F1."""
        found, by_label = self.truth[model]
        macro = {"mean_average_precision": "average_precision", "macro_f1": "f1"}
        return found | {name: float(label_mean(by_label[of][None], judged)[0]) for name, of in macro.items()}


def percentile(targets: NDArray, p: NDArray, groups: NDArray, rng: np.random.Generator) -> tuple[float, float]:
    """Return the percentile bootstrap interval of mAP over all labels that are present."""
    _, member = np.unique(groups, return_inverse=True)
    n_groups = member.max() + 1
    weights = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), RESAMPLES)[:, member].astype(float)
    found = []
    for j in np.flatnonzero(targets.any(axis=0)):
        order = np.argsort(-p[:, j], kind="stable")
        at, w = np.flatnonzero(targets[order, j]), weights[:, order]
        step = w[:, at]
        hits, seen = step.cumsum(axis=1), w.cumsum(axis=1)[:, at]
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append((step * np.where(seen > 0, hits / seen, 0)).sum(axis=1) / hits[:, -1])
    low, high = np.percentile(np.nanmean(found, axis=0), [2.5, 97.5])
    return low, high


def cell(world: World, sets: int, min_photos: int) -> tuple[dict, dict]:
    """Return the coverage and width of each interval. For labels' intervals, by score and number of photos with the
    label, return how many contain the truth and how many there are."""
    covered, width = defaultdict(list), defaultdict(list)
    by_support: dict = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for _ in range(sets):
        p, targets, groups = world.draw(world.photos, world.groups)
        judged = targets.sum(axis=0) >= min_photos
        blocks = blocks_of(groups)
        found = []
        for model, q in enumerate((p, world.blurred(p))):
            point = scores(targets, q, world.thresholds, judged)
            rest, label_rest = left_out(targets, q, world.thresholds, blocks, judged)
            truth = world.true(model, judged)
            for name in rest if not model else ():
                low, high = interval(point[name], rest[name], None if name == "coverage_error" else 1.0)
                if np.isfinite(point[name]):
                    covered[name].append(low <= truth[name] <= high)
                    width[name].append(high - low)
            found.append((point, rest, truth))
            if not model:
                by_label, labels_truth = label_scores(targets, q, world.thresholds), world.truth[0][1]
                evidence = _evidence(targets, q >= world.thresholds, blocks)
                for name in LABEL_TITLES:
                    for j in np.flatnonzero(np.isfinite(by_label[name])):
                        low, high = interval(by_label[name][j], label_rest[name][:, j], 1.0, evidence[name][j])
                        counts = by_support[name][int(targets[:, j].sum())]
                        counts[0] += bool(low <= labels_truth[name][j] <= high)
                        counts[1] += 1
        (a, a_rest, a_truth), (b, b_rest, b_truth) = found
        for name in MAIN_SCORES:
            ends = simultaneous_intervals(np.array([a[name] - b[name]]), (a_rest[name] - b_rest[name])[:, None])[0]
            if np.isfinite(ends[0]):
                covered[f"{name}, difference"].append(ends[0] <= a_truth[name] - b_truth[name] <= ends[1])
                width[f"{name}, difference"].append(ends[1] - ends[0])
        if len(covered["percentile mAP"]) < sets / 8:
            low, high = percentile(targets, p, groups, world.rng)
            all_present = world.true(0, targets.any(axis=0))["mean_average_precision"]
            covered["percentile mAP"].append(low <= all_present <= high)
            width["percentile mAP"].append(high - low)
    return {name: (float(np.mean(covered[name])), float(np.mean(width[name]))) for name in covered}, by_support


def family_wise_errors(world: World, models: list[int], sets: int, min_photos: int) -> dict[int, float]:
    """Return how often any difference between equally good models seems more than chance, by number of models."""
    false = dict.fromkeys(models, 0)
    for _ in range(sets):
        p, targets, groups = world.draw(world.photos, world.groups)
        judged, blocks = targets.sum(axis=0) >= min_photos, blocks_of(groups)
        points, rests = [], []
        for _ in range(max(models)):
            q = world.blurred(p, 0.7)
            points.append(scores(targets, q, world.thresholds, judged))
            rests.append(left_out(targets, q, world.thresholds, blocks, judged)[0])
        for count in models:
            pairs = [(i, j) for i in range(count) for j in range(i)]
            values = np.array([points[i][name] - points[j][name] for i, j in pairs for name in MAIN_SCORES])
            without = np.stack([rests[i][name] - rests[j][name] for i, j in pairs for name in MAIN_SCORES], axis=1)
            ends = simultaneous_intervals(values, without)
            false[count] += bool((ends[:, 0] > 0).any() or (ends[:, 1] < 0).any())
    return {count: n / sets for count, n in false.items()}


def show(record: dict) -> None:
    """Print the coverage of labels' intervals by the number of photos with the label, over all cells."""
    print("\ncoverage of a label's interval by its photos")
    found: dict[tuple[str, str], dict[int, NDArray]] = defaultdict(lambda: defaultdict(lambda: np.zeros(2)))
    for cell_name, by_score in record["labels"].items():
        groups = cell_name.rpartition(", ")[2]
        for score, by_support in by_score.items():
            for support, counts in by_support.items():
                found[score, groups][BINS[np.searchsorted(BINS, int(support), side="right") - 1]] += counts
    for (score, groups), bins in sorted(found.items()):
        told = "  ".join(f"{start}: {bins[start][0] / bins[start][1]:.3f}" for start in sorted(bins))
        print(f"{LABEL_TITLES[score]:10} {groups:10} from {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--photos", type=int, nargs="+", default=[150, 300, 1000])
    parser.add_argument("--groups", type=int, nargs="+", default=[0, 12, 100], help="0: no groups")
    parser.add_argument("--equal", type=int, nargs="*", default=[3, 6])
    parser.add_argument("--min-photos", type=int, default=MIN_PHOTOS)
    parser.add_argument("--out", type=Path, default=Path("coverage"))
    arguments = parser.parse_args()
    file = arguments.out / "coverage.json"
    record = json.loads(file.read_text()) if file.exists() else {"cells": {}, "labels": {}, "family_wise_error": {}}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for photos, rare, groups in product(arguments.photos, (True, False), arguments.groups):
        name = f"{photos} photos, {'2-46' if rare else '>=16'} positives, {groups or 'no'} groups"
        if name in record["cells"]:
            continue
        world = World(photos, rare, groups, photos + groups + rare, noise=0.5)
        found, by_support = cell(world, arguments.sets, arguments.min_photos)
        if arguments.equal:
            errors = family_wise_errors(world, arguments.equal, arguments.sets, arguments.min_photos)
            record["family_wise_error"][name] = errors
            print(f"{name}: family-wise error by number of equal models {errors}", flush=True)
        record["cells"][name], record["labels"][name] = found, by_support
        file.write_text(json.dumps(record | {"sets": arguments.sets}, indent=2) + "\n")
        worst = min(found, key=lambda score: found[score][0] if score != "percentile mAP" else 2)
        print(f"{name}: lowest {worst} {found[worst][0]:.3f}")
        for score, (covered, width) in found.items():
            print(f"    {TITLES.get(score, score):36} {covered:.3f}   width {width:.3f}", flush=True)
    show(record)
    print(f"\n{file}")


if __name__ == "__main__":
    main()

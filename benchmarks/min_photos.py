"""How many test photos does a label need for its scores to mean something? By simulation.

    python benchmarks/min_photos.py [--sets 300] [--out min_photos]

Each simulated label has calibrated probabilities on 300 test photos. The first table shows, by the number of photos
with the label, the mean width of its 95% intervals, the share of intervals that contain the true value, and how often
two labels are ranked wrongly whose true scores differ by about 0.2. The second table shows how often test mAP prefers
the worse of two models whose true mAPs differ by 0.045, if labels with fewer photos than the minimum are left out of
mAP. Labels have 1 to 60 of 150 photos on average, and the models differ on all labels or on the rarer half only.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from selection import CELLS, LABELS, NOISE, center_of_share, draw, predicted, worse_noise

from polytag.evaluation.intervals import interval
from polytag.evaluation.jackknife import blocks_of, left_out
from polytag.evaluation.metrics import average_precisions, label_mean, label_scores

PHOTOS, THRESHOLD = 300, 0.35
SUPPORTS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
MINIMA = (1, 2, 3, 4, 5, 6, 8, 10, 15)
SCORES = ("f1", "average_precision")


def label_table(sets: int) -> dict[int, dict[str, dict[str, float]]]:
    """Return the width, coverage and ranking errors of both scores by the number of photos with the label."""
    table = {}
    thresholds = np.full(LABELS, THRESHOLD, np.float32)
    for support in SUPPORTS:
        rng = np.random.default_rng(support)
        centers = np.full(LABELS, center_of_share(support / PHOTOS))
        # Half of the labels are easy and half are hard, so that their true scores differ by about 0.2.
        noise = np.where(np.arange(LABELS) % 2, 0.2, 0.75)
        true = label_scores(*_sample(rng, centers, noise, 100_000), thresholds)
        rows: dict[str, list] = {name: [] for name in SCORES}
        for _ in range(sets):
            targets, p = _with_support(rng, centers, noise, support)
            found = label_scores(targets, p, thresholds)
            rest = left_out(targets, p, thresholds, blocks_of(np.arange(PHOTOS)))[1]
            assigned = ((p >= THRESHOLD) | (targets == 1)).sum(axis=0)
            for name in SCORES:
                evidence = assigned if name == "f1" else (targets == 1).sum(axis=0)
                for j in range(LABELS):
                    low, high = interval(found[name][j], rest[name][:, j], 1.0, int(evidence[j]))
                    rows[name].append([high - low, low <= true[name][j] <= high, *_wrong(found[name], j)])
        table[support] = {name: _summary(rows[name], true[name]) for name in SCORES}
        told = "   ".join(f"{name}: {_told(table[support][name])}" for name in SCORES)
        print(f"{support:3} photos   {told}", flush=True)
    return table


def _wrong(found: NDArray, j: int) -> tuple[float]:
    """Return how often label j is ranked wrongly against its neighbour of the other kind."""
    hard, easy = found[j - j % 2], found[j - j % 2 + 1]
    return (float(hard > easy) + 0.5 * float(hard == easy),)


def _summary(rows: list, true: NDArray) -> dict[str, float]:
    width, covered, wrong = np.array(rows, float).mean(axis=0).tolist()
    return {
        "difference": float(true[1::2].mean() - true[::2].mean()),
        "width": width,
        "covered": covered,
        "wrong": wrong,
    }


def _told(row: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in row.items())


def _sample(rng: np.random.Generator, centers: NDArray, noise: NDArray, n: int) -> tuple[NDArray[np.int8], NDArray]:
    logits, targets = draw(rng, centers, n)
    return targets, expit(predicted(rng, logits, centers, noise)).astype(np.float32)


def _with_support(
    rng: np.random.Generator, centers: NDArray, noise: NDArray, support: int
) -> tuple[NDArray[np.int8], NDArray]:
    """Return test photos of which exactly ``support`` show each label."""
    targets, p = _sample(rng, centers, noise, 40 * PHOTOS)
    chosen_targets, chosen = np.zeros((PHOTOS, LABELS), np.int8), np.zeros((PHOTOS, LABELS), np.float32)
    chosen_targets[:support] = 1
    for j in range(LABELS):
        chosen[:support, j] = p[np.flatnonzero(targets[:, j] == 1)[:support], j]
        chosen[support:, j] = p[np.flatnonzero(targets[:, j] == 0)[: PHOTOS - support], j]
    return chosen_targets, chosen


def comparison_table(sets: int) -> dict[str, dict[int, float]]:
    """Return how often test mAP prefers the worse model, by the minimum number of photos."""
    table = {}
    for cell in ("1-60", "1-60, rare labels differ"):
        support = CELLS[cell]
        centers = np.array([center_of_share(n / 150) for n in support])
        worse = worse_noise(centers, support < np.median(support) if "rare" in cell else np.ones(LABELS, bool))
        rng, wrong = np.random.default_rng(0), {least: [] for least in MINIMA}
        for _ in range(sets):
            logits, targets = draw(rng, centers, 150)
            a, b = (average_precisions(targets, predicted(rng, logits, centers, n)) for n in (NOISE, worse))
            for least in MINIMA:
                judged = targets.sum(axis=0) >= least
                lead = float(label_mean(a[None], judged)[0] - label_mean(b[None], judged)[0])
                wrong[least].append((lead < 0) + 0.5 * (lead == 0))
        table[cell] = {least: float(np.mean(values)) for least, values in wrong.items()}
        print(f"{cell}: wrong " + ", ".join(f"{value:.3f} from {least}" for least, value in table[cell].items()))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("min_photos"))
    arguments = parser.parse_args()
    record = {"comparisons": comparison_table(4 * arguments.sets), "labels": label_table(arguments.sets // 10)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "min_photos.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

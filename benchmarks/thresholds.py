"""What calibration and polytag's thresholds gain over simpler rules, on your own data.

    python benchmarks/thresholds.py DATA [--seeds 3] [--halves 10] [--out thresholds]
    python benchmarks/thresholds.py DATA --bundle RUN/transfer

Probabilities come from logistic regression on the training photos' frozen embeddings, for several seeds of the split;
or from a bundle, whose split is repeated and whose probabilities are calibrated already. Calibration and thresholds
are chosen on validation photos and judged on test photos. Each row of the first table is a rule's score and how far
polytag's default ("f1") is ahead, with the 95 % interval of a paired jackknife. The second table does not use test
photos: rules are fitted to one half of the validation photos and judged on the other. Both are written to
OUT/thresholds.json, and the first is drawn in OUT/thresholds.png.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

import polytag as pt
from polytag.evaluation.calibration import choose_calibration
from polytag.evaluation.intervals import spread
from polytag.evaluation.jackknife import blocks_of, left_out
from polytag.evaluation.metrics import scores
from polytag.evaluation.thresholds import best_f1_threshold, choose_thresholds
from polytag.models.backbones.embed import embeddings_of

Part = tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int64]]
"""Targets, probabilities and groups of photos."""

SCORES = ("macro_f1", "samples_f1", "subset_accuracy")
OURS = "polytag, f1"


def naive(targets: NDArray[np.int8], probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each label's best cut."""
    known = targets >= 0
    cuts = [best_f1_threshold(targets[rows, j] == 1, probabilities[rows, j]) for j, rows in enumerate(known.T)]
    return np.array(cuts, np.float32)


def half(targets: NDArray[np.int8], probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """0.5 for every label."""
    return np.full(targets.shape[1], 0.5, np.float32)


RULES: dict[str, tuple[bool, Callable[[NDArray, NDArray], NDArray[np.float32]]]] = {
    OURS: (True, choose_thresholds),
    "polytag, subset": (True, lambda targets, p: choose_thresholds(targets, p, "subset")),
    "0.5, calibrated": (True, half),
    "0.5, uncalibrated": (False, half),
    "each label's best F1": (False, naive),
}
"""Whether probabilities are calibrated, and how thresholds are chosen."""


def ruled(chosen_on: Part, judged_on: Part, seed: int) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """For each rule, the probabilities of the photos to judge and the thresholds chosen on the other photos."""
    calibration, _ = choose_calibration(*chosen_on, seed)
    both = {True: calibration, False: lambda p: p}
    return {
        name: (both[calibrate](judged_on[1]), rule(chosen_on[0], both[calibrate](chosen_on[1])))
        for name, (calibrate, rule) in RULES.items()
    }


def probabilities_of_regression(train: pt.Dataset, others: list[pt.Dataset]) -> list[NDArray[np.float32]]:
    """Probabilities from logistic regression on embeddings; a label that cannot be learned gets its frequency."""
    embedded = [embeddings_of(part.paths) for part in (train, *others)]
    if any(features is None for features in embedded):
        raise SystemExit("this benchmark needs pretrained weights")
    first, *rest = [normalize(features[:]) for features in embedded]
    results = [np.full(part.targets.shape, 0.5, np.float32) for part in others]
    for j, rows in enumerate((train.targets >= 0).T):
        present = train.targets[rows, j] == 1
        if 0 < present.sum() < len(present):
            model = LogisticRegression(C=10, max_iter=1000).fit(first[rows], present)
            for result, features in zip(results, rest, strict=True):
                result[:, j] = model.predict_proba(features)[:, 1]
        else:
            for result in results:
                result[:, j] = present.mean() if len(present) else 0.5
    return results


def splits(data: pt.Dataset, seeds: int, bundle: Path | None) -> list[tuple[int, Part, Part]]:
    """The validation and the test part of each seed."""
    found = []
    opened = None if bundle is None else pt.Bundle(bundle)
    for seed in range(seeds) if opened is None else [opened.manifest["recipe"]["seed"]]:
        train, validation, test = pt.split(data, seed=seed)
        if opened is None:
            both = probabilities_of_regression(train, [validation, test])
        elif opened.seen(test).any():
            raise SystemExit(f"{bundle} was trained on photos of this split's test part: name the data it came from")
        else:
            both = [opened.predict(part.paths)[0] for part in (validation, test)]
        found.append(
            (seed, *((part.targets, p, part.groups) for part, p in zip((validation, test), both, strict=True)))
        )
    return found


def on_test(parts: list[tuple[int, Part, Part]]) -> dict[str, dict[str, list[float]]]:
    """For each rule and score: its mean, and the mean and interval of the lead of `OURS`."""
    points: dict[str, list[dict[str, float]]] = {name: [] for name in RULES}
    errors: dict[str, list[dict[str, float]]] = {name: [] for name in RULES}
    for seed, validation, test in parts:
        rules, blocks = ruled(validation, test, seed), blocks_of(test[2])
        rest = {name: left_out(test[0], p, thresholds, blocks)[0] for name, (p, thresholds) in rules.items()}
        for name, (p, thresholds) in rules.items():
            points[name].append(scores(test[0], p, thresholds))
            gained = {score: points[OURS][-1][score] - points[name][-1][score] for score in SCORES}
            found = {
                score: spread([gained[score]], (rest[OURS][score] - rest[name][score])[:, None]) for score in SCORES
            }
            errors[name].append({score: float(spread_.error[0]) for score, spread_ in found.items()})
    table: dict[str, dict[str, list[float]]] = {}
    for name in RULES:
        table[name] = {}
        for score in SCORES:
            gain = np.mean([a[score] - b[score] for a, b in zip(points[OURS], points[name], strict=True)])
            half = 1.96 * np.sqrt(np.sum([error[score] ** 2 for error in errors[name]])) / len(parts)
            table[name][score] = [np.mean([point[score] for point in points[name]]), gain, gain - half, gain + half]
    return table


def on_halves(parts: list[tuple[int, Part, Part]], repetitions: int) -> dict[str, dict[str, float]]:
    """For each rule and score: its mean on halves of the validation photos, chosen on the other halves."""
    found: dict[str, list[list[float]]] = {name: [] for name in RULES}
    for seed, validation, _ in parts:
        _, number = np.unique(validation[2], return_inverse=True)
        rng = np.random.default_rng(seed)
        for _ in range(repetitions):
            mine = (rng.permutation(number.max() + 1) % 2)[number] == 0
            for rows in (mine, ~mine):
                here, there = (tuple(array[r] for array in validation) for r in (rows, ~rows))
                for name, (p, thresholds) in ruled(here, there, seed).items():
                    judged = scores(there[0], p, thresholds)
                    found[name].append([judged[score] for score in SCORES])
    return {name: dict(zip(SCORES, np.mean(values, axis=0), strict=True)) for name, values in found.items()}


def draw(table: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Plot the lead of `OURS` over each other rule, with intervals."""
    others = [name for name in table if name != OURS]
    figure = Figure(figsize=(11, 2.6), layout="constrained")
    for axes, score in zip(figure.subplots(1, len(SCORES), sharey=True), SCORES, strict=True):
        for y, name in enumerate(others):
            _, difference, low, high = table[name][score]
            axes.plot([low, high], [y, y], color="#1769aa", linewidth=2)
            axes.plot(difference, y, "o", color="#1769aa")
        axes.axvline(0, color="#20242b", linewidth=1, linestyle="--")
        axes.set_yticks(range(len(others)), others)
        axes.set_ylim(len(others) - 0.5, -0.5)
        axes.set_title(f"{score.replace('_', ' ')}: ahead by")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--halves", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("thresholds"))
    arguments = parser.parse_args()
    data = pt.read(arguments.data, conflicts="unknown")
    parts = splits(data, arguments.seeds, arguments.bundle)
    test, halves = on_test(parts), on_halves(parts, arguments.halves)
    print(f"on test photos, {len(parts)} split(s)\n{'':22}" + "".join(f"{score:>34}" for score in SCORES))
    for name, row in test.items():
        cells = [f"{mean:.4f} {ahead:+.4f} [{low:+.4f}, {high:+.4f}]" for mean, ahead, low, high in row.values()]
        print(f"{name:22}" + "".join(f"{cell:>34}" for cell in cells))
    print(f"\non halves of validation\n{'':22}" + "".join(f"{score:>18}" for score in SCORES))
    for name, means in halves.items():
        print(f"{name:22}" + "".join(f"{mean:18.4f}" for mean in means.values()))
    arguments.out.mkdir(parents=True, exist_ok=True)
    kinds = [choose_calibration(*validation, seed) for seed, validation, _ in parts]
    record = {
        "data": data.fingerprint,
        "calibration": [{"kind": calibration.kind, "log_loss": losses} for calibration, losses in kinds],
        "test": test,
        "halves": halves,
    }
    (arguments.out / "thresholds.json").write_text(json.dumps(record, indent=2) + "\n")
    draw(test, arguments.out / "thresholds.png")
    print(f"\n{arguments.out / 'thresholds.json'}, {arguments.out / 'thresholds.png'}")


if __name__ == "__main__":
    main()

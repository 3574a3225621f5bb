"""Do thresholds reach on new photos what their objective says? By simulation.

    python benchmarks/objectives.py [--sets 200] [--photos 300] [--data DATA] [--out objectives]

Each simulated set has 20 labels, half of them easy and half hard, with 3 to 40 % of the photos, and probabilities that
are overconfident. Calibration and thresholds are chosen on the validation photos and judged on 20,000 new ones. The
table shows for each objective the mean of what is reached, in how many cases it is at least (fnr: at most) the value,
the mean recall, and the share of labels that are named as out of reach and left out here. "counted" is the simple rule:
the lowest threshold whose precision on the validation photos reaches the value.

With --data, a frozen network is trained on real photos, and the test photos of several splits take the place of the new
ones. A label's precision is then itself measured on few photos.
"""

import argparse
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from polytag.evaluation.calibration import choose_calibration
from polytag.evaluation.metrics import label_scores
from polytag.evaluation.thresholds import choose_thresholds, out_of_reach

LABELS, NEW, OVERCONFIDENCE = 20, 20_000, 1.6


def draw(rng: np.random.Generator, n: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the targets and overconfident probabilities of n photos."""
    spread = np.where(np.arange(LABELS) % 2, 4.0, 2.0)
    centers = np.log(np.geomspace(0.03, 0.4, LABELS)) * np.sqrt(1 + spread**2 / 4)
    logits = centers + spread * rng.standard_normal((n, LABELS))
    targets = (rng.random((n, LABELS)) < expit(logits)).astype(np.int8)
    return targets, expit(OVERCONFIDENCE * logits).astype(np.float32)


def counted(targets: NDArray[np.int8], p: NDArray[np.float32], wanted: float) -> NDArray[np.float32]:
    """Return, for each label, the lowest threshold at which the precision on these photos reaches the value."""
    chosen = np.full(targets.shape[1], 0.5, np.float32)
    for j in range(targets.shape[1]):
        order = np.argsort(-p[:, j])
        precision = np.cumsum(targets[order, j]) / np.arange(1, len(order) + 1)
        reached = np.flatnonzero(precision >= wanted)
        chosen[j] = p[order[reached[-1] if len(reached) else precision.argmax()], j]
    return chosen


def missed_share(targets: NDArray[np.int8], p: NDArray[np.float32], thresholds: NDArray[np.float32]) -> float:
    """Return the mean fraction of a photo's labels that are missed, over photos with labels."""
    present = targets == 1
    missed, n = (present & (p < thresholds)).sum(axis=1), present.sum(axis=1)
    return float((missed[n > 0] / n[n > 0]).mean())


Row = dict[str, list[float]]


def simulate(sets: int, photos: int) -> dict[str, Row]:
    """Return what each objective reaches on new photos of the simulated kind."""
    rng = np.random.default_rng(0)
    new_targets, new = draw(rng, NEW)
    found: dict[str, Row] = defaultdict(lambda: defaultdict(list))
    for seed in range(sets):
        targets, raw = draw(rng, photos)
        judge(found, targets, raw, np.arange(photos), new_targets, new, seed)
    return found


def real(data: Path, seeds: list[int]) -> dict[str, Row]:
    """Return what each objective reaches on the test photos, with a frozen network and several splits."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import polytag as pt
    from polytag.models.backbones.embed import embed
    from polytag.models.backbones.weights import find_weights
    from polytag.models.recipe import Recipe
    from polytag.models.training.transfer import fit_head, head_batches
    from polytag.photos.pixels import pixels

    photos, weights = pt.read(data, conflicts="unknown"), find_weights()
    photos = photos.without(pixels(photos.paths, 224)[2])
    found: dict[str, Row] = defaultdict(lambda: defaultdict(list))
    for seed in seeds:
        train, validation, test = pt.split(photos, seed=seed)
        recipe = Recipe.of("transfer", seed=seed)
        network, fitted = fit_head(*head_batches(train, validation, recipe, weights, False), recipe, False)
        new = network.predict(embed(test.paths, 224, weights)[:], verbose=0)
        judge(found, validation.targets, fitted.probabilities, validation.groups, test.targets, new, seed)
    return found


def judge(
    found: dict[str, Row],
    targets: NDArray[np.int8],
    raw: NDArray[np.float32],
    groups: NDArray[np.int64],
    new_targets: NDArray[np.int8],
    new: NDArray[np.float32],
    seed: int,
) -> None:
    """Choose calibration and thresholds on the validation photos, and add what they reach on the new photos."""
    calibration, _ = choose_calibration(targets, raw, groups, seed)
    p, there = calibration(raw), calibration(new)
    for objective in ("precision=0.9", "precision=0.8", "counted=0.9", "fnr=0.1", "fnr=0.05"):
        name, wanted = objective.split("=")
        simple = name == "counted"
        thresholds = counted(targets, p, 0.9) if simple else choose_thresholds(targets, p, objective, groups)
        usable = ~out_of_reach(targets, p, "precision=0.9" if simple else objective, groups)
        judged = label_scores(new_targets, there, thresholds)
        row = found[objective]
        row["out of reach"].append(float(np.mean(~usable)))
        row["recall"].append(float(np.nanmean(judged["recall"][usable])) if usable.any() else np.nan)
        if name == "fnr":
            reached = np.array([missed_share(new_targets, there, thresholds)])
            row["kept"].append(float(reached[0] <= float(wanted)))
        else:
            reached = judged["precision"][usable & np.isfinite(judged["precision"])]
            row["kept"].extend((reached >= float(wanted)).tolist())
        row["reached"].extend(reached.tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--photos", type=int, default=300, help="validation photos")
    parser.add_argument("--data", type=Path, help="photos with labels, instead of the simulation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="splits of --data")
    parser.add_argument("--out", type=Path, default=Path("objectives"))
    arguments = parser.parse_args()
    if arguments.data is None:
        found = simulate(arguments.sets, arguments.photos)
    else:
        found = real(arguments.data, arguments.seeds)
    table = {
        objective: {what: float(np.nanmean(values)) if values else None for what, values in row.items()}
        for objective, row in found.items()
    }
    columns = ("reached", "kept", "recall", "out of reach")
    print(f"{'objective':16}" + "".join(f"{column:>14}" for column in columns))
    for objective, row in table.items():
        cells = ("–" if row.get(column) is None else f"{row[column]:.3f}" for column in columns)
        print(f"{objective:16}" + "".join(f"{cell:>14}" for cell in cells))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "objectives.json").write_text(json.dumps(table, indent=2) + "\n")
    print(f"\n{arguments.out / 'objectives.json'}")


if __name__ == "__main__":
    main()

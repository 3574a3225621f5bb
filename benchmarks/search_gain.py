"""What does the hyperparameter search of `tuned` gain, and what do its schedule, augmentation and image size?

    python benchmarks/search_gain.py DATA --out FILE [--trials 1 2 20] [--seeds 0 1 2] [--image-size 224]

Compares the baseline with `tuned` after searches of different lengths. The first trial is fixed: it has the baseline's
architecture and learning rate. The second one is fixed too. So the difference between the baseline and one trial comes
from schedule, augmentation and image size alone, that between two trials and more comes from the search, and "tuned −
baseline" in a report is the sum. All are trained on the same split of each seed and scored once on its test photos. The
table shows the mean over the seeds and its standard error. The JSON FILE keeps finished rows.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import polytag as pt
from polytag.files import write_json

SCORES = ("mean_average_precision", "samples_f1", "subset_accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trials", type=int, nargs="*", default=[1, 2, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--no-baseline", action="store_true", help="Leave out the baseline, which takes longest.")
    arguments = parser.parse_args()
    data = pt.read(arguments.data, conflicts="unknown")
    rows: dict[str, dict] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    parts = [] if arguments.no_baseline else ["baseline"]
    parts += [f"tuned, {n} trial{'s' * (n > 1)}" for n in arguments.trials]
    print(f"{'':18} {'seed':>4} {'minutes':>7} " + " ".join(f"{score:>22}" for score in SCORES))
    for part in parts:
        for seed in arguments.seeds:
            key = f"{data.fingerprint}, {arguments.image_size} px, {part}, seed {seed}"
            if key not in rows:
                rows[key] = {"part": part, "seed": seed} | measured(data, part, arguments.image_size, seed)
                write_json(arguments.out, rows)
            row = rows[key]
            scores = " ".join(f"{row[score]:22.4f}" for score in SCORES)
            print(f"{part:18} {seed:4} {row['minutes']:7.1f} {scores}", flush=True)
        several = [r for r in rows.values() if r["part"] == part and r["seed"] in arguments.seeds]
        for name, summary in (("mean", np.mean), ("se", standard_error)):
            scores = " ".join(f"{summary([r[score] for r in several]):22.4f}" for score in SCORES)
            print(f"{part:18} {name:>4} {summary([r['minutes'] for r in several]):7.1f} {scores}")


def measured(data: pt.Dataset, part: str, image_size: int, seed: int) -> dict:
    """Scores of one training, with the settings of the best trial."""
    model, _, trials = part.partition(", ")
    train, validation, test = pt.split(data, seed=seed)
    length = {"trials": int(trials.split()[0])} if trials else {}
    bundle = pt.fit(train, validation, model, image_size=image_size, seed=seed, show_progress=False, **length)
    evaluation = pt.evaluate(bundle, test)
    return {
        "minutes": bundle.manifest["fit_seconds"] / 60,
        "recipe": bundle.manifest["recipe"],
        **{score: evaluation.scores[score] for score in SCORES},
    }


def standard_error(values: list[float]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


if __name__ == "__main__":
    main()

"""Test scores of transfer, frozen and fine-tuned, over several seeds of split and training.

    python benchmarks/transfer.py DATA --out FILE [--backbone efficientnet_lite0] [--fine-tune 0 4 20] [--seeds 0 1 2]

Each row is scored once on the test photos of its split. Minutes are those of fitting; photos and embeddings already in
the cache are not counted. The JSON FILE keeps finished rows; run the command again to add missing ones.
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
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--fine-tune", type=int, nargs="+", default=[0, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--image-size", type=int, default=224)
    arguments = parser.parse_args()
    data = pt.read(arguments.data, conflicts="unknown")
    rows: list[dict] = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
    print(f"{'fine-tune':>9} {'seed':>4} {'minutes':>7} {'validation mAP':>14} " + " ".join(f"{s:>22}" for s in SCORES))
    for epochs in arguments.fine_tune:
        wanted = {
            "data": data.fingerprint,
            "backbone": arguments.backbone,
            "image_size": arguments.image_size,
            "fine_tune": epochs,
        }
        for seed in arguments.seeds:
            row = next((r for r in rows if wanted | {"seed": seed} == {k: r[k] for k in (*wanted, "seed")}), None)
            if row is None:
                row = wanted | {"seed": seed} | measured(data, arguments.backbone, arguments.image_size, epochs, seed)
                rows.append(row)
                write_json(arguments.out, rows)
            show(epochs, str(seed), row)
        several = [r for r in rows if wanted == {k: r[k] for k in wanted} and r["seed"] in arguments.seeds]
        for name, summary in (("mean", np.mean), ("sd", lambda values: np.std(values, ddof=min(1, len(values) - 1)))):
            figures = ("minutes", "validation", *SCORES)
            show(epochs, name, {figure: float(summary([r[figure] for r in several])) for figure in figures})


def measured(data: pt.Dataset, backbone: str, image_size: int, epochs: int, seed: int) -> dict:
    """Scores of one training."""
    train, validation, test = pt.split(data, seed=seed)
    bundle = pt.fit(train, validation, backbone=backbone, image_size=image_size, fine_tune=epochs, seed=seed)
    evaluation = pt.evaluate(bundle, test)
    return {
        "minutes": bundle.manifest["fit_seconds"] / 60,
        "validation": bundle.manifest["validation"]["mean_average_precision"],
        "fine_tuning": bundle.manifest["fine_tuning"],
        "calibration": bundle.manifest["calibration"]["kind"],
        **{score: evaluation.scores[score] for score in SCORES},
    }


def show(epochs: int, name: str, row: dict) -> None:
    scores = " ".join(f"{row[score]:22.4f}" for score in SCORES)
    print(f"{epochs:9} {name:>4} {row['minutes']:7.1f} {row['validation']:14.4f} {scores}", flush=True)


if __name__ == "__main__":
    main()

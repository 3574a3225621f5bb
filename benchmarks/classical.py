"""Scores and fitting times of the classical methods, on polytag's split and embeddings.

    python benchmarks/classical.py DATA [--seed 0] [--out classical.json]

Thresholds are chosen on validation photos, as in `polytag compare`, so validation scores are optimistic; test scores
are not. Seconds are those of fitting, with embeddings in the cache. On a shared machine, processor seconds are more
reliable.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import polytag as pt
from polytag.data.dataset import Dataset
from polytag.evaluation.calibration import choose_calibration
from polytag.evaluation.metrics import scores
from polytag.evaluation.thresholds import choose_thresholds
from polytag.models.backbones.embed import embed
from polytag.models.backbones.weights import find_weights
from polytag.models.classical.methods import fit_head
from polytag.models.recipe import CLASSICAL
from polytag.photos.pixels import pixels

SHOWN = ("mean_average_precision", "samples_f1", "subset_accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    weights = find_weights()

    def embedded(part: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part = part.without(pixels(part.paths, arguments.image_size)[2])
        features = embed(part.paths, arguments.image_size, weights)[:]
        return features, part.targets, part.groups

    train, validation, test = map(embedded, pt.split(pt.read(arguments.data, conflicts="unknown"), seed=arguments.seed))
    print(f"{len(train[0]):,} training, {len(validation[0]):,} validation, {len(test[0]):,} test photos")
    heads = [f"{part} {short}" for part in ("val", "test") for short in ("mAP", "F1", "subset")]
    print(f"{'':<17}" + "".join(f"{head:>12}" for head in (*heads, "seconds", "processor")) + "  chosen")
    results = {}
    for name in CLASSICAL:
        start, processor = time.perf_counter(), time.process_time()
        network, chosen, _ = fit_head(name, *train[:2], *validation[:2], seed=arguments.seed)
        row = {
            "seconds": round(time.perf_counter() - start, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
        }
        probabilities = [network.predict(x, verbose=0) for x, *_ in (validation, test)]
        calibration, _ = choose_calibration(validation[1], probabilities[0], validation[2], arguments.seed)
        probabilities = [calibration(p) for p in probabilities]
        thresholds = choose_thresholds(validation[1], probabilities[0])
        for part, (_, targets, _), p in zip(("validation", "test"), (validation, test), probabilities, strict=True):
            judged = scores(targets, p, thresholds)
            row |= {f"{part}_{score}": round(judged[score], 4) for score in SHOWN}
        results[name] = row | {"chosen": chosen}
        shown = [row[f"{part}_{score}"] for part in ("validation", "test") for score in SHOWN]
        told = ", ".join(f"{key} {value}" for key, value in chosen.items())
        times = f"{row['seconds']:12.1f}{row['processor_seconds']:12.1f}"
        print(f"{name:<17}" + "".join(f"{value:12.3f}" for value in shown) + f"{times}  {told}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

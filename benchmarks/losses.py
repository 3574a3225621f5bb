"""Which loss works best for a frozen transfer model: validation mAP and log loss over several seeds.

    python benchmarks/losses.py DATA [--seeds 0 1 2] [--backbone mobilenet_v2] [--image-size 224] [--out FILE]

All train the same head on the same embeddings with the same optimizer and early stopping. The log loss is that of raw
probabilities, before calibration. This is a choice, so test photos are not used.
"""

import argparse
from pathlib import Path

from choices import Results, show

import polytag as pt
from polytag.evaluation.selection import VALIDATION_SCORE
from polytag.files import write_json
from polytag.models.backbones.weights import find_weights
from polytag.models.recipe import Recipe
from polytag.models.training.losses import LOSSES
from polytag.models.training.transfer import fit_head, head_batches
from polytag.photos.pixels import pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    data = pt.read(arguments.data, conflicts="unknown")
    data = data.without(pixels(data.paths, arguments.image_size)[2])
    weights = find_weights(backbone=arguments.backbone)
    results: Results = {loss: {"validation mAP": [], "log loss": []} for loss in LOSSES}
    for seed in arguments.seeds:
        train, validation, _ = pt.split(data, seed=seed)
        for loss, result in results.items():
            settings = {"backbone": arguments.backbone, "image_size": arguments.image_size}
            recipe = Recipe.of("transfer", loss=loss, seed=seed, **settings)
            _, fitted = fit_head(*head_batches(train, validation, recipe, weights, True), recipe, True)
            kept = fitted.history[fitted.kept or 0]
            result["validation mAP"].append(kept[VALIDATION_SCORE])
            result["log loss"].append(kept["validation_loss"])
        if arguments.out:
            write_json(arguments.out, results)
    show(results, "log loss", 4)


if __name__ == "__main__":
    main()

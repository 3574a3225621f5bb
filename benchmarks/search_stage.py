"""Whether short trainings rank hyperparameters as full ones do: random settings of the tuned CNN, trained both ways.

    python benchmarks/search_stage.py DATA [--settings 12] [--stages 2000x10 1000x5] [--epochs 60] [--json F] [--plot F]

A stage is PHOTOSxEPOCHS; the first is the one that the search uses. For each stage it prints Spearman's rank
correlation between its validation mAP and that of the full training (all photos, all epochs), with a 95 % interval
(bootstrap over the settings); how far below the best its choice ends; and its share of the full training's time. Test
photos are not used. The JSON is updated after each setting.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import optuna
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr

import polytag as pt
from polytag.models.search.spaces import STAGE_EPOCHS, STAGE_PHOTOS, cnn_score, cnn_space
from polytag.photos.pixels import pixels


def correlation(stage: NDArray, full: NDArray) -> tuple[float, float, float]:
    """Spearman's rank correlation and its 95 % interval; NaN where undefined."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(full), size=len(full)) for _ in range(1000)]
    # A resample that repeats a single setting has no ranks.
    values = [spearmanr(stage[d], full[d]).statistic for d in draws if len(set(stage[d])) > 1 < len(set(full[d]))]
    low, high = np.percentile(values, [2.5, 97.5]) if values else (np.nan, np.nan)
    return float(spearmanr(stage, full).statistic), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--settings", type=int, default=12)
    parser.add_argument("--stages", nargs="+", default=[f"{STAGE_PHOTOS}x{STAGE_EPOCHS}", "1000x5"])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    data = pt.read(arguments.data, conflicts="unknown")
    if arguments.images:
        data = data.take(np.sort(np.random.default_rng(0).permutation(len(data))[: arguments.images]))
    data = data.without(pixels(data.paths, arguments.image_size)[2])
    train, validation, _ = pt.split(data, seed=arguments.seed)
    recipe = pt.Recipe.of("tuned", image_size=arguments.image_size, epochs=arguments.epochs, seed=arguments.seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=arguments.seed))
    trainings = {stage: tuple(map(int, stage.split("x"))) for stage in arguments.stages}
    trainings["full"] = (len(train), recipe.epochs)
    scores: dict[str, list[float]] = {name: [] for name in trainings}
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    settings: list[dict] = []
    for number in range(arguments.settings):
        trial = study.ask()
        candidate = cnn_space(trial, recipe, ())
        settings.append(dict(trial.params))
        for name, (photos, epochs) in trainings.items():
            start = time.perf_counter()
            score = cnn_score(train, validation, candidate, lambda epoch, value: None, photos=photos, epochs=epochs)
            scores[name].append(round(score, 4))
            seconds[name].append(round(time.perf_counter() - start, 1))
        print(f"{number + 1}/{arguments.settings}: " + ", ".join(f"{name} {s[-1]:.3f}" for name, s in scores.items()))
        full = np.array(scores["full"])
        found = {"settings": settings, "scores": scores, "seconds": seconds, "stages": {}}
        for name in arguments.stages if number else []:
            stage = np.array(scores[name])
            value, low, high = correlation(stage, full)
            found["stages"][name] = {
                "spearman": round(value, 3),
                "low": round(low, 3),
                "high": round(high, 3),
                "regret": round(float(full.max() - full[stage.argmax()]), 4),
                "time": round(sum(seconds[name]) / sum(seconds["full"]), 3),
            }
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["stages"], indent=2))
    if arguments.plot:
        figure = Figure(figsize=(3.2 * len(arguments.stages), 3), layout="constrained")
        for axes, name in zip(np.ravel(figure.subplots(1, len(arguments.stages))), arguments.stages, strict=True):
            axes.plot(scores[name], full, "o")
            axes.set(xlabel=f"validation mAP, {name}", ylabel="validation mAP, full training")
        figure.savefig(arguments.plot, dpi=120)


if __name__ == "__main__":
    main()

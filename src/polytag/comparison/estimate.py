"""How long each training of a comparison takes, estimated from a few timed photos."""

import math

import numpy as np

from polytag.comparison.plan import Plan
from polytag.data.dataset import Dataset
from polytag.data.splitting.stratify import RATIOS
from polytag.models.backbones.weights import is_installed
from polytag.models.budget.plan import HEAD_SECONDS, START_SECONDS
from polytag.models.budget.rates import measure
from polytag.models.encoders.encoder import Encoder
from polytag.models.options import TrainOptions, is_searched
from polytag.models.recipe import fine_tuning_size, takes
from polytag.photos.measure import SIDE

BASELINE_COST, TUNED_COST, FINE_TUNING_COST = 4.5, 0.5, 3.2
"""Time per photo and epoch, relative to embedding a photo at 224 px. From the training times on scenes5 and coco18 in
docs/benchmarks.md, where embedding takes 5.6 ms."""


def expected_seconds(data: Dataset, plan: Plan) -> dict[str, tuple[float, float]]:
    """Return the expected time to train each model the first time and again, and under "" the time to read all photos.

    Photos are embedded once for all models with the same backbone and image size. Early stopping and pruned trials may
    make training shorter. Times are rough: within a factor of two on a machine that does nothing else.

    Args:
        data: the photos. About 100 of them are read and embedded, which leaves them in the cache.
        plan: the plan of the comparison.

    Returns:
        Times in seconds; empty if there is no backbone whose speed could be measured.
    """
    # Imported here because they load Keras.
    from polytag.models.search.spaces import STAGE_EPOCHS, STAGE_PHOTOS
    from polytag.models.training.fine_tuning import default_epochs

    embedded = {model: (plan.recipes[model].backbone, plan.recipes[model].image_size) for model in plan.weights}
    backbones = [embedded[model] for model, weights in plan.weights.items() if not isinstance(weights, Encoder)]
    candidates = list(dict.fromkeys(embedded.values()))
    # Networks that train on photos are compared with a backbone. No encoder can stand in for one.
    if not backbones and len(plan.weights) < len(plan.recipes):
        if not is_installed("mobilenet_v2"):
            return {}
        backbones = [("mobilenet_v2", 224)]
        candidates += backbones
    # Other photos each time: those of an earlier run are in the cache, and would be faster than the rest.
    order = np.random.default_rng().permutation(len(data))
    rates = measure(data.paths[order], candidates, {one.backbone: one for one in plan.weights.values()})
    unit = 0.0
    if backbones:
        backbone, size = next((one for one in backbones if one[0] == "mobilenet_v2"), backbones[0])
        unit = rates.embedding[backbone, size] * (224 / size) ** 2
    train = len(data) * RATIOS[0]
    slowest = max(rates.reading.values())
    found = {"": (len(data) * sum(rates.reading.get(size, slowest) for size in {SIDE, *plan.sizes}), 0.0)}
    seen = set()
    for model, recipe in plan.recipes.items():
        once = 0.0
        if model == "baseline":
            seconds = recipe.epochs * train * unit * BASELINE_COST * (recipe.image_size / 224) ** 2
        elif model == "tuned":
            trial = STAGE_EPOCHS * min(train, STAGE_PHOTOS) * unit * TUNED_COST
            seconds = recipe.epochs * train * unit * TUNED_COST + _search_seconds(plan.options[model], trial)
        else:
            epochs = default_epochs(int(train)) if recipe.fine_tune is None else recipe.fine_tune
            # Measured: MobileNetV2 and EfficientNet-Lite take about as long at the same size.
            step = unit * FINE_TUNING_COST * (fine_tuning_size(recipe.image_size) / 224) ** 2
            seconds = len(data) * HEAD_SECONDS + (epochs * train * step if takes(model, "fine_tune") else 0.0)
            if is_searched(model, plan.options[model]):
                seconds += _search_seconds(plan.options[model], len(data) * HEAD_SECONDS)
            if embedded[model] not in seen:
                once = len(data) * rates.embedding[embedded[model]]
                seen.add(embedded[model])
        found[model] = (START_SECONDS + seconds + once, START_SECONDS + seconds)
    return found


def _search_seconds(options: TrainOptions, trial: float) -> float:
    """Return the time of a search whose trials take this time, both in seconds."""
    return min(math.inf if options.trials is None else options.trials * trial, options.seconds or math.inf)

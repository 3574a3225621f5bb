"""What improves transfer on frozen embeddings: other backbones and sizes, kernel ridge, averages, and more.

    python benchmarks/candidates.py DATA [--photos 2400] [--backbones mobilenet_v2@224 …] [--more refit …] [--out FILE]

Everything is trained on a fixed part of DATA, with a split of its own for each seed. The table shows validation mAP,
because this is a choice, and test mAP for information. The candidates on the best backbone, the last of the list:

- "head", "kernel ridge" and "average" (of their logits), for each backbone and size;
- "all backbones": the average over all backbones named;
- "flipped too": probabilities averaged over the photo and its mirror image;
- "distilled": a head that also learns from out-of-fold probabilities of "all backbones";
- "less data" and "refit": trained on 14/17 of the training photos, and refitted to all of them after all choices were
  made on the others. The difference is the gain of refitting, measured on photos that neither saw.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

import polytag as pt
from polytag.evaluation.metrics import scores
from polytag.files import write_json
from polytag.models.backbones.embed import embed
from polytag.models.backbones.weights import find_weights
from polytag.models.backend import keras
from polytag.models.classical.kernel_ridge import KernelRidge, fit_kernel_ridge, fits
from polytag.models.networks.architectures import head
from polytag.models.recipe import Recipe
from polytag.models.training.batches import Batches
from polytag.models.training.loop import Fitted
from polytag.models.training.losses import LOSSES
from polytag.models.training.transfer import fit_head
from polytag.photos.pixels import View, pixels

FOLDS = 3

MORE = ("flipped", "distilled", "refit")


class Held:
    """Embeddings in memory in place of a cache."""

    def __init__(self, values: NDArray[np.float32]):
        self._values, self.shape = values, values.shape[1:]

    def read(self, rows: NDArray[np.int64], *_: object) -> NDArray[np.float32]:
        return self._values[rows]


@dataclass
class Part:
    """Photos with embeddings by backbone."""

    embeddings: dict[str, NDArray[np.float32]]
    targets: NDArray

    def take(self, rows: NDArray[np.int64]) -> "Part":
        return Part({name: e[rows] for name, e in self.embeddings.items()}, self.targets[rows])


Logits = list[NDArray[np.float64]]
"""Logits of each part to be predicted."""

Note = Callable[[str, Logits, float], None]
"""Function that scores and prints a candidate: its name, its logits and the processor time of its start."""


def batches(part: Part, name: str, seed: int, shuffle: bool) -> Batches:
    values = part.embeddings[name]
    view = View(Held(values), np.arange(len(values)))  # type: ignore[arg-type]
    return Batches(view, part.targets, Recipe.of("transfer").batch_size, shuffle, seed=seed)


def trained_head(train: Part, validation: Part, name: str, seed: int) -> tuple[keras.Model, Fitted]:
    keras.backend.clear_session()
    parts = batches(train, name, seed, True), batches(validation, name, seed, False)
    return fit_head(*parts, Recipe.of("transfer", seed=seed), False)


def of_head(top: keras.Model, parts: Sequence[Part], name: str) -> Logits:
    found = [top.predict(part.embeddings[name], verbose=0, batch_size=512) for part in parts]
    return [logit(np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)) for p in found]


def head_logits(train: Part, validation: Part, others: Sequence[Part], name: str, seed: int) -> Logits:
    """Train transfer's head on one backbone."""
    return of_head(trained_head(train, validation, name, seed)[0], others, name)


def ridge_logits(train: Part, validation: Part, others: Sequence[Part], name: str, seed: int) -> Logits:
    """Fit kernel ridge on one backbone."""
    fitted = fit_kernel_ridge(
        train.embeddings[name], train.targets, validation.embeddings[name], validation.targets, seed
    )
    print(f"    {name}: width {fitted.width}, ridge {fitted.ridge}", flush=True)
    return [fitted.logits(part.embeddings[name]) for part in others]


def mean(several: Sequence[Logits]) -> Logits:
    return [np.mean(same, axis=0) for same in zip(*several, strict=True)]


def both(train: Part, validation: Part, others: Sequence[Part], name: str, seed: int) -> Logits:
    return mean([fit(train, validation, others, name, seed) for fit in (head_logits, ridge_logits)])


def soft_targets(train: Part, names: Sequence[str], seed: int) -> NDArray[np.float32]:
    """Return out-of-fold probabilities of all backbones' averages, mixed in equal parts with the targets."""
    folds = np.random.default_rng(seed).permutation(len(train.targets)) % FOLDS
    soft = np.zeros(train.targets.shape)
    for fold in range(FOLDS):
        mine, others = train.take(np.flatnonzero(folds == fold)), train.take(np.flatnonzero(folds != fold))
        (logits,) = mean([both(others, mine, [mine], name, seed) for name in names])
        soft[folds == fold] = expit(logits)
    return np.where(train.targets >= 0, (train.targets + soft) / 2, soft).astype(np.float32)


def refit_head(train: Batches, recipe: Recipe, fitted: Fitted) -> keras.Model:
    """Train a head on more photos, for as many epochs and with the same learning rates as the head that was kept."""
    keras.utils.set_random_seed(recipe.seed)
    top = head(train.width, train.targets.shape[1])
    rates = [epoch["learning_rate"] for epoch in fitted.history[: (fitted.kept or 0) + 1]]
    top.compile(keras.optimizers.AdamW(rates[0], recipe.weight_decay), LOSSES[recipe.loss](train.targets))
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, _: rates[epoch])
    top.fit(train, epochs=len(rates), verbose=0, shuffle=False, callbacks=[schedule])
    return top


def refitted(train: Part, others: Sequence[Part], name: str, seed: int) -> tuple[Logits, Logits]:
    """Return the logits before and after a refit, with all choices made on 3/17 of the training photos."""
    order = np.random.default_rng(seed).permutation(len(train.targets))
    cut = len(order) * 3 // 17
    inner, held = train.take(order[cut:]), train.take(order[:cut])
    top, fitted = trained_head(inner, held, name, seed)
    ridge = fit_kernel_ridge(inner.embeddings[name], inner.targets, held.embeddings[name], held.targets, seed)
    again = refit_head(batches(train, name, seed, True), Recipe.of("transfer", seed=seed), fitted)
    (ridge_again,) = fits(train.embeddings[name], train.targets, ridge.width, [ridge.ridge], seed)
    ridge_again = replace(ridge_again, slope=ridge.slope, bias=ridge.bias)

    def logits(top: keras.Model, ridge: KernelRidge) -> Logits:
        return mean([of_head(top, others, name), [ridge.logits(part.embeddings[name]) for part in others]])

    return logits(top, ridge), logits(again, ridge_again)


def measure(parts: list[Part], names: list[str], more: Sequence[str], seed: int, note: Note) -> None:
    """Train and note all candidates on one split."""
    train, validation, test = parts
    judged, last, averages = [validation, test], names[-1], []
    for name in names:
        since = time.process_time()
        plain = head_logits(train, validation, judged, name, seed)
        note(f"{name}: head", plain, since)
        since = time.process_time()
        ridge = ridge_logits(train, validation, judged, name, seed)
        note(f"{name}: kernel ridge", ridge, since)
        averages.append(mean([plain, ridge]))
        note(f"{name}: average", averages[-1], since)
    if len(names) > 1:
        note("all backbones", mean(averages), time.process_time())
    since = time.process_time()
    if "flipped" in more:
        mirrored = [Part({last: part.embeddings["flipped"]}, part.targets) for part in judged]
        seen = both(train, validation, [*judged, *mirrored], last, seed)
        note("flipped too", [np.mean(pair, axis=0) for pair in (seen[::2], seen[1::2])], since)
    if "distilled" in more:
        student = Part(train.embeddings, soft_targets(train, names, seed))
        distilled = head_logits(student, validation, judged, last, seed)
        note("distilled head", distilled, since)
        note("distilled head, average", mean([distilled, ridge]), since)
    if "refit" in more:
        for name, logits in zip(("less data", "refit"), refitted(train, judged, last, seed), strict=True):
            note(name, logits, since)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--photos", type=int, default=2400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbones", nargs="+", default=["mobilenet_v2@224", "efficientnet_lite2@288"])
    parser.add_argument("--more", nargs="*", choices=MORE, default=MORE, help="candidates on the last backbone")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    data = pt.read(arguments.data, conflicts="unknown")
    data = data.take(np.sort(np.random.default_rng(0).permutation(len(data))[: arguments.photos]))
    views = [(name, name, "plain") for name in arguments.backbones]
    views += [("flipped", arguments.backbones[-1], "flipped")] if "flipped" in arguments.more else []
    for _, name, _ in views:
        data = data.without(pixels(data.paths, int(name.split("@")[1]))[2])
    embeddings = {}
    for key, name, view in views:
        backbone, size = name.split("@")
        embeddings[key] = embed(data.paths, int(size), find_weights(None, backbone), view)[:]
    everything = Part(embeddings, data.targets)
    row = {path: number for number, path in enumerate(data.paths)}
    results: dict[str, dict[str, list[float]]] = {}
    for seed in arguments.seeds:
        parts = [everything.take(np.array([row[p] for p in part.paths])) for part in pt.split(data, seed=seed)]

        def note(name: str, logits: Logits, since: float, parts: list[Part] = parts, seed: int = seed) -> None:
            found = results.setdefault(name, {"validation mAP": [], "test mAP": [], "processor seconds": []})
            for key, part, x in zip(("validation mAP", "test mAP"), parts[1:], logits, strict=True):
                judged = scores(part.targets, expit(x).astype(np.float32))
                found[key].append(judged["mean_average_precision"])
            found["processor seconds"].append(round(time.process_time() - since, 1))
            print(seed, name, *(values[-1] for values in found.values()), flush=True)
            if arguments.out:
                write_json(arguments.out, results)

        measure(parts, arguments.backbones, arguments.more, seed, note)
    show(results)


def show(results: dict[str, dict[str, list[float]]]) -> None:
    print(f"{'':40}{'validation mAP':>15} {'sd':>6} {'test mAP':>9} {'processor s':>12}")
    for name, row in results.items():
        values = np.array(row["validation mAP"])
        seconds = np.mean(row["processor seconds"])
        print(
            f"{name:40}{values.mean():15.4f} {values.std(ddof=min(1, len(values) - 1)):6.4f} "
            f"{np.mean(row['test mAP']):9.4f} {seconds:12.1f}"
        )


if __name__ == "__main__":
    main()

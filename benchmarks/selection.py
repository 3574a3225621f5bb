"""Which validation score chooses the better model if labels have few validation photos?

    python benchmarks/selection.py [--sets 400] [--embeddings FILE] [--out selection]

By simulation: 20 labels and 150 validation photos. In each cell, labels have 1 to 60 validation photos on average. Of
two models, one has a true mAP that is 0.045 higher, on all labels or on the rarer half of them only. The first table
shows how often each score prefers the worse model: once with calibrated probabilities, and once with a better model
that is overconfident and has a bias for each label, as networks have. The second table shows how often fine-tuning is
undone if it truly raises mAP by 0.045, does not change it, or lowers it by 0.045: with the old rule (undo if mAP is
lower at all) and the new one (undo if the support-weighted mAP is more than a standard error lower).

With real photos (--data): eight heads are trained for 25 epochs. Validation
sets are drawn from photos that were not trained on, and the truth is the mAP on further photos. The table shows how
often a score prefers the worse of two networks whose true mAPs differ by 0.035 to 0.055, how much true mAP is lost by
the epoch that a score chooses, and how much by choosing among all networks, as a search does.
"""

import argparse
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit

from polytag.evaluation.calibration import logits_of
from polytag.evaluation.metrics import average_precisions
from polytag.evaluation.selection import paired_difference

LABELS, PHOTOS, SPREAD, NOISE, DIFFERENCE = 20, 150, 2.5, 0.5, 0.045

CELLS = {
    "1": np.full(LABELS, 1.0),
    "2": np.full(LABELS, 2.0),
    "3": np.full(LABELS, 3.0),
    "5": np.full(LABELS, 5.0),
    "1-5": np.geomspace(1, 5, LABELS),
    "1-60": np.geomspace(1, 60, LABELS),
    "1-60, rare labels differ": np.geomspace(1, 60, LABELS),
}

RECIPES = [
    # loss, training photos, dropout, hidden units, learning rate
    ("bce", 300, 0.5, 512, 7e-4),
    ("bce", 1500, 0.5, 512, 7e-4),
    ("focal", 600, 0.3, 256, 1e-3),
    ("asymmetric", 600, 0.5, 512, 7e-4),
    ("bce", 600, 0.1, 0, 3e-3),
    ("weighted_bce", 1000, 0.5, 512, 7e-4),
    ("bce", 150, 0.5, 512, 2e-3),
    ("bce", 2500, 0.6, 1024, 7e-4),
]

EPOCHS = 25


def platt_log_loss(targets: NDArray[np.int8], p: NDArray) -> float:
    """Return the log loss with the best common slope and bias of all logits."""
    logits, y = logits_of(p).ravel(), targets.ravel().astype(float)

    def loss(line: NDArray) -> tuple[float, NDArray]:
        z = line[0] * logits + line[1]
        error = expit(z) - y
        return float(np.mean(np.logaddexp(0, z) - y * z)), np.array([np.mean(error * logits), np.mean(error)])

    return float(minimize(loss, [1.0, 0.0], jac=True, method="BFGS").fun)


def candidates(targets: NDArray[np.int8], p: NDArray) -> dict[str, float]:
    """Return the value of each score that could choose; higher is better."""
    found, support = average_precisions(targets, p), (targets == 1).sum(axis=0).astype(float)
    found, support = found[support > 0], support[support > 0]
    logits = logits_of(p)
    return {
        "mAP": float(found.mean()),
        "weight min(n, 5)": float(np.average(found, weights=np.minimum(support, 5))),
        "weight min(n, 10)": float(np.average(found, weights=np.minimum(support, 10))),
        "weight min(n, 20)": float(np.average(found, weights=np.minimum(support, 20))),
        "weight n": float(np.average(found, weights=support)),
        "micro-AP": float(average_precisions(targets.reshape(-1, 1), p.reshape(-1, 1))[0]),
        "log loss": -float(np.mean(np.logaddexp(0, logits) - targets * logits)),
        "log loss, Platt": -platt_log_loss(targets, p),
    }


def center_of_share(share: float) -> float:
    """Return the mean logit of a label that this share of the photos shows."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    return brentq(lambda center: weights @ expit(center + SPREAD * nodes) / weights.sum() - share, -25, 10)


def draw(rng: np.random.Generator, centers: NDArray, n: int) -> tuple[NDArray, NDArray[np.int8]]:
    """Return the true logits and the targets of n photos."""
    common = np.sqrt(0.2) * rng.standard_normal((n, 1)) + np.sqrt(0.8) * rng.standard_normal((n, LABELS))
    logits = centers + SPREAD * common
    return logits, (rng.random(logits.shape) < expit(logits)).astype(np.int8)


def predicted(rng: np.random.Generator, logits: NDArray, centers: NDArray, noise: float | NDArray) -> NDArray:
    """Return the calibrated logits of a model that sees the true logits with noise."""
    seen = logits + noise * SPREAD * rng.standard_normal(logits.shape)
    known = 1 / (1 + np.square(noise))
    return (centers + known * (seen - centers)) / np.sqrt(1 + np.pi / 8 * (1 - known) * SPREAD**2)


def worse_noise(centers: NDArray, differing: NDArray[np.bool_]) -> NDArray:
    """Return the noise of a model whose true mAP is `DIFFERENCE` lower."""
    logits, targets = draw(np.random.default_rng(9), centers, 60_000)

    def true_map(extra: float) -> float:
        rng = np.random.default_rng(1)
        p = predicted(rng, logits, centers, NOISE + extra * differing)
        return float(np.nanmean(average_precisions(targets, p)))

    best = true_map(0)
    return NOISE + differing * brentq(lambda extra: best - true_map(extra) - DIFFERENCE, 0, 4, xtol=0.01)


def is_wrong(better: dict[str, float], worse: dict[str, float]) -> dict[str, float]:
    return {name: (better[name] < worse[name]) + 0.5 * (better[name] == worse[name]) for name in better}


def undone(targets: NDArray[np.int8], frozen: NDArray, tuned: NDArray) -> dict[str, float]:
    """Return whether each rule undoes fine-tuning."""
    lower, error = paired_difference(targets, frozen, tuned, np.arange(len(targets)))
    return {
        "old": float(candidates(targets, frozen)["mAP"] > candidates(targets, tuned)["mAP"]),
        "weighted": float(lower > 0),
        "new": float(lower > error),
    }


def simulate(sets: int) -> tuple[dict, dict]:
    """Return how often each score is wrong, and how often fine-tuning is undone, in each cell."""
    wrong, undo = {}, {}
    for cell, support in CELLS.items():
        centers = np.array([center_of_share(q / PHOTOS) for q in support])
        differing = support < np.median(support) if "rare" in cell else np.ones(LABELS, bool)
        worse = worse_noise(centers, differing)
        rng, found, rules = np.random.default_rng(0), defaultdict(list), defaultdict(list)
        for _ in range(sets):
            logits, targets = draw(rng, centers, PHOTOS)
            if not targets.any():
                continue
            a, b, c = (predicted(rng, logits, centers, noise) for noise in (NOISE, NOISE, worse))
            scored = candidates(targets, expit(c))
            network = expit(1.5 * a - 0.5 + 0.5 * rng.standard_normal(LABELS))
            for kind, better in (("calibrated", expit(a)), ("overconfident", network)):
                for name, value in is_wrong(candidates(targets, better), scored).items():
                    found[name, kind].append(value)
            for truth, frozen, tuned in (("better", c, a), ("equal", b, a), ("worse", a, c)):
                for rule, value in undone(targets, expit(frozen), expit(tuned)).items():
                    rules[rule, truth].append(value)
        wrong[cell] = {name: [float(np.mean(found[name, kind])) for kind in ("calibrated", "overconfident")]
                       for name, _ in found}  # fmt: skip
        undo[cell] = {rule: {truth: float(np.mean(rules[rule, truth])) for truth in ("better", "equal", "worse")}
                      for rule, _ in rules}  # fmt: skip
        print(f"{cell} validation photos a label", flush=True)
        for name, (calibrated, overconfident) in wrong[cell].items():
            print(f"    {name:20} wrong {calibrated:.3f}, overconfident {overconfident:.3f}")
        for rule, shares in undo[cell].items():
            print(f"    {rule:20} undone if fine-tuning is " + ", ".join(f"{t} {v:.3f}" for t, v in shares.items()))
    return wrong, undo


def trained(data: Path) -> tuple[NDArray, NDArray[np.int8], NDArray]:
    """Train the heads. Return their predictions (heads, epochs, photos, k), the targets, and the true mAP of each."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import polytag as pt
    from polytag.models.backbones.embed import embed
    from polytag.models.backbones.weights import find_weights
    from polytag.models.backend import keras
    from polytag.models.networks.architectures import head
    from polytag.models.training.losses import LOSSES
    from polytag.photos.pixels import pixels

    photos = pt.read(data, conflicts="unknown")
    photos = photos.without(pixels(photos.paths, 224)[2])
    x, targets = embed(photos.paths, 224, find_weights())[:], photos.targets
    rng = np.random.default_rng(0)
    test, pool, train = np.split(rng.permutation(len(x)), [int(0.375 * len(x)), int(0.625 * len(x))])
    predictions, truth = [], []
    for seed, (loss, n, dropout, dense, rate) in enumerate(RECIPES):
        keras.utils.set_random_seed(seed)
        rows = rng.permutation(train)[:n]
        network = head(x.shape[1], targets.shape[1], dense=dense, dropout=dropout)
        network.compile(keras.optimizers.AdamW(rate, 1e-2), LOSSES[loss](targets[rows]))
        for _ in range(EPOCHS):
            network.fit(x[rows], targets[rows].astype(np.float32), batch_size=64, verbose=0)
            truth.append(np.nanmean(average_precisions(targets[test], network.predict(x[test], 1024, verbose=0))))
            predictions.append(network.predict(x[pool], 1024, verbose=0))
        print(f"{loss}, {len(rows)} photos: true mAP up to {max(truth[-EPOCHS:]):.3f}", flush=True)
    return np.array(predictions), targets[pool], np.array(truth)


def real(data: Path, sizes: list[int], draws: int) -> dict:
    """Return, by number of validation photos, the share of wrong choices and the true mAP lost by each score."""
    predictions, targets, truth = trained(data)
    heads = np.repeat(np.arange(len(RECIPES)), EPOCHS)
    gap = truth[:, None] - truth
    close = (gap > 0.035) & (gap < 0.055) & (heads[:, None] != heads)
    rng, table = np.random.default_rng(0), {}
    for size in sizes:
        found = defaultdict(list)
        for _ in range(draws):
            rows = rng.choice(len(targets), size, replace=False)
            scored = [candidates(targets[rows], p[rows]) for p in predictions]
            for name in scored[0]:
                values = np.array([s[name] for s in scored])
                lead = values[:, None] - values
                epochs = values.reshape(-1, EPOCHS).argmax(axis=1)
                at = truth.reshape(-1, EPOCHS)
                found[name].append([
                    ((lead < 0) + 0.5 * (lead == 0))[close].mean(),
                    (at.max(axis=1) - at[np.arange(len(at)), epochs]).mean(),
                    truth.max() - truth[values.argmax()],
                ])  # fmt: skip
        support = targets.mean(axis=0) * size
        table[size] = {name: np.mean(rows, axis=0).tolist() for name, rows in found.items()}
        print(f"{size} photos, {support.min():.1f} to {support.max():.1f} a label (median {np.median(support):.1f})")
        for name, (wrong, epoch, search) in table[size].items():
            print(f"    {name:20} wrong {wrong:.3f}   lost by epoch {epoch:.4f}   by search {search:.4f}", flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--data", type=Path, help="photos with labels")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 40, 80, 160, 600], help="validation photos")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("selection"))
    arguments = parser.parse_args()
    record: dict = {}
    if arguments.sets:
        record["wrong"], record["undone"] = simulate(arguments.sets)
    if arguments.data:
        record["real"] = real(arguments.data, arguments.sizes, arguments.draws)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "selection.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

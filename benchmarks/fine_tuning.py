"""What improves fine-tuning of `best`: another loss, progressive resizing, kernel ridge on top, and mirrored photos.

    python benchmarks/fine_tuning.py DATA [--photos 2400] [--epochs 4] [--candidates plain …] [--seeds 0 1 2]

Everything is trained on a fixed part of DATA, with a split of its own for each seed. The table shows validation mAP,
because this is a choice, test mAP for information, and processor seconds of training. The candidates:

- "frozen": the head averaged with a kernel ridge regression, without fine-tuning;
- "plain": fine-tuning as `polytag train` does it;
- "asymmetric": fine-tuning with the asymmetric loss, after a head trained with binary cross-entropy;
- "progressive": half of the epochs at two thirds of the size and the others at full size, each with its own schedule;
- "+ ridge", for each of them: averaged with a kernel ridge regression on embeddings of the fine-tuned backbone;
- "+ flip", for each of them: probabilities averaged over the photo and its mirror image.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

import polytag as pt
from polytag.evaluation.metrics import scores
from polytag.models.backbones.backbone import backbone
from polytag.models.backbones.weights import Weights, find_weights
from polytag.models.backend import keras
from polytag.models.classical.kernel_ridge import fit_kernel_ridge
from polytag.models.networks.architectures import joined
from polytag.models.recipe import Recipe, fine_tuning_size
from polytag.models.runtimes.onnx import OnnxModel, export_onnx, run_in_small_batches
from polytag.models.training import fine_tuning, transfer
from polytag.photos.pixels import photo_view

CANDIDATES = ("plain", "asymmetric", "progressive")

CHUNK = 64

Photos = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def fine_tuned(
    candidate: str, network: keras.Model, train: pt.Dataset, validation: pt.Dataset, recipe: Recipe, weights: Weights
) -> None:
    """Fine-tune the network as a candidate does."""

    def run(recipe: Recipe, size: int) -> None:
        with mock.patch.object(fine_tuning, "fine_tuning_size", lambda _: size):
            fine_tuning.fine_tune(network, train, validation, recipe, weights, False, None)

    size, epochs = fine_tuning_size(recipe.image_size), recipe.fine_tune or 0
    if candidate == "progressive":
        run(replace(recipe, fine_tune=epochs // 2), 32 * round(size * 2 / 3 / 32))
        epochs -= epochs // 2
    loss = "asymmetric" if candidate == "asymmetric" else recipe.loss
    run(replace(recipe, fine_tune=epochs, loss=loss), size)


class Embedder:
    """The backbone of a network on ONNX Runtime, and its head."""

    def __init__(self, network: keras.Model, image_size: int):
        self._size, self.head = image_size, network.get_layer("head")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "backbone.onnx"
            assert export_onnx(network.get_layer("backbone"), path)
            self._run = OnnxModel(path)

    def __call__(self, data: pt.Dataset, change: Photos = lambda photos: photos) -> NDArray[np.float32]:
        view = photo_view(data.paths, self._size)
        starts = range(0, len(data), CHUNK)
        chunks = (np.ascontiguousarray(change(view[start : start + CHUNK])) for start in starts)
        return np.concatenate([run_in_small_batches(self._run, chunk) for chunk in chunks])

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        found = self.head.predict(embeddings, verbose=0, batch_size=512).astype(np.float64)
        return logit(np.clip(found, 1e-7, 1 - 1e-7))


def measure(parts: list[pt.Dataset], recipe: Recipe, candidates: list[str], note: Callable) -> None:
    """Train and note all candidates on one split."""
    train, validation, test = parts
    weights = find_weights(None, recipe.backbone)
    keras.backend.clear_session()
    top, _ = transfer.fit_head(*transfer.head_batches(train, validation, recipe, weights, False), recipe, False)
    network = joined(backbone(recipe.backbone, recipe.image_size, weights), transfer.without_optimizer(top))
    start = network.get_weights()
    for candidate in ["frozen", *candidates]:
        since = time.process_time()
        network.set_weights(start)
        if candidate != "frozen":
            fine_tuned(candidate, network, train, validation, recipe, weights)
        taken = time.process_time() - since
        embedder = Embedder(network, recipe.image_size)
        seen = [embedder(part) for part in parts]
        plain = [embedder.logits(part) for part in seen[1:]]
        note(candidate if candidate != "frozen" else "frozen head", plain, taken)
        since = time.process_time()
        ridge = fit_kernel_ridge(seen[0], train.targets, seen[1], validation.targets, recipe.seed)
        both = [(one + ridge.logits(part)) / 2 for one, part in zip(plain, seen[1:], strict=True)]
        note(f"{candidate} + ridge", both, taken + time.process_time() - since)
        mirrored = [embedder(part, lambda photos: photos[:, :, ::-1]) for part in (validation, test)]
        flipped = [(one + embedder.logits(part)) / 2 for one, part in zip(plain, mirrored, strict=True)]
        note(f"{candidate} + flip", flipped, taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--photos", type=int, default=2400)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--candidates", nargs="*", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--backbone", default="efficientnet_lite2")
    parser.add_argument("--image-size", type=int, default=288)
    arguments = parser.parse_args()
    data = pt.read(arguments.data, conflicts="unknown")
    data = data.take(np.sort(np.random.default_rng(0).permutation(len(data))[: arguments.photos]))
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in arguments.seeds:
        parts = list(pt.split(data, seed=seed))

        def note(name: str, logits: list[NDArray], seconds: float, parts: list[pt.Dataset] = parts) -> None:
            both = [
                scores(part.targets, expit(one))["mean_average_precision"]
                for part, one in zip(parts[1:], logits, strict=True)
            ]
            found.setdefault(name, []).append((*both, seconds))
            print(f"    {name}: validation {both[0]:.4f}, test {both[1]:.4f}, {seconds:.0f} s", flush=True)

        settings = {"backbone": arguments.backbone, "image_size": arguments.image_size, "seed": seed}
        measure(parts, Recipe.of("best", fine_tune=arguments.epochs, **settings), arguments.candidates, note)
    print(f"{'':24} {'validation mAP':>16} {'test mAP':>16} {'seconds':>8}")
    for name, rows in found.items():
        means, deviations = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=min(1, len(rows) - 1))
        cells = (f"{mean:.4f} ± {sd:.4f}" for mean, sd in zip(means[:2], deviations[:2], strict=True))
        print(f"{name:24} {' '.join(f'{cell:>16}' for cell in cells)} {means[2]:8.0f}")


if __name__ == "__main__":
    main()

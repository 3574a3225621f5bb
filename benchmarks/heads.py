"""Which head works best on a frozen backbone: transfer's, or one that looks at positions in the photo.

    python benchmarks/heads.py DATA [--seeds 0 1 2] [--image-size 224] [--larger 288] [--heads average …] [--out FILE]

All heads learn from MobileNetV2's last feature map of photos and their mirror images (one of the two at random), with
the same loss, optimizer and early stopping. "average" is average pooling; "photos alone" is the same without mirror
images, as in transfer; "larger size" is average pooling at the larger size; "two sizes" sees both averages; "average
and maximum" pools both ways; "attention" is class-specific residual attention (Zhu & Wu 2021); "decoder" has a query
for each label (ML-Decoder, Ridnik et al. 2023, one block of 256 units). The table shows validation mAP: this is a
choice, so test photos are not used. Maps take 125 KB per photo and view at 224 px, in a temporary folder.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from choices import Results, show
from numpy.typing import NDArray

import polytag as pt
from polytag.evaluation.selection import VALIDATION_SCORE
from polytag.files import write_json
from polytag.models.backbones.backbone import backbone
from polytag.models.backbones.embed import VIEWS, embed
from polytag.models.backbones.weights import Weights, find_weights
from polytag.models.backend import keras
from polytag.models.networks.architectures import head
from polytag.models.recipe import Recipe
from polytag.models.training.batches import Batches
from polytag.models.training.loop import fit_network
from polytag.photos.pixels import View, photo_view, pixels
from polytag.progress import progress_bar

layers, ops = keras.layers, keras.ops

VIEWED = ("plain", "flipped")

HEADS = ("average", "photos alone", "average and maximum", "larger size", "two sizes", "attention", "decoder")

Maps = list[NDArray[np.float16]]
"""One array per view, float16 (n, rows, columns, channels)."""


class Held:
    """Arrays in place of a cache: each read draws one view of each photo."""

    def __init__(self, views: Sequence[NDArray], seed: int):
        self._views, self._rng, self.shape = views, np.random.default_rng(seed), views[0].shape[1:]

    def read(self, rows: NDArray[np.int64], *_: object) -> NDArray[np.float32]:
        drawn = self._rng.integers(len(self._views), size=len(rows))
        batch = np.empty((len(rows), *self.shape), np.float32)
        for number, view in enumerate(self._views):
            batch[drawn == number] = view[rows[drawn == number]]
        return batch


def maps_of(data: pt.Dataset, size: int, weights: Weights, folder: Path) -> Maps:
    """The backbone's last feature map of every photo."""
    network, photos, found = backbone("mobilenet_v2", size, weights), photo_view(data.paths, size), []
    for view in VIEWED:
        shape = (len(data), *network.output_shape[1:])
        maps = np.lib.format.open_memmap(folder / f"{view}.npy", "w+", np.float16, shape)
        for start in range(0, len(data), 32):
            batch = VIEWS[view](photos[start : start + 32])
            maps[start : start + 32] = network.predict_on_batch(np.ascontiguousarray(batch))
        found.append(maps)
    return found


def attention(shape: tuple[int, ...], n_labels: int, weight: float = 0.3) -> keras.Model:
    """Class-specific residual attention: the mean logit of all positions, plus an attention-weighted one."""
    inputs = layers.Input(shape)
    x = layers.Dropout(0.3)(layers.Reshape((-1, shape[-1]))(inputs))
    logits = layers.Dense(n_labels)(x)
    attended = ops.sum(ops.softmax(logits, axis=1) * logits, axis=1)
    outputs = layers.Activation("sigmoid")(ops.mean(logits, axis=1) + weight * attended)
    return keras.Model(inputs, outputs, name="attention")


class Queries(layers.Layer):
    """A learned query for each label."""

    def __init__(self, n_labels: int, units: int):
        super().__init__()
        self.queries = self.add_weight((1, n_labels, units), "random_normal", name="queries")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return ops.repeat(self.queries, ops.shape(x)[0], axis=0)


class PerLabel(layers.Layer):
    """One logit per label, from the label's own vector."""

    def __init__(self, n_labels: int, units: int):
        super().__init__()
        self.kernel = self.add_weight((1, n_labels, units), "glorot_uniform", name="kernel")
        self.bias = self.add_weight((n_labels,), "zeros", name="bias")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return ops.sum(x * self.kernel, axis=-1) + self.bias


def decoder(shape: tuple[int, ...], n_labels: int, units: int = 256) -> keras.Model:
    """One decoder block without self-attention: each label's query attends to positions."""
    inputs = layers.Input(shape)
    x = layers.Dropout(0.3)(layers.Reshape((-1, shape[-1]))(inputs))
    places = layers.Dense(units, activation="relu")(x)
    query = Queries(n_labels, units)(places)
    seen = layers.LayerNormalization()(query + layers.MultiHeadAttention(4, units // 4)(query, places))
    hidden = layers.Dense(units)(layers.Dropout(0.3)(layers.Dense(2 * units, activation="relu")(seen)))
    outputs = layers.Activation("sigmoid")(PerLabel(n_labels, units)(layers.LayerNormalization()(seen + hidden)))
    return keras.Model(inputs, outputs, name="decoder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--larger", type=int, default=288)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS, metavar="HEAD", help=", ".join(HEADS))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    data, weights = pt.read(arguments.data, conflicts="unknown"), find_weights()
    for size in (arguments.image_size, arguments.larger):
        data = data.without(pixels(data.paths, size)[2])
    row = {path: number for number, path in enumerate(data.paths)}

    def pooled_head(shape: tuple[int, ...], n_labels: int) -> keras.Model:
        return head(shape[-1], n_labels)

    with tempfile.TemporaryDirectory() as folder:
        maps = maps_of(data, arguments.image_size, weights, Path(folder))
        average = [m.mean(axis=(1, 2), dtype=np.float32) for m in maps]
        maximum = [m.max(axis=(1, 2)) for m in maps]
        larger = average
        if {"larger size", "two sizes"} & set(arguments.heads):
            larger = [embed(data.paths, arguments.larger, weights, view)[:] for view in VIEWED]
        known_heads: dict[str, tuple[list[NDArray], Callable[..., keras.Model]]] = {
            "average": (average, pooled_head),
            "photos alone": (average[:1], pooled_head),
            "average and maximum": ([np.hstack(both) for both in zip(average, maximum, strict=True)], pooled_head),
            "larger size": (larger, pooled_head),
            "two sizes": ([np.hstack(both) for both in zip(average, larger, strict=True)], pooled_head),
            "attention": (maps, attention),
            "decoder": (maps, decoder),
        }
        heads = {name: known_heads[name] for name in arguments.heads}
        results: Results = {name: {"validation mAP": [], "seconds": []} for name in heads}
        for seed in arguments.seeds:
            train, validation, _ = pt.split(data, seed=seed)
            recipe = Recipe.of("transfer", image_size=arguments.image_size, seed=seed)
            for name, (views, build) in heads.items():

                def batches(part: pt.Dataset, views: list[NDArray], shuffle: bool, recipe: Recipe = recipe) -> Batches:
                    rows = np.array([row[path] for path in part.paths])
                    held = View(Held(views, recipe.seed), rows)  # type: ignore[arg-type]
                    threads = 2 if views[0].ndim == 4 else 1
                    return Batches(held, part.targets, recipe.batch_size, shuffle, seed=recipe.seed, threads=threads)

                keras.utils.set_random_seed(seed)
                network, start = build(views[0].shape[1:], len(data.labels)), time.perf_counter()
                known, judged = batches(train, views, True), batches(validation, views[:1], False)
                with progress_bar(len(known) * recipe.epochs, name, "step") as bar:
                    fitted = fit_network(network, known, judged, recipe, bar, name)
                results[name]["validation mAP"].append(fitted.history[fitted.kept or 0][VALIDATION_SCORE])
                results[name]["seconds"].append(round(time.perf_counter() - start, 1))
                if arguments.out:
                    write_json(arguments.out, results)
    show(results, "seconds", 1)


if __name__ == "__main__":
    main()

"""Embeddings: features that a frozen backbone computes once for each photo and that are cached on disk."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from polytag.errors import DataError, ImageError
from polytag.models.backbones.onnx import write_backbone
from polytag.models.backbones.weights import Weights, find_weights
from polytag.models.runtimes.onnx import OnnxModel, export_onnx, run_in_small_batches
from polytag.photos.array_cache import ArrayCache, cache_folder
from polytag.photos.content import content_hash
from polytag.photos.decode import PIXEL_PATH, Paths, each
from polytag.photos.measure import measure
from polytag.photos.pixels import Stored, View

CHUNK = 64
"""Number of photos that are embedded and stored together."""

VERSION = 2
"""Version of the embeddings. It increases when the same pixels would give different features."""


def _halved(photos: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = photos.shape[1] // 2 * 2
    total = np.full_like(photos[:, :side:2, :side:2], 2, np.uint16)  # adding 2 rounds the division by 4
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        total += photos[:, i:side:2, j:side:2]
    return (total >> 2).astype(np.uint8)


VIEWS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "plain": lambda photos: photos,
    "flipped": lambda photos: photos[:, :, ::-1],
    "half": _halved,
}
"""Versions of photos, uint8 (n, side, side, 3), that the backbone can embed.

- ``plain``: photos are unchanged.
- ``flipped``: photos are mirrored left to right.
- ``half``: width and height are halved. Embedding takes a quarter of the time, and the result is good enough to
  recognise near-duplicates.
"""


def embed(
    paths: Paths,
    image_size: int,
    weights: Weights,
    view: str = "plain",
    on_progress: Callable[[int], object] = lambda n: None,
) -> View:
    """Return the backbone's pooled features for each photo.

    Args:
        paths: photos. All of them must be readable.
        image_size: width and height to which photos are resized, in pixels.
        weights: weights from `polytag.models.backbones.weights.find_weights`.
        view: version of the photos to embed, one of `VIEWS`.
        on_progress: function that is called with the number of photos just completed.

    Returns:
        Embeddings in the cache, float32 (n, d). For MobileNetV2, d is 1280.

    Raises:
        DataError: a photo cannot be read.
    """
    if not weights.sha256:
        weights = _identified(weights, image_size)
    name = _cache_name(weights, image_size)
    run, threads, width = _backbone(weights, image_size, name)
    cache = ArrayCache(f"features-{name}{'' if view == 'plain' else f'-{view}'}", (width,), "float32")
    keys = [content_hash(path) for path in paths]

    def photos(waiting: list[int]) -> Stored:
        return Stored([keys[i] for i in waiting], [paths[i] for i in waiting], image_size)

    def embedded(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return run_in_small_batches(run, np.ascontiguousarray(VIEWS[view](batch)))

    return fill(cache, keys, photos, embedded, threads, on_progress)


def fill(
    cache: ArrayCache,
    keys: Sequence[str],
    photos: Callable[[list[int]], View | Stored],
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    threads: int | None,
    on_progress: Callable[[int], object],
) -> View:
    """Compute the embeddings that a cache is missing. Whatever was stored before an interruption is kept.

    Args:
        cache: cache of embeddings.
        keys: content hash of each photo.
        photos: function that returns the pixels of the photos at these positions.
        run: backbone, a function from pixels to embeddings.
        threads: number of threads that call it; ``None`` for one per core.
        on_progress: function that is called with the number of photos just completed.

    Raises:
        DataError: a photo cannot be read.
    """
    rows = cache.rows(keys)
    waiting = {key: i for i, (key, row) in enumerate(zip(keys, rows, strict=True)) if row < 0}
    on_progress(len(keys) - len(waiting))
    if waiting:
        new_keys, pixels = list(waiting), photos(list(waiting.values()))
        starts = range(0, len(waiting), CHUNK)
        made = each(lambda start: run(pixels[start : start + CHUNK]), starts, threads)
        for start, features in zip(starts, made, strict=True):
            if isinstance(features, ImageError):
                raise DataError(f"a photo cannot be read: {features}")
            cache.add(new_keys[start : start + CHUNK], features)
            on_progress(len(features))
        rows = cache.rows(keys)
    return View(cache, rows)


def embeddings_of(
    paths: Paths,
    image_size: int = 224,
    view: str = "plain",
    on_progress: Callable[[int], object] = lambda n: None,
) -> View | None:
    """Return MobileNetV2 embeddings for data analysis. They stay in the cache until they are indexed.

    Args:
        paths, image_size, view, on_progress: as in `embed`, except that photos may be unreadable.

    Returns:
        Embeddings, float32 (n, 1280), with NaN for photos that cannot be read. ``None`` if no weights are installed,
        because this function downloads nothing.
    """
    weights = find_weights()
    if weights.path is None:
        return None
    readable = measure(paths).readable
    on_progress(int((~readable).sum()))
    rows = np.flatnonzero(readable).tolist()
    found = embed([paths[row] for row in rows], image_size, weights, view, on_progress)
    places = np.full(len(paths), -1)
    places[rows] = found.rows
    return View(found.cache, places, absent=np.nan)


def backbone_runner(
    weights: Weights, image_size: int
) -> tuple[Callable[[NDArray], NDArray[np.float32]], int | None, int]:
    """Load a backbone with pooling.

    Returns:
        The backbone, the number of threads that should call it (``None`` for one per core), and the number of features.
    """
    if not weights.sha256:
        weights = _identified(weights, image_size)
    return _backbone(weights, image_size, _cache_name(weights, image_size))


def _cache_name(weights: Weights, image_size: int) -> str:
    return f"{weights.name}-{image_size}-{PIXEL_PATH}.{VERSION}"


@lru_cache(maxsize=2)
def _identified(weights: Weights, image_size: int) -> Weights:
    """Add a checksum to weights that Keras downloads, because Keras may replace the weights under the same name."""
    from polytag.models.backbones.backbone import backbone

    return weights.identified(backbone(weights.backbone, image_size, weights).get_weights())


@lru_cache(maxsize=2)
def _backbone(
    weights: Weights, image_size: int, name: str
) -> tuple[Callable[[NDArray], NDArray[np.float32]], int | None, int]:
    """Load a backbone with pooling, on ONNX Runtime if possible, otherwise on Keras.

    Returns:
        The backbone, the number of threads that should call it (``None`` for one per core), and the number of features.
    """
    path = cache_folder() / "backbones" / f"{name}.onnx"
    path.parent.mkdir(exist_ok=True)
    if weights.kind == "onnx" and weights.path is not None:
        path = weights.path
    if not path.exists() and weights.kind == "torch":
        write_backbone(weights, path)
    if not path.exists():
        # Imported here because only Keras weights need Keras.
        from polytag.models.backbones.backbone import backbone, pooled

        network = pooled(backbone(weights.backbone, image_size, weights))
        if not export_onnx(network, path):
            return network.predict_on_batch, 1, network.output_shape[-1]
    model = OnnxModel(path, threads=1)
    return model, None, model.width

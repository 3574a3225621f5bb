"""Embeddings: what a frozen backbone makes of each photo, computed once and kept on disk."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from polytag.errors import ImageError
from polytag.models.backbones.onnx import write_backbone
from polytag.models.backbones.weights import Weights, find_weights
from polytag.models.runtimes.onnx import OnnxModel, export_onnx, few_at_a_time
from polytag.photos.array_cache import ArrayCache, cache_folder
from polytag.photos.content import content_hash
from polytag.photos.decode import PIXEL_PATH, Paths, each
from polytag.photos.pixels import View, photo_view, pixels

STORED_AT_ONCE = 64
"""Embeddings that are written at once."""

VERSION = 2
"""Raised whenever the same pixels would give other features."""


def _halved(photos: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = photos.shape[1] // 2 * 2
    total = np.full_like(photos[:, :side:2, :side:2], 2, np.uint16)  # so that the division rounds
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        total += photos[:, i:side:2, j:side:2]
    return (total >> 2).astype(np.uint8)


VIEWS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "plain": lambda photos: photos,
    "flipped": lambda photos: photos[:, :, ::-1],
    "half": _halved,
}
"""What the backbone is shown of photos uint8 (n, side, side, 3): themselves, mirrored left to right, or at half the
side, which costs a quarter and is enough to tell which photos show the same picture."""


def embed(
    paths: Paths,
    image_size: int,
    weights: Weights,
    view: str = "plain",
    on_progress: Callable[[int], object] = lambda n: None,
) -> View:
    """The backbone's pooled features of each photo.

    Args:
        paths: the photos; all must be readable.
        image_size: side at which they are decoded, in pixels.
        weights: the backbone's, from `polytag.models.backbones.weights.find_weights`.
        view: what the backbone is shown of them, one of `VIEWS`.
        on_progress: called with the number of photos that became ready.

    Returns:
        The embeddings, float32 (n, d), in the cache; d is 1280 for MobileNetV2.

    Raises:
        DataError: one of the photos cannot be read.
    """
    name = f"{weights.name}-{image_size}-{PIXEL_PATH}.{VERSION}"
    run, threads, width = _backbone(weights, image_size, name)
    cache = ArrayCache(f"features-{name}{'' if view == 'plain' else f'-{view}'}", (width,), "float32")
    keys = [content_hash(path) for path in paths]
    rows = cache.rows(keys)
    waiting = {key: path for key, path, row in zip(keys, paths, rows, strict=True) if row < 0}
    on_progress(len(paths) - len(waiting))
    if waiting:
        photos = photo_view(list(waiting.values()), image_size)
        new_keys = list(waiting)

        def features_from(start: int) -> NDArray[np.float32]:
            batch = np.ascontiguousarray(VIEWS[view](photos.read(slice(start, start + STORED_AT_ONCE))))
            return few_at_a_time(run, batch)

        starts = range(0, len(waiting), STORED_AT_ONCE)
        for start, features in zip(starts, each(features_from, starts, threads), strict=True):
            assert not isinstance(features, ImageError)  # all of these photos have been decoded
            cache.add(new_keys[start : start + STORED_AT_ONCE], features)
            on_progress(len(features))
        rows = cache.rows(keys)
    return View(cache, rows)


def embeddings_of(
    paths: Paths,
    image_size: int = 224,
    view: str = "plain",
    on_progress: Callable[[int], object] = lambda n: None,
) -> NDArray[np.float32] | None:
    """MobileNetV2's embeddings, for looking at data: float32 (n, 1280), NaN where a photo cannot be read.

    Nothing is downloaded for it: without weights on this machine there are none, and the result is ``None``.
    The arguments are those of `embed`.
    """
    weights = find_weights()
    if weights.path is None:
        return None
    readable = pixels(paths, image_size)[1] >= 0
    on_progress(int((~readable).sum()))
    rows = np.flatnonzero(readable).tolist()
    found = embed([paths[row] for row in rows], image_size, weights, view, on_progress).read()
    features = np.full((len(paths), found.shape[1]), np.nan, np.float32)
    features[rows] = found
    return features


@lru_cache(maxsize=2)
def _backbone(
    weights: Weights, image_size: int, name: str
) -> tuple[Callable[[NDArray], NDArray[np.float32]], int | None, int]:
    """The backbone up to its pooled features, the threads from which to call it (``None``: one for each core), and
    how many features there are.

    It runs on ONNX Runtime where that is possible, else on Keras.
    """
    path = cache_folder() / "backbones" / f"{name}.onnx"
    path.parent.mkdir(exist_ok=True)
    if not path.exists() and weights.kind == "torch":
        write_backbone(weights, path)
    if not path.exists():
        # Imported late: Keras' own weights need Keras, torch's need no framework at all.
        from polytag.models.backbones.backbone import backbone, pooled

        network = pooled(backbone(weights.backbone, image_size, weights))
        if not export_onnx(network, path):
            return network.predict_on_batch, 1, network.output_shape[-1]
    model = OnnxModel(path, threads=1)
    return model, None, model.width

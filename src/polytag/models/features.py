"""Embeddings: what a frozen backbone makes of each photo, computed once and kept on disk."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from polytag.data.cache import ArrayCache, cache_folder, pixels
from polytag.data.images import PIXEL_PATH, Paths, content_hash
from polytag.errors import DataError
from polytag.models.backend import keras
from polytag.models.onnx import BATCH_SIZE, OnnxModel, export_onnx
from polytag.models.pretrained import Weights


def embed(
    paths: Paths,
    image_size: int,
    backbone: keras.Model,
    weights: Weights,
    flipped: bool = False,
    on_progress: Callable[[int], object] = lambda n: None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The backbone's output for each photo.

    Args:
        paths: the photos; all must be readable.
        image_size: side at which the backbone sees them, in pixels.
        backbone: photos uint8 (batch, size, size, 3) → float32 (batch, d).
        weights: what the backbone was made with; names the cache.
        flipped: mirror each photo left to right first.
        on_progress: called with the number of photos that became ready.

    Returns:
        The cache's memory-mapped embeddings float32 (rows, d), and the row of each photo int64 (n,).
    """
    name = f"{weights.name}-{image_size}-{PIXEL_PATH}"
    cache = ArrayCache(f"features-{name}{'-flipped' if flipped else ''}", (backbone.output_shape[-1],), "float32")
    keys = [content_hash(path) for path in paths]
    rows = cache.rows(keys)
    waiting = {key: path for key, path, row in zip(keys, paths, rows, strict=True) if row < 0}
    on_progress(len(paths) - len(waiting))
    if waiting:
        images, image_rows, bad = pixels(list(waiting.values()), image_size)
        if bad:
            path, reason = next(iter(bad.items()))
            raise DataError(f"{path} cannot be read: {reason}")
        run = _fast(backbone, name)
        new_keys = list(waiting)
        for start in range(0, len(waiting), BATCH_SIZE):
            batch = images[image_rows[start : start + BATCH_SIZE]]
            if flipped:
                batch = np.ascontiguousarray(batch[:, :, ::-1])
            cache.add(new_keys[start : start + BATCH_SIZE], run(batch))
            on_progress(len(batch))
    return cache.open(), cache.rows(keys)


def _fast(backbone: keras.Model, name: str) -> Callable[[NDArray], NDArray[np.float32]]:
    """The backbone on ONNX Runtime, faster on CPUs (benchmarks/embedding.py); on Keras where it has no twin."""
    path = cache_folder() / "backbones" / f"{name}.onnx"
    path.parent.mkdir(exist_ok=True)
    if path.exists() or export_onnx(backbone, path):
        return OnnxModel(path)
    return backbone.predict_on_batch

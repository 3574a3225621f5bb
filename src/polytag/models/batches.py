"""Batches for training, read from the cache on disk, and augmentation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polytag.models.backend import keras


class Batches(keras.utils.PyDataset):
    """Arrays of a memory-mapped cache with their targets, a batch at a time.

    The order and the augmentation follow from the seed, the epoch and the batch alone, so that the same
    seed gives the same training however batches are prefetched.

    Args:
        views: one or more (cached arrays (rows, …), row of each photo int64 (n,)); of several views of a
            photo, such as its mirror image, one is drawn each time.
        targets: int8 (n, k), 1, 0 or -1 for unknown; ``None`` for prediction.
        batch_size: photos in a batch.
        shuffle: a new order in each epoch; otherwise the given order, and the first view.
        augmentation: one of `polytag.models.recipe.AUGMENTATIONS`, for photos.
        seed: of order and augmentation.
    """

    def __init__(
        self,
        views: Sequence[tuple[NDArray, NDArray[np.int64]]],
        targets: NDArray[np.int8] | None,
        batch_size: int,
        shuffle: bool = False,
        augmentation: str = "none",
        seed: int = 0,
    ):
        super().__init__()
        self._views = views
        self._targets = targets
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._augmentation = augmentation
        self._seed = seed
        self._epoch = -1
        self._order = np.arange(len(views[0][1]))
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray, ...]:
        rng = np.random.default_rng([self._seed, self._epoch, index])
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        view = rng.integers(len(self._views), size=len(chosen)) if self._shuffle else np.zeros(len(chosen), int)
        batch = np.stack([self._views[v][0][self._views[v][1][i]] for v, i in zip(view, chosen, strict=True)])
        if self._augmentation != "none":
            batch = np.stack([augmented(photo, self._augmentation, rng) for photo in batch])
        if self._targets is None:
            return (batch,)
        return batch, self._targets[chosen].astype(np.float32)

    def on_epoch_end(self) -> None:
        """Called by Keras after each epoch."""
        self._epoch += 1
        if self._shuffle:
            self._order = np.random.default_rng([self._seed, self._epoch]).permutation(len(self._order))


def augmented(photo: NDArray[np.uint8], augmentation: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random variation of a photo uint8 (size, size, 3), of the same shape."""
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    if augmentation == "crop":
        size = photo.shape[0]
        area, ratio = rng.uniform(0.6, 1.0), np.exp(rng.uniform(-0.25, 0.25))
        width, height = np.minimum(size * np.sqrt([area * ratio, area / ratio]), size)
        left, top = rng.uniform(0, size - width), rng.uniform(0, size - height)
        box = (left, top, left + width, top + height)
        photo = np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BILINEAR, box=box))
    return photo


def predict(
    model: keras.Model, views: Sequence[tuple[NDArray, NDArray[np.int64]]], batch_size: int
) -> NDArray[np.float32]:
    """Probabilities float32 (n, k) of the first view of each photo."""
    return model.predict(Batches(views, None, batch_size), verbose=0)

"""Batches for training, read from the cache on disk, and augmentation."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polytag.models.backend import keras
from polytag.photos.pixels import View

LEAST_AREA = 0.35
"""Of a photo that a random part of it keeps."""


class Batches(keras.utils.PyDataset):
    """Cached arrays with their targets, a batch at a time.

    The order and the augmentation follow from the seed, the epoch and the batch alone, so that the same
    seed gives the same training however batches are prefetched.

    Args:
        view: of n photos, or of what a backbone made of them.
        targets: int8 (n, k), 1, 0 or -1 for unknown.
        batch_size: photos in a batch.
        shuffle: a new order in each epoch; otherwise the given order.
        augmentation: one of `polytag.models.recipe.AUGMENTATIONS`, for photos.
        seed: of order and augmentation.
        threads: of Keras that prepare batches ahead of the network; with 1 that is left to Keras' backend.
        reduce: photos are reduced to one in this many pixels of their side, by averaging.
        features: what the network is shown of a batch of photos, instead of these; called from any of the threads.
    """

    def __init__(
        self,
        view: View,
        targets: NDArray[np.int8],
        batch_size: int,
        shuffle: bool = False,
        augmentation: str = "none",
        seed: int = 0,
        threads: int = 1,
        reduce: int = 1,
        features: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None,
    ):
        super().__init__(workers=threads, max_queue_size=4)
        self._view = view
        self.targets = targets
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._augmentation = augmentation
        self._seed = seed
        self._reduce = reduce
        self._features = features
        self._epoch = -1
        self._order = np.arange(len(view))
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray, NDArray[np.float32]]:
        rng = np.random.default_rng([self._seed, self._epoch, index])
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        batch = self._view.read(chosen)
        targets = self.targets[chosen].astype(np.float32)
        if self._augmentation != "none":
            batch = np.stack([augmented(photo, self._augmentation, rng, self._reduce) for photo in batch])
        elif self._reduce > 1:
            batch = np.stack([reduced(photo, self._reduce) for photo in batch])
        if self._features is not None:
            batch = self._features(batch)
        return batch, targets

    @property
    def width(self) -> int:
        """Length of one of the arrays' last dimension."""
        return self._view.cache.shape[-1]

    def on_epoch_end(self) -> None:
        """Called by Keras after each epoch."""
        self._epoch += 1
        if self._shuffle:
            self._order = np.random.default_rng([self._seed, self._epoch]).permutation(len(self._order))


def reduced(photo: NDArray[np.uint8], reduce: int) -> NDArray[np.uint8]:
    """Averages of squares: of a photo uint8 (size, size, 3) uint8 (size // reduce, size // reduce, 3)."""
    if reduce == 1:
        return photo
    side = photo.shape[0] // reduce * reduce
    return np.asarray(Image.fromarray(photo).reduce(reduce, (0, 0, side, side)))


def augmented(
    photo: NDArray[np.uint8], augmentation: str, rng: np.random.Generator, reduce: int = 1
) -> NDArray[np.uint8]:
    """A random variation of a photo uint8 (size, size, 3): uint8 (size // reduce, size // reduce, 3)."""
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    if augmentation == "flip":
        photo = reduced(photo, reduce)
    else:
        size = photo.shape[0]
        area, ratio = rng.uniform(LEAST_AREA, 1.0), np.exp(rng.uniform(-0.25, 0.25))
        width, height = np.minimum(size * np.sqrt([area * ratio, area / ratio]), size)
        left, top = rng.uniform(0, size - width), rng.uniform(0, size - height)
        box = (left, top, left + width, top + height)
        # Where it is to be reduced, averages over squares, of whole pixels: as the network that tags takes them.
        resample = Image.Resampling.BILINEAR if reduce == 1 else Image.Resampling.BOX
        image = Image.fromarray(photo).resize((size // reduce,) * 2, resample, box=box)
        if augmentation == "colour":
            contrast = rng.uniform(0.8, 1.2) * rng.uniform(0.9, 1.1, (3, 1))
            brightness = rng.uniform(-12, 12)
            table = np.clip(np.arange(256) * contrast + brightness, 0, 255).astype(np.uint8)
            image = image.point(table.ravel().tolist())
        photo = np.asarray(image)
    return photo

"""Training batches that are read from the cache on disk, and augmentation."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polytag.models.backend import keras
from polytag.photos.pixels import View

MIN_CROP_AREA = 0.35
"""Minimum fraction of a photo's area that a random crop covers."""


class Batches(keras.utils.PyDataset):
    """Batches of cached arrays and their targets.

    Order and augmentation depend only on the seed, the epoch and the batch index. The same seed therefore gives the
    same training run, no matter how batches are prefetched.

    Args:
        view: pixels or embeddings of n photos.
        targets: int8 (n, k): 1 present, 0 absent, -1 unknown.
        batch_size: photos per batch.
        shuffle: whether to draw a new order in each epoch.
        augmentation: one of `polytag.models.recipe.AUGMENTATIONS`. Only photos can be augmented.
        seed: seed for order and augmentation.
        threads: number of threads in which Keras prepares batches ahead of the network. With 1, the backend does this.
        reduce: factor by which the width and height of photos are reduced, by averaging.
        features: function that converts a batch of photos to the network's input. It may be called from any thread.
        devices: number of devices among which each batch is divided evenly. If photos are shuffled, those that are left
            over wait for another epoch.
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
        devices: int = 1,
    ):
        super().__init__(workers=threads, max_queue_size=4)
        self.view = view
        """The arrays in their original order, without augmentation."""
        self.targets = targets
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._augmentation = augmentation
        self._seed = seed
        self._reduce = reduce
        self._features = features
        self._used = len(view) - len(view) % devices if shuffle and len(view) > devices else len(view)
        self.continue_at(0, 0)

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray, NDArray[np.float32]]:
        rng = np.random.default_rng([self._seed, self._epoch, index])
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        if index < self._skipped:
            chosen = chosen[:1]
        batch = self.view[chosen]
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
        """Size of the arrays' last dimension."""
        return self.view.cache.shape[-1]

    @property
    def epoch(self) -> int:
        """Number of the epoch, which order and augmentation depend on."""
        return self._epoch

    def continue_at(self, epoch: int, step: int) -> None:
        """Start an epoch whose first ``step`` batches need no training. They are cut to one photo, to save time."""
        self._epoch, self._skipped = epoch, step
        n = len(self.view)
        order = np.random.default_rng([self._seed, epoch]).permutation(n) if self._shuffle else np.arange(n)
        self._order = order[: self._used]

    def on_epoch_end(self) -> None:
        """Start the next epoch. Keras calls this method."""
        self.continue_at(self._epoch + 1, 0)


def reduced(photo: NDArray[np.uint8], reduce: int) -> NDArray[np.uint8]:
    """Reduce a photo by averaging squares: uint8 (size, size, 3) → uint8 (size // reduce, size // reduce, 3)."""
    if reduce == 1:
        return photo
    side = photo.shape[0] // reduce * reduce
    return np.asarray(Image.fromarray(photo).reduce(reduce, (0, 0, side, side)))


def augmented(
    photo: NDArray[np.uint8], augmentation: str, rng: np.random.Generator, reduce: int = 1
) -> NDArray[np.uint8]:
    """Return a random variation of a photo.

    Args:
        photo: uint8 (size, size, 3).
        augmentation: "flip", "crop" or "colour", as in `polytag.models.recipe.AUGMENTATIONS`.
        rng: random number generator.
        reduce: factor by which the width and height are reduced.

    Returns:
        uint8 (size // reduce, size // reduce, 3).
    """
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    if augmentation == "flip":
        return reduced(photo, reduce)
    size = photo.shape[0]
    area, ratio = rng.uniform(MIN_CROP_AREA, 1.0), np.exp(rng.uniform(-0.25, 0.25))
    width, height = np.minimum(size * np.sqrt([area * ratio, area / ratio]), size)
    left, top = rng.uniform(0, size - width), rng.uniform(0, size - height)
    box = (left, top, left + width, top + height)
    # A reduced photo averages whole pixels over squares, because the tagging network reduces photos the same way.
    resample = Image.Resampling.BILINEAR if reduce == 1 else Image.Resampling.BOX
    image = Image.fromarray(photo).resize((size // reduce,) * 2, resample, box=box)
    if augmentation == "colour":
        contrast = rng.uniform(0.8, 1.2) * rng.uniform(0.9, 1.1, (3, 1))
        brightness = rng.uniform(-12, 12)
        table = np.clip(np.arange(256) * contrast + brightness, 0, 255).astype(np.uint8)
        image = image.point(table.ravel().tolist())
    return np.asarray(image)

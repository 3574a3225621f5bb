"""Heat maps from covered regions, for networks without gradients.

Each region of the photo is covered in turn, and the map shows how much the label's logit falls (Zeiler & Fergus 2014,
"Visualizing and Understanding Convolutional Networks").
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from polytag.models.bundle.bundle import Bundle
from polytag.models.runtimes.onnx import run_in_small_batches
from polytag.photos.decode import each
from polytag.serving.explaining.heat import enlarged, index_of

GRID = 8
"""Number of rows and of columns of regions. A covered region is twice as wide and high as its cell of the grid."""


LEAST_PROBABILITY = 1e-7
"""Minimum distance of probabilities from 0 and 1, so that their logits are finite."""


class Occlusion:
    """A generator of heat maps for any bundle. Each photo takes as long as tagging `GRID`² photos.

    Args:
        bundle: the model.
    """

    def __init__(self, bundle: Bundle):
        self.labels, self.image_size, self._bundle = bundle.labels, bundle.image_size, bundle

    def heat(self, photo: NDArray[np.uint8], labels: Sequence[str]) -> NDArray[np.float32]:
        """Compute heat maps, as `polytag.serving.explaining.explain.Explainer` defines them."""
        which = [index_of(label, self.labels) for label in labels]
        if not which:
            return np.zeros((0, self.image_size, self.image_size), np.float32)
        (whole,) = self._logits(photo[None])
        rows = each(self._logits, _covered(photo), self._bundle.threads)
        falls = np.stack([whole - logits for logits in rows])
        return np.stack([enlarged(falls[:, :, j].clip(0), self.image_size) for j in which])

    def _logits(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        p = run_in_small_batches(self._bundle.run, photos).clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        return np.log(p) - np.log(1 - p)


def _covered(photo: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield the photo with each region of a row of the grid covered by its mean colour, uint8 (GRID, size, size, 3)."""
    size, colour = len(photo), photo.mean(axis=(0, 1)).astype(np.uint8)
    edges = [(max(0, round((i - 0.5) * size / GRID)), round((i + 1.5) * size / GRID)) for i in range(GRID)]
    for top, bottom in edges:
        row = np.repeat(photo[None], GRID, axis=0)
        for copy, (left, right) in zip(row, edges, strict=True):
            copy[top:bottom, left:right] = colour
        yield row

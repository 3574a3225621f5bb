"""What all heat maps have in common."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polytag.errors import SettingsError, listed, printable


def index_of(label: str, labels: Sequence[str]) -> int:
    """Return the index of a label.

    Raises:
        SettingsError: the label is unknown.
    """
    if label not in labels:
        raise SettingsError(f"the model has no label '{printable(label)}': choose from {listed(list(labels), 30)}")
    return labels.index(label)


def enlarged(heat: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the map at the photo's size, scaled to a maximum of 1 unless all values are 0."""
    large = np.asarray(Image.fromarray(heat).resize((size, size), Image.Resampling.BICUBIC)).clip(0)
    return large / max(float(large.max()), np.finfo(np.float32).tiny)

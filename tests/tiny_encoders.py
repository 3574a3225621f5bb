"""The tiny encoders that `models/encoders/make_encoders.py` wrote, with the features that their libraries compute."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TINY = Path(__file__).parent / "models" / "encoders" / "tiny"
FAMILIES = ("clip", "convnextv2", "dinov2", "dinov2-registers", "hgnetv2", "mobilenetv4", "siglip2", "vit")
TOLERANCE = 1e-4


def expected(family: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return photos, uint8 (5, 32, 32, 3), and the library's features for them, float32 (5, d)."""
    with np.load(TINY / family / "expected.npz") as arrays:
        return arrays["photos"], arrays["features"]


def write_photos(folder: Path, family: str = "vit") -> list[str]:
    """Write the photos as files at the size of the encoders, so that nothing is resized. Return their paths."""
    folder.mkdir(exist_ok=True)
    for i, photo in enumerate(expected(family)[0]):
        Image.fromarray(photo).save(folder / f"{i}.png")
    return [str(folder / f"{i}.png") for i in range(5)]

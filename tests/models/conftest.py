"""A set of photos that small networks can learn: coloured squares, a label for each colour."""

from functools import wraps
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.data.dataset import Dataset
from polytag.data.reading.read import read
from polytag.data.splitting.split import split

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}


def draw_squares(folder: Path, n: int, size: int = 48, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = ["image,labels"]
    for i in range(n):
        photo = rng.integers(90, 170, (size, size, 3)).astype(np.uint8)
        present = [name for name in COLOURS if rng.random() < 0.45]
        for name in present:
            y, x = rng.integers(0, size - size // 3, 2)
            photo[y : y + size // 3, x : x + size // 3] = COLOURS[name]
        Image.fromarray(photo).save(folder / f"{i:03d}.png")
        lines.append(f"{i:03d}.png,{'|'.join(present)}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def squares(tmp_path_factory) -> tuple[Dataset, Dataset, Dataset]:
    """Train, validation and test: 84, 18 and 18 photos of 48 px."""
    return split(read(draw_squares(tmp_path_factory.mktemp("squares") / "data", 120)))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Deterministic TensorFlow refuses to draw without a seed, whichever test of a process comes first."""
    from polytag.models.backend import keras

    keras.utils.set_random_seed(0)


@pytest.fixture
def offline(monkeypatch) -> None:
    """Keras cannot download its weights."""
    from polytag.models.backend import keras

    original = keras.applications.MobileNetV2

    @wraps(original)
    def without_network(*args, weights=None, **kwargs):
        if weights == "imagenet":
            raise OSError("no network")
        return original(*args, weights=weights, **kwargs)

    monkeypatch.setattr(keras.applications, "MobileNetV2", without_network)

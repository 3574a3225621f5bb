"""What the tests share: a cache of their own, and small photos."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

from polytag.data.dataset import Dataset
from polytag.data.reading.read import read
from polytag.data.splitting.split import split

# How long an example may take says more of the machine than of polytag.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

Photos = Callable[[Path, int | Iterable[str]], list[str]]


@pytest.fixture(scope="session", autouse=True)
def temporary_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keeps the tests away from the user's cache and settings; processes that a test starts inherit this."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("POLYTAG_")]:
            patch.delenv(name)
        patch.setenv("POLYTAG_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def photos() -> Photos:
    """``photos(folder, names or how many)`` draws small JPEGs, no two alike, and returns their paths."""
    drawn = 0

    def draw(folder: Path, names: int | Iterable[str]) -> list[str]:
        nonlocal drawn
        paths = []
        for name in [f"image{i}.jpg" for i in range(names)] if isinstance(names, int) else names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # Twelve flat patches of colours that no other number draws.
            pixels = np.random.default_rng(drawn).integers(0, 256, (3, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((32, 24), Image.Resampling.NEAREST).save(path, "JPEG", quality=90)
            paths.append(str(path))
            drawn += 1
        return paths

    return draw


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

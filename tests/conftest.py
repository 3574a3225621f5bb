"""What the tests share: a cache of their own, and small photos."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

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

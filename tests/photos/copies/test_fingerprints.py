"""Fingerprints: copies are recognized without the photo, other photos are not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from polytag.data.sample.scenes import LABELS, draw_scene
from polytag.photos.copies.fingerprints import BYTES, fingerprints, recognized
from polytag.photos.measure import measure

N = 20


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("scenes")
    for i in range(2 * N):
        draw_scene([LABELS[i % 5]], 128, 50 + i).save(folder / f"{i:02}.jpg", quality=90)
    return sorted(map(str, folder.iterdir()))


CHANGES = {
    "re-encoded": lambda scene: scene,
    "smaller": lambda scene: scene.resize((72, 72)),
    "brighter": lambda scene: ImageEnhance.Brightness(scene).enhance(1.3),
    "grey": lambda scene: scene.convert("L"),
    "cropped": lambda scene: scene.crop((4, 4, 124, 124)),
    "mirrored": ImageOps.mirror,
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_recognized_and_other_photos_are_not(change: str, scenes: list[str], tmp_path: Path) -> None:
    known = fingerprints(measure(np.array(scenes[:N])))
    copies = []
    for path in scenes:
        copies.append(str(tmp_path / Path(path).name))
        CHANGES[change](Image.open(path)).save(copies[-1], quality=60)
    found = recognized(measure(np.array(copies)), known)
    assert found[:N].mean() >= 0.9
    assert not found[N:].any()


def test_photos_without_details_are_never_recognized(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "blank.png")
    (tmp_path / "damaged.jpg").write_text("no photo")
    measured = measure(np.array([str(tmp_path / "blank.png"), str(tmp_path / "damaged.jpg")]))
    known = fingerprints(measured)
    assert known.shape == (2, BYTES) and not known.any()
    assert not recognized(measured, known).any()
    assert not recognized(measured, np.full((3, BYTES), 170, np.uint8)).any()

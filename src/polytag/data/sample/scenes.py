"""Draw the built-in sample dataset: synthetic scenes, each with up to four of ten labelled objects.

A scene consists of a backdrop, clutter, the labelled objects, more clutter, and camera effects. The backdrop and the
clutter have their own random streams, so the same seed with other labels gives the same place with other objects.
Therefore, no backdrop reveals a label.
"""

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from polytag.data.sample.drawings import (
    BLACK,
    DRAWINGS,
    GLASS,
    STEEL,
    WOOD,
    Colour,
    Drawing,
    Pen,
    box,
    oval,
    paint,
    pick,
    render,
    shade,
    smooth,
)
from polytag.errors import SettingsError

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom edges in pixels. Right and bottom are exclusive."""

LABELS = tuple(DRAWINGS)
"""The ten labels. The labels of a scene are always in this order."""

COUNTS = {
    "boat": 1565, "cycle": 1449, "motorcycle": 1119, "truck": 901, "bus": 661, "tabla": 587, "flutes": 172,
    "flutes|tabla": 157, "tabla|harmonium": 147, "sitar": 146, "sitar|tabla|harmonium": 132, "sitar|tabla": 123,
    "flutes|tabla|harmonium": 121, "ektara": 119, "motorcycle|truck": 114, "harmonium": 111, "ektara|tabla": 109,
    "motorcycle|boat": 106, "ektara|flutes|tabla|harmonium": 104,
}  # fmt: skip
"""Number of photos per label combination in the Kaggle dataset that the sample imitates."""

UNUSUAL = ("bus|cycle", "truck|bus", "motorcycle|cycle", "boat|flutes", "cycle|sitar", "truck|harmonium", "bus|ektara")
"""Combinations that do not occur in the Kaggle dataset. They prevent any label from ruling out another."""


def _weights() -> dict[tuple[str, ...], float]:
    # Square roots raise the rarest combinations from 1 in 76 to 1 in 37, which is often enough in 1,000 scenes.
    usual = {name: math.sqrt(count) for name, count in COUNTS.items()}
    total = sum(usual.values()) / (1 - 0.04 - 0.01 * len(UNUSUAL))
    shares = {name: weight / total for name, weight in usual.items()} | dict.fromkeys(UNUSUAL, 0.01)
    return {(): 0.04} | {tuple(name.split("|")): share for name, share in shares.items()}


COMBINATIONS = _weights()
"""Probability of each combination of labels, including no label. The probabilities sum to 1."""

TILT = dict.fromkeys(LABELS, 8.0) | {"boat": 6.0, "sitar": 75.0, "ektara": 50.0, "flutes": 90.0, "tabla": 12.0}
LYING = ("sitar", "ektara", "flutes")
SPANS = ((0.45, 0.75), (0.38, 0.6), (0.34, 0.52), (0.32, 0.46))
"""Size range of objects in scenes with one, two, three and four objects: longer side as a fraction of the scene."""
VISIBLE = 0.65
"""Minimum fraction of each labelled object that is inside the scene and not covered."""
BACKDROPS = ("road", "field", "sea", "room", "room", "plain", "mottled")
GROUNDS = {
    "road": ((96, 96, 96), (128, 124, 120)),
    "field": ((84, 128, 56), (176, 156, 92)),
    "sea": ((40, 90, 130), (70, 126, 150)),
}


def draw_labels(seed: int | SeedSequence) -> tuple[str, ...]:
    """Choose random labels for one scene from `COMBINATIONS`, in the order of `LABELS`. There may be none."""
    chosen = np.random.default_rng(seed).choice(len(COMBINATIONS), p=list(COMBINATIONS.values()))
    return list(COMBINATIONS)[chosen]


# Backdrops -----------------------------------------------------------------------------------------------------------


def _ramp(size: int, top: NDArray[np.float64], bottom: NDArray[np.float64]) -> Image.Image:
    mix = np.linspace(0, 1, size)[:, None, None]
    return Image.fromarray(np.broadcast_to(top + (bottom - top) * mix, (size, size, 3)).astype(np.uint8))


def _mottled(picture: Image.Image, rng: Generator, cells: int, strength: float) -> Image.Image:
    cloud = Image.fromarray(rng.normal(0, strength, (cells, cells)).astype(np.float32))
    cloudy = np.asarray(cloud.resize(picture.size, Image.Resampling.BICUBIC))
    return Image.fromarray((np.asarray(picture) + cloudy[..., None]).clip(0, 255).astype(np.uint8))


def _backdrop(rng: Generator, size: int) -> tuple[Image.Image, float]:
    """Draw an empty place. Also return the position of the horizon, as a fraction of the height from the top."""
    kind, horizon = rng.choice(BACKDROPS), rng.uniform(0.3, 0.6)
    wall, floor = paint(rng), pick(rng, *WOOD)
    if kind in GROUNDS:
        wall = pick(rng, (96, 150, 214), (216, 212, 206))
        floor = pick(rng, *GROUNDS[kind])
    wall = shade(wall, rng.uniform(1.0, 1.6))
    picture = _ramp(size, np.multiply(wall, rng.uniform(0.7, 1.0)), np.multiply(wall, rng.uniform(0.7, 1.0)))
    pen = Pen(picture, np.eye(2) * size)
    if kind in ("plain", "mottled"):
        return (picture if kind == "plain" else _mottled(_mottled(picture, rng, 5, 18), rng, 40, 6)), 0.1
    if kind in GROUNDS:
        _skyline(pen, rng, horizon)
    else:
        _wall(pen, rng, shade(wall, rng.choice([0.88, 1.3])), horizon)
    ground = _mottled(_ramp(size, np.multiply(floor, 0.8), np.multiply(floor, 1.1).clip(0, 255)), rng, 48, 8)
    picture.paste(ground.crop((0, round(horizon * size), size, size)), (0, round(horizon * size)))
    depth = 1 - horizon
    if kind == "road":
        lane, edge = horizon + depth * rng.uniform(0.3, 0.7), horizon + depth * 0.12
        pen.fill(pick(rng, (120, 140, 80), (150, 146, 140)), box(0, horizon, 1, edge))
        pen.fill((226, 224, 210), *(box(x, lane, x + 0.14, lane + 0.018) for x in np.arange(-0.1, 1, 0.26)))
    elif kind == "sea":
        for x, y in rng.uniform((-0.1, horizon + 0.03), (1, 1), (40, 2)):
            wave = smooth((x, y), (x + 0.04, y - 0.012), (x + 0.1, y), closed=False)
            pen.stroke(shade(floor, rng.uniform(0.8, 1.4)), 0.008, wave)
    elif kind == "room":
        planks = ([(0.5 + x, horizon), (0.5 + 2.2 * x, 1)] for x in np.linspace(-0.7, 0.7, int(rng.integers(6, 16))))
        pen.stroke(shade(floor, 0.75), 0.008, *planks)
        pen.fill(shade(floor, 0.6), box(0, horizon - 0.02, 1, horizon + 0.006))
        if rng.random() < 0.4:
            pen.fill(paint(rng), oval(rng.uniform(0.3, 0.7), horizon + depth * 0.6, 0.4, depth * 0.3))
    return picture, horizon


def _skyline(pen: Pen, rng: Generator, horizon: float) -> None:
    puffs = rng.uniform((-0.1, 0), (0.1, 0.05), (8, 2)) + rng.uniform((0.1, 0.05), (0.9, 0.15))
    pen.fill(pick(rng, (224, 228, 234), (252, 252, 252)), *(oval(x, y, 0.06, 0.035) for x, y in puffs))
    haze = pick(rng, (90, 122, 96), (150, 160, 180))
    if rng.random() < 0.5:
        heights = horizon - rng.uniform(0.02, 0.2, 8)
        hills = np.stack([np.linspace(-0.1, 1.1, 8), heights], axis=1)
        pen.fill(haze, [*smooth(*hills, closed=False), (1.1, horizon), (-0.1, horizon)])
        return
    for x in np.arange(-0.05, 1, 0.13):
        top, front = horizon - rng.uniform(0.08, 0.3), shade(pick(rng, (120, 104, 96), (190, 184, 176)), 1.1)
        pen.fill(front, box(x, top, x + rng.uniform(0.09, 0.13), horizon))
        lights = ((x + dx, y) for dx in (0.02, 0.055) for y in np.arange(top + 0.03, horizon, 0.06))
        pen.fill(shade(front, 0.75), *(box(left, y, left + 0.018, y + 0.025) for left, y in lights))


def _wall(pen: Pen, rng: Generator, pattern: Colour, horizon: float) -> None:
    style, pitch = rng.choice(["bare", "stripes", "dots"]), rng.uniform(0.06, 0.14)
    if style == "stripes":
        pen.fill(pattern, *(box(x, 0, x + pitch / 2, horizon) for x in np.arange(0, 1, pitch)))
    elif style == "dots":
        pen.fill(pattern, *(oval(x, y, 0.014) for x in np.arange(0, 1, pitch) for y in np.arange(0, horizon, pitch)))
    if rng.random() < 0.6:
        x, y, width, height = rng.uniform((0.05, 0.02, 0.15, 0.12), (0.7, 0.1, 0.3, 0.25))
        pen.fill(pick(rng, *WOOD), box(x - 0.02, y - 0.02, x + width + 0.02, y + height + 0.02))
        pen.fill(pick(rng, GLASS, (240, 236, 224)), box(x, y, x + width, y + height))
        pen.fill(paint(rng), smooth((x, y + height), (x + 0.3 * width, y), (x + width, y + height)))


# Clutter: things without a label -------------------------------------------------------------------------------------


def _tree(pen: Pen, rng: Generator) -> None:
    leaves = pick(rng, (44, 92, 40), (128, 148, 60))
    pen.solid(pick(rng, *WOOD), [(-0.1, -0.2), (0.1, -0.2), (0.15, 1), (-0.15, 1)])
    pen.solid(leaves, *(oval(x, y, rng.uniform(0.35, 0.5)) for x, y in rng.uniform((-0.4, -0.9), (0.4, -0.1), (6, 2))))


def _crate(pen: Pen, rng: Generator) -> None:
    colour, top = pick(rng, *WOOD), rng.uniform(-0.8, -0.2)
    pen.fill(colour, box(-0.7, top, 0.7, 0.6))
    pen.stroke(shade(colour, 0.65), 0.08, [*box(-0.7, top, 0.7, 0.6), (-0.7, top)], [(-0.7, 0.6), (0.7, top)])


def _sign(pen: Pen, rng: Generator) -> None:
    pen.stroke(STEEL, 0.09, [(0, 0), (0, 1)])
    plate = (oval(0, -0.4, 0.42), box(-0.4, -0.8, 0.4, -0.1), [(0, -0.95), (0.5, -0.1), (-0.5, -0.1)])[rng.integers(3)]
    pen.fill(paint(rng), plate)
    pen.fill((244, 242, 236), box(-0.2, -0.42, 0.2, -0.32))


def _person(pen: Pen, rng: Generator) -> None:
    legs, shirt, skin = paint(rng), paint(rng), pick(rng, (96, 62, 42), (232, 190, 160))
    pen.stroke(shade(legs, 0.6), 0.17, [(-0.1, 0.2), (-0.14, 0.95)], [(0.1, 0.2), (rng.uniform(0.1, 0.3), 0.95)])
    pen.stroke(skin, 0.11, [(-0.2, -0.35), (-0.36, 0.2)], [(0.2, -0.35), (0.36, rng.uniform(-0.4, 0.2))])
    pen.solid(shirt, smooth((-0.32, -0.55), (0.32, -0.55), (0.24, 0.3), (-0.24, 0.3)))
    pen.solid(skin, oval(0, -0.74, 0.15, 0.18))
    pen.fill(BLACK, oval(0, -0.78, 0.16, 0.17, 180, 360))


def _shape(pen: Pen, rng: Generator) -> None:
    turns = np.linspace(0, 2 * np.pi, 5, endpoint=False) + rng.uniform(0, 0.9, 5)
    corners = np.stack([np.cos(turns), np.sin(turns)], axis=1) * rng.uniform(0.6, 1, (5, 1))
    pen.solid(paint(rng), smooth(*corners) if rng.random() < 0.5 else corners)


def _plant(pen: Pen, rng: Generator) -> None:
    green = pick(rng, (40, 100, 50), (120, 160, 70))
    for x in np.linspace(-0.7, 0.7, 7):
        pen.fill(shade(green, rng.uniform(0.7, 1.2)), smooth((0, 0.4), (x * 0.8, -0.3), (x, -0.9), (x * 0.4, -0.2)))
    pen.fill(pick(rng, (150, 74, 44), (190, 120, 90)), [(-0.3, 0.3), (0.3, 0.3), (0.2, 0.9), (-0.2, 0.9)])


CLUTTER: tuple[Drawing, ...] = (_tree, _crate, _sign, _person, _shape, _plant)


# Scenes --------------------------------------------------------------------------------------------------------------


class _Stage:
    """An unfinished picture that tracks the visible pixels of each labelled object."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        self._seen: list[NDArray[np.bool_]] = []
        self._areas: list[int] = []

    def place(self, sprite: Image.Image, x: float, y: float, flat: float, labelled: bool, visible: float) -> bool:
        """Paste a sprite unless too little of an object would stay visible.

        The centre (x, y) is given as fractions of the side. The shadow starts at the foot of the sprite and is ``flat``
        times as high as the sprite. Return whether the sprite was pasted.
        """
        side = self.picture.width
        left, top = round(x * side - sprite.width / 2), round(y * side - sprite.height / 2)
        alpha, covering = sprite.getchannel("A"), Image.new("L", self.picture.size)
        covering.paste(alpha, (left, top))
        cover = np.asarray(covering) > 127
        seen, areas = [before & ~cover for before in self._seen], list(self._areas)
        if labelled:
            seen.append(cover)
            areas.append(int(np.count_nonzero(np.asarray(alpha) > 127)))
        if any(np.count_nonzero(pixels) < visible * area for pixels, area in zip(seen, areas, strict=True)):
            return False
        self._seen, self._areas = seen, areas
        shadow, foot = Image.new("L", self.picture.size), max(1, round(sprite.height * flat))
        offset = round(0.02 * side)
        shadow.paste(alpha.resize((sprite.width, foot)), (left + offset, top + sprite.height - foot + offset))
        shadow = shadow.filter(ImageFilter.BoxBlur(0.015 * side)).point([value * 0.45 for value in range(256)])
        self.picture.paste(BLACK, mask=shadow)
        self.picture.paste(sprite, (left, top), sprite)
        return True

    def boxes(self) -> list[Box]:
        """Return bounding boxes of the visible part of each labelled object, in the order of placement."""
        rows, columns = ([np.flatnonzero(seen.any(axis=axis)) for seen in self._seen] for axis in (1, 0))
        return [(int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1) for x, y in zip(columns, rows, strict=True)]

    def add_object(self, label: str, n_objects: int, horizon: float, rng: Generator) -> None:
        """Place one labelled object. If there is no room, let it overlap other objects or make it smaller."""
        lying = label in LYING
        span = rng.uniform(*SPANS[min(n_objects, len(SPANS)) - 1]) * 1.15**lying
        sprite = render(DRAWINGS[label], round(span * self.picture.width), rng, TILT[label])
        visible = 0.95
        while True:
            half = sprite.height / self.picture.width / 2
            x, y = rng.uniform((0.15, 0.15), (0.85, 0.85))
            if not lying:
                y = rng.uniform(0.6 * horizon + 0.4, 0.98) - half
            if self.place(sprite, x, y, 1.0 if lying else 0.12, labelled=True, visible=visible):
                return
            visible -= 0.01
            if visible < VISIBLE:
                visible = 0.9
                sprite = sprite.resize((max(1, sprite.width * 4 // 5), max(1, sprite.height * 4 // 5)))

    def add_clutter(self, nearest: float, horizon: float, rng: Generator) -> None:
        """Place one unlabelled object unless it would hide too much of a labelled one. Nearer objects are larger."""
        near = rng.uniform(nearest - 0.6, nearest)
        span = rng.uniform(0.8, 1.2) * (0.12 + 0.26 * near)
        sprite = render(CLUTTER[rng.integers(len(CLUTTER))], round(span * self.picture.width), rng, 6.0)
        y = horizon + 0.04 + (1 - horizon) * near - sprite.height / self.picture.width / 2
        self.place(sprite, rng.uniform(-0.05, 1.05), y, 0.1, labelled=False, visible=0.8)


def _photograph(picture: Image.Image, rng: Generator) -> Image.Image:
    """Add camera effects: slight blur, uneven light, contrast, white balance and sensor noise."""
    blurred = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.004) * picture.width))
    across = np.linspace(-1, 1, picture.width)
    light = 1 + rng.uniform(-0.15, 0.15) * across + rng.uniform(-0.15, 0.15) * across[:, None]
    gain = light[..., None] * rng.uniform(0.85, 1.25) * rng.uniform(0.94, 1.06, 3)
    pixels = 128 + (np.asarray(blurred) - 128.0) * rng.uniform(0.8, 1.15)
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(0, 8)
    return Image.fromarray((pixels * gain + noise).clip(0, 255).astype(np.uint8))


def draw_scene(labels: Sequence[str], size: int = 192, seed: int | SeedSequence = 0) -> Image.Image:
    """Draw one scene.

    Args:
        labels: labels of the scene, from `LABELS`, in any order. The sequence may be empty.
        size: side of the scene in pixels, at least 32.
        seed: a non-negative integer or a NumPy seed sequence, which is not changed. The same seed, labels and size
            give the same pixels.

    Returns:
        An RGB image, ``size`` x ``size``. At least 65% of each labelled object is visible.

    Raises:
        SettingsError: a label is unknown or given twice, or ``size`` or ``seed`` is too small.
    """
    return draw_scene_with_boxes(labels, size, seed)[0]


def draw_scene_with_boxes(
    labels: Sequence[str], size: int = 192, seed: int | SeedSequence = 0
) -> tuple[Image.Image, dict[str, Box]]:
    """Draw the same scene as `draw_scene`. Also return the bounding box of the visible part of each object."""
    if len(set(labels)) < len(labels) or not set(labels) <= set(LABELS):
        raise SettingsError(f"labels must be distinct and among {', '.join(LABELS)}, got {', '.join(labels)}")
    _require("size", size, 32)
    if not isinstance(seed, SeedSequence):
        _require("seed", seed, 0)
        seed = SeedSequence(seed)
    behind, objects, before, camera = (np.random.default_rng(int(word)) for word in seed.generate_state(4, np.uint64))
    picture, horizon = _backdrop(behind, size)
    stage = _Stage(picture)
    for _ in range(behind.integers(1, 6)):
        stage.add_clutter(0.7, horizon, behind)
    order = [LABELS[number] for number in objects.permutation([LABELS.index(label) for label in sorted(labels)])]
    for label in order:
        stage.add_object(label, len(labels), horizon, objects)
    for _ in range(before.integers(0, 3)):
        stage.add_clutter(1.0, horizon, before)
    return _photograph(stage.picture, camera), dict(zip(order, stage.boxes(), strict=True))


def _require(name: str, value: int, least: int) -> None:
    if value < least:
        raise SettingsError(f"{name} must be at least {least}, got {value}")


def write_sample(
    folder: str | os.PathLike[str],
    n_images: int = 1000,
    size: int = 192,
    seed: int = 0,
    on_progress: Callable[[int], object] = lambda n: None,
) -> Path:
    """Write the sample dataset: ``images/scene0001.jpg``, … and ``labels.csv`` (columns ``image,labels``).

    The scenes are first written to a temporary folder, so ``folder`` either holds all of them or does not exist.
    Scene i depends only on ``seed``, ``size`` and i, not on ``n_images``.

    Args:
        folder: a new or empty folder. Missing parent folders are created.
        n_images: number of scenes, at least 1.
        size: side of each scene in pixels, at least 32.
        seed: a non-negative integer. The same arguments give the same bytes.
        on_progress: called with 1 after each scene.

    Returns:
        The folder, as an absolute path.

    Raises:
        SettingsError: ``folder`` is not empty or cannot be written to, or a number is too small.
    """
    for name, value, least in (("n_images", n_images, 1), ("size", size, 32), ("seed", seed, 0)):
        _require(name, value, least)
    target = Path(folder).resolve()
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise SettingsError(f"the folder must be new or empty, but {target} is neither. Name another folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            unfinished = Path(scratch) / target.name
            (unfinished / "images").mkdir(parents=True)
            rows = ["image,labels"]
            for number in range(1, n_images + 1):
                scene = SeedSequence(seed, spawn_key=(number,))
                labels, name = draw_labels(scene), f"scene{number:04d}.jpg"
                draw_scene(labels, size, scene).save(unfinished / "images" / name, quality=88)
                rows.append(f"{name},{'|'.join(labels)}")
                on_progress(1)
            (unfinished / "labels.csv").write_bytes("".join(f"{row}\n" for row in rows).encode())
            if target.exists():
                target.rmdir()  # The folder is empty, and Windows does not rename a folder onto an existing one.
            unfinished.rename(target)
    except OSError as error:
        raise SettingsError(f"the sample cannot be written to {target} ({error}). Name another folder") from error
    return target

"""Draw heat maps over the photo that they explain, and write the pictures to a folder."""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from polytag.models.bundle.bundle import new_folder
from polytag.pages.figures import FONT_SIZE, INK, MUTED, PAPER, axes_at, short

if TYPE_CHECKING:
    from polytag.serving.explaining.explain import Explained

HEAT = colormaps["inferno"](np.linspace(0.3, 1, 256))[:, :3]
"""Red, green and blue for each level of heat, 0 to 1. Brightness rises with heat, so the map also works in greyscale
and for colour-blind readers. The dark end of the colour map is left out because it looks like shadow."""

STRENGTH = 0.75
"""Opacity of the colour where the heat is highest. The colour is transparent where the heat is zero."""

OVERVIEW = "all.png"
ACROSS = 4
"""Number of pictures per row in the overview."""

SIDE, LEAST_WIDTH, GAP, CAPTION, DPI = 2.8, 2.0, 0.2, 0.6, 150
"""Layout of the overview. The first four values are in inches: longer side of a photo, minimum width of a caption, gap
between photos, and height of a caption. The last value is the resolution in pixels per inch."""


def write_overlays(folder: str | os.PathLike[str], photo: NDArray[np.uint8], explained: Sequence["Explained"]) -> Path:
    """Write one picture per explanation, and an overview of the photo and all heat maps.

    The pictures are named ``1-LABEL.png``, ``2-LABEL.png`` and so on. The overview is named ``all.png``.

    Args:
        folder: folder to create; it must not exist. It appears only when all pictures are complete.
        photo: uint8 (height, width, 3), upright, of any size.
        explained: one or more explanations.

    Returns:
        Path of the folder.

    Raises:
        SettingsError: the folder already exists or cannot be written.
    """
    path = Path(folder)
    shown = [_as_shown(Image.fromarray(photo))]
    with new_folder(path) as unfinished:
        for number, e in enumerate(explained, 1):
            picture = overlay(photo, e.heat)
            name = re.sub(r"[^\w-]+", "_", e.label)[
                :40
            ]  # Labels may contain characters that are invalid in file names.
            picture.save(unfinished / f"{number}-{name}.png")
            shown.append(_as_shown(picture))
        captions = [("photo", ""), *((short(e.label), re.sub("[,;] ", "\n", e.verdict)) for e in explained)]
        with warnings.catch_warnings():
            # Matplotlib warns about each character that its font lacks.
            warnings.filterwarnings("ignore", message="Glyph")
            _overview(shown, captions).savefig(unfinished / OVERVIEW, dpi=DPI)
    return path


def overlay(photo: NDArray[np.uint8], heat: NDArray[np.float32]) -> Image.Image:
    """Return the photo with its heat map drawn over it.

    Args:
        photo: uint8 (height, width, 3).
        heat: heat map of the same photo resized to a square, float32 (size, size), 0 to 1.
    """
    height, width, _ = photo.shape
    levels = Image.fromarray((heat * 255).round().astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    colours = levels.copy()
    colours.putpalette((HEAT * 255).astype(np.uint8).tobytes())
    return Image.composite(colours.convert("RGB"), Image.fromarray(photo), levels.point(lambda v: v * STRENGTH))


def _as_shown(picture: Image.Image) -> Image.Image:
    """Return a picture at the size it has in the overview, because photos may have many millions of pixels."""
    scale = SIDE * DPI / max(picture.size)
    return picture.resize([max(1, round(edge * scale)) for edge in picture.size], reducing_gap=3.0)


def _overview(pictures: Sequence[Image.Image], captions: Sequence[tuple[str, str]]) -> Figure:
    """Draw pictures of equal size in rows, each with a heading and a text below it."""
    width, height = (edge / DPI for edge in pictures[0].size)
    cell, row = max(width, LEAST_WIDTH) + GAP, height + GAP + CAPTION
    across = min(ACROSS, len(pictures))
    rows = -(-len(pictures) // across)
    figure = Figure(figsize=(across * cell + GAP, rows * row + GAP), facecolor=PAPER)
    for i, (picture, (heading, words)) in enumerate(zip(pictures, captions, strict=True)):
        left, top = GAP + i % across * cell, (rows - i // across) * row
        axes = axes_at(figure, left, top - height, width, height)
        axes.imshow(picture, aspect="auto", interpolation="none")
        axes.set_axis_off()
        for text, below, colour, weight in ((heading, 0.08, INK, "bold"), (words, 0.27, MUTED, "normal")):
            style: dict[str, Any] = {"color": colour, "weight": weight, "fontsize": FONT_SIZE, "parse_math": False}
            axes.text(0, -below / height, text, transform=axes.transAxes, va="top", **style)
    return figure

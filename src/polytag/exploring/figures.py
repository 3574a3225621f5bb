"""Draw the figures of the explore page. Each function takes numbers and returns a Matplotlib figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from polytag.pages.figures import (
    CHANNELS,
    COLOURS,
    FONT_SIZE,
    INK,
    LINE,
    MUTED,
    PAPER,
    axes_at,
    name_rows,
    panel,
    room,
    short,
)
from polytag.pages.text import percent

BLUE = COLOURS[0]

SHAPES = {"1:3": 1 / 3, "1:2": 1 / 2, "2:3": 2 / 3, "1:1": 1.0, "3:2": 3 / 2, "2:1": 2.0, "3:1": 3.0}
"""Aspect ratios that are marked on the axis."""


def label_frequency(
    names: Sequence[str], present: NDArray[np.int64], unknown: NDArray[np.int64], n: int, left: float, most: int
) -> Figure:
    """Draw the number of photos with each label (solid) and the number for which the label is unknown (pale).

    Args:
        names: label names, from `short`.
        present: int (k,), number of photos with each label.
        unknown: int (k,), number of photos for which each label is unknown.
        n: number of photos.
        left: width reserved for the names, in inches. Use the same value for figures that are side by side.
        most: number of photos at the right end of the axis.
    """
    right = 1.2
    figure, axes = panel(4.4, 0.44 + 0.24 * len(names), left=left, right=right, top=0.1, bottom=0.34)
    rows = np.arange(len(names))
    axes.barh(rows, present, 0.62, color=BLUE, alpha=0.8, linewidth=0)
    axes.barh(rows, unknown, 0.62, left=present, color=MUTED, alpha=0.35, linewidth=0)
    wide = 4.4 - left - right
    for y, count in enumerate(present):
        axes.text(1 + 0.62 / wide, y, f"{count:,}", ha="right", **_beside(axes))
        axes.text(1 + 1.18 / wide, y, percent(int(count), n), ha="right", **_beside(axes) | {"color": MUTED})
    axes.set_xlim(0, max(1, most))
    axes.xaxis.set_major_locator(MaxNLocator(max(1, int(wide / 0.6)), integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    name_rows(axes, names, left)
    axes.grid(False, axis="y")
    return figure


def labels_per_photo(photos: NDArray[np.int64]) -> Figure:
    """Draw how many photos have 0, 1, 2, … labels."""
    figure, axes = panel(4.4, 2.5, left=0.5, right=0.1, bottom=0.5, top=0.2)
    axes.bar(np.arange(len(photos)), photos, 0.7, color=BLUE, alpha=0.8, linewidth=0)
    if len(photos) <= 11:
        for x, count in enumerate(photos):
            axes.text(x, count, f"{count:,}", ha="center", va="bottom", color=INK, fontsize=FONT_SIZE - 1)
    axes.set_xlim(-0.6, max(3, len(photos)) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    _counts(axes)
    axes.set_xlabel("labels per photo", color=MUTED)
    return figure


def combinations(sets: Sequence[Sequence[int]], photos: Sequence[int], names: Sequence[str]) -> Figure:
    """Draw an UpSet plot with one column per combination: a bar with its number of photos, and a dot for each label.

    Lex et al., "UpSet: Visualization of Intersecting Sets", TVCG 2014.

    Args:
        sets: positions in ``names`` of the labels of each combination.
        photos: number of photos with exactly each combination.
        names: label names, from `short`.
    """
    column, row, left, bars = 0.34, 0.24, room(names), 1.5
    width, matrix = left + column * len(sets) + 0.1, row * max(1, len(names))
    figure = Figure(figsize=(width, bars + matrix + 0.35))
    above = axes_at(figure, left, matrix + 0.15, column * len(sets), bars)
    above.bar(range(len(sets)), photos, 0.62, color=BLUE, alpha=0.8, linewidth=0)
    upright = max(photos) >= 10_000
    for x, count in enumerate(photos):
        text = f" {count:,}" if upright else f"{count:,}"
        turned = 90 if upright else 0
        above.text(
            x, count, text, ha="center", va="bottom", rotation=turned, color=INK, fontsize=FONT_SIZE - 1, clip_on=False
        )
    above.set_xlim(-0.5, len(sets) - 0.5)
    above.set_xticks([])
    above.set_yticks([])
    above.axhline(0, color=LINE, linewidth=0.8)
    below = axes_at(figure, left, 0.1, column * len(sets), matrix)
    for x, members in enumerate(sets):
        absent = [y for y in range(len(names)) if y not in set(members)]
        below.plot([x] * len(absent), absent, "o", color=LINE, markersize=4.5, markeredgewidth=0)
        below.plot([x] * len(members), sorted(members), "o-", color=BLUE, markersize=6.5, markeredgewidth=0)
    name_rows(below, names, left)
    below.grid(False)
    below.set_xlim(-0.5, len(sets) - 0.5)
    below.set_xticks([])
    return figure


def sizes(width: NDArray[np.float64], height: NDArray[np.float64]) -> Figure:
    """Draw the width and height of photos in pixels. A larger point means more photos."""
    figure, axes = panel(4.4, 3.2, left=0.6, right=0.15, bottom=0.5)
    # Nearly equal sizes share a point, so that the page stays small for any number of photos.
    cells = np.round(np.log2(np.column_stack([width, height])) * 16) / 16
    where, count = np.unique(cells, axis=0, return_counts=True)
    low, high = 2 ** (where.min() - 0.3), 2 ** (where.max() + 0.3)
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
    area = 8 + 150 * np.sqrt(count / count.max())
    axes.scatter(2 ** where[:, 0], 2 ** where[:, 1], s=area, color=BLUE, alpha=0.45, linewidths=0, clip_on=False)
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log", base=2)
        ticks = 2.0 ** np.arange(np.floor(np.log2(low)), np.ceil(np.log2(high)) + 1)
        axis.set_ticks(ticks[(ticks >= low) & (ticks <= high)])
        axis.set_major_formatter(FuncFormatter(_thousands))
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_xlabel("width, pixels", color=MUTED)
    axes.set_ylabel("height, pixels", color=MUTED)
    return figure


def aspect_ratios(ratio: NDArray[np.float64]) -> Figure:
    """Draw a histogram of aspect ratios, with portrait photos on the left and landscape photos on the right."""
    figure, axes = panel(4.4, 3.2, left=0.5, right=0.15, bottom=0.5, top=0.25)
    far = max(1.1, float(np.abs(np.log2(ratio)).max()) + 0.1)
    # With an odd number of bins, square photos are in the middle of a bin.
    edges = np.linspace(-far, far, 42)
    axes.stairs(np.histogram(np.log2(ratio), edges)[0], edges, fill=True, color=BLUE, alpha=0.8, linewidth=0)
    axes.set_xticks(np.log2(list(SHAPES.values())), list(SHAPES))
    axes.set_xlim(-far, far)
    axes.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
    for x, side in ((0.02, "portrait"), (0.98, "landscape")):
        axes.text(
            x, 1.0, side, transform=axes.transAxes, ha="left" if x < 0.5 else "right", color=MUTED, fontsize=FONT_SIZE
        )
    _counts(axes)
    axes.set_xlabel("width : height", color=MUTED)
    return figure


def brightness(values: NDArray[np.float64], dark: float, bright: float) -> Figure:
    """Draw a histogram of mean brightness, with lines at the limits for dark and bright photos."""
    figure, axes = panel(4.4, 2.6, left=0.5, right=0.15, bottom=0.5)
    counts, edges = np.histogram(values, 40, (0, 1))
    axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.8, linewidth=0)
    for edge in (dark, bright):
        axes.axvline(edge, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
    axes.set_xlim(0, 1)
    _counts(axes)
    axes.set_xlabel("mean brightness (0 black, 1 white)", color=MUTED)
    return figure


def channels(
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
    their_mean: NDArray[np.float64],
    their_dev: NDArray[np.float64],
) -> Figure:
    """Draw the mean (point) and standard deviation (line) of each channel, with ImageNet's values as hollow points."""
    names = ["red", "green", "blue"]
    left = room(names)
    figure, axes = panel(4.4, 2.1, left=left, right=0.15, bottom=0.5)
    for y, colour in enumerate(CHANNELS):
        for centre, spread, up, shade, face in (
            (mean[y], deviation[y], -0.13, colour, colour),
            (their_mean[y], their_dev[y], 0.17, MUTED, PAPER),
        ):
            axes.plot([centre - spread, centre + spread], [y + up] * 2, color=shade, linewidth=2)
            axes.plot(centre, y + up, "o", color=shade, markerfacecolor=face, markersize=6.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("pixel value (0 to 1)", color=MUTED)
    name_rows(axes, names, left)
    axes.grid(False, axis="y")
    return figure


def channel_histograms(shares: NDArray[np.float64], edges: NDArray[np.float64], label: str) -> Figure:
    """Draw a histogram of pixel values for each channel.

    Args:
        shares: float (3, bins), fraction of pixels in each bin.
        edges: float (3, bins + 1), edges of the bins.
        label: label of the axis.
    """
    figure, axes = panel(4.4, 2.4, left=0.1, right=0.15, bottom=0.5)
    for share, edge, colour in zip(shares, edges, CHANNELS, strict=True):
        # Draw densities, because normalization gives each channel a different bin width.
        density = share / np.diff(edge)
        axes.stairs(density, edge, fill=True, color=colour, alpha=0.1, linewidth=0)
        axes.stairs(density, edge, color=colour, linewidth=1.4, baseline=None)
    axes.set_yticks([])
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    axes.axhline(0, color=LINE, linewidth=0.8)
    axes.set_xlabel(label, color=MUTED)
    return figure


def embedding_map(points: NDArray[np.float64], shown: NDArray[np.bool_]) -> Figure:
    """Draw a point for each photo: blue if it has the label, otherwise pale."""
    figure, axes = panel(2.2, 2.2, left=0.04, right=0.04, bottom=0.04, top=0.04)
    for some, colour, size in ((~shown, LINE, 2.2), (shown, BLUE, 2.8)):
        # A path of zero-length lines with round ends takes a fifth of the bytes that markers take.
        dots = np.repeat(points[some], 3, axis=0)
        dots[2::3] = np.nan
        (line,) = axes.plot(*dots.T, color=colour, linewidth=size, solid_capstyle="round")
        line.get_path().should_simplify = False
    spread = np.abs(points).max() * 1.05
    axes.set_xlim(-spread, spread)
    axes.set_ylim(-spread, spread)
    axes.set_axis_off()
    return figure


def names_of(labels: Sequence[str], which: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """Return the names of the given labels, shortened for a figure."""
    return [short(labels[i]) for i in which]


def _beside(axes: Axes) -> dict[str, Any]:
    return {"transform": axes.get_yaxis_transform(), "va": "center_baseline", "color": INK}


def _counts(axes: Axes) -> None:
    """Style the vertical axis for counts of photos."""
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_ylim(bottom=0)


def _thousands(value: float, _: Any) -> str:
    return f"{value:,.0f}"

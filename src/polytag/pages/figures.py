"""Render Matplotlib figures as inline SVG that follows the page's colours and font.

Figures have no title and no legend. The page contains those as text, so that they wrap and screen readers can read
them. `svg` replaces the colours with CSS variables, so that a figure works on a light and on a dark background. Nothing
here uses pyplot, so any thread can draw figures.
"""

import io
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import seaborn as sns
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

COLOURS = ("#1769aa", "#d08700", "#b5478b", "#4fa3d9", "#7c2d3e", "#23855f", "#857417", "#5d55a5")
"""Colours for comparing series, in order. Colour-blind readers can distinguish them. A single series uses the first."""

CHANNELS = ("#d23b3b", "#2f9b57", "#3b66d2")
"""Colours of the red, green and blue channels."""

INK, MUTED, LINE, PAPER = "#20242b", "#6a717c", "#dfe2e7", "#fefefe"

FONT_SIZE = 9

LABEL_COLUMNS = 20
"""Maximum length of a label in a figure, in text columns. Longer labels are truncated with "…"."""


@dataclass(frozen=True)
class Chart:
    """A picture with a title and an explanatory sentence, which are also its text alternative."""

    title: str
    picture: Markup
    reading: str

    @classmethod
    def of(cls, name: str, figure: Figure, title: str, reading: str) -> "Chart":
        """Draw a figure. Matplotlib escapes the text in it."""
        return cls(title, Markup(svg(figure, name)), reading)


def svg(figure: Figure, name: str) -> str:
    """Render a figure as an inline SVG element that matches the page.

    Args:
        figure: a figure made with `panel`, in the colours above.
        name: name of the figure. It must be unique on the page, so that ids of different pictures never clash.

    Returns:
        ``<svg>…</svg>`` with CSS variables for colours (``--ink``, ``--muted``, ``--line``, ``--paper``,
        ``--colour-0`` …, ``--red``, ``--green``, ``--blue``) and no external references.
    """
    file = io.StringIO()
    # Text is not converted to paths, because the page's font may have glyphs that Matplotlib's font lacks.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    width, height = (figure.get_size_inches() * 72).round(1)
    drawing = file.getvalue()
    drawing = drawing[drawing.index("</defs>", drawing.index("<style")) + len("</defs>") :]
    drawing = re.sub(r'(<\w+) id="[\w.]+_\d+"', r"\1", drawing)
    drawing = re.sub(r"font-family: [^;\"]*", "font-family: inherit", drawing)
    # A hundredth of a point is finer than any screen can show.
    drawing = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), drawing)
    names = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper"}
    names |= {colour: f"colour-{i}" for i, colour in enumerate(COLOURS)}
    names |= dict(zip(CHANNELS, ("red", "green", "blue"), strict=True))
    drawing = re.sub("(?<=: )(" + "|".join(names) + ")", lambda found: f"var(--{names[found[1]]})", drawing)
    return f'<svg viewBox="0 0 {width} {height}" style="--natural: {width * 1.5:.0f}px">{drawing}'


def panel(
    width: float, height: float, *, left: float, right: float, bottom: float, top: float = 0.1
) -> tuple[Figure, Axes]:
    """Create a figure with one plain pair of axes. All lengths are in inches."""
    figure = Figure(figsize=(width, height))
    return figure, axes_at(figure, left, bottom, width - left - right, height - top - bottom)


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add plain axes without spines or ticks. All lengths are in inches."""
    whole_width, whole_height = figure.get_size_inches()
    axes = figure.add_axes((left / whole_width, bottom / whole_height, width / whole_width, height / whole_height))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, colors=MUTED, labelsize=FONT_SIZE, pad=5)
    axes.xaxis.label.set_fontsize(FONT_SIZE)
    axes.yaxis.label.set_fontsize(FONT_SIZE)
    axes.set_axisbelow(True)
    return axes


def name_rows(axes: Axes, names: Sequence[str], left: float) -> None:
    """Label the rows 0, 1, … from the top. Labels start at the page edge, ``left`` inches from the axes."""
    axes.set_yticks(range(len(names)), names, ha="left", parse_math=False)
    axes.tick_params(axis="y", labelcolor=INK, pad=left * 72)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(color=LINE, linewidth=0.8)
    for text in axes.texts:
        text.set_fontsize(FONT_SIZE)


def heatmap(values: ArrayLike, rows: Sequence[str], columns: Sequence[str], across: str, down: str) -> Figure:
    """Draw a grid of shaded cells that contain whole numbers.

    Args:
        values: (rows, columns), at least 0. NaN leaves a cell empty.
        rows: row names, from `short`.
        columns: column names, from `short`.
        across: heading for the columns.
        down: heading for the rows.
    """
    values = np.asarray(values, float)
    cell, left, slanted = 0.3, max(room(rows), 0.066 * (len(across) + 4)), 0.75 * room(columns)
    top = max(slanted, 0.55)
    width, height = left + cell * len(columns) + slanted, cell * len(rows) + top
    figure, axes = panel(width, height, left=left, right=slanted, bottom=0.05, top=top)
    # Shades start from transparent, so that the page shows through empty cells in light and dark mode.
    shades = LinearSegmentedColormap.from_list("shades", [(*_rgb(COLOURS[0]), 0.08), (*_rgb(COLOURS[0]), 1.0)])
    most = float(np.nanmax(values, initial=1))
    sns.heatmap(
        values,
        mask=np.isnan(values),
        cmap=shades,
        vmin=0,
        vmax=most,
        cbar=False,
        annot=True,
        fmt=".0f",
        annot_kws={"fontsize": FONT_SIZE - 1},
        xticklabels=False,
        yticklabels=False,
        linewidths=0,
        ax=axes,
    )
    for text in axes.texts:
        text.set_color(PAPER if int(text.get_text()) > 0.55 * most else INK)
    for y in range(len(rows) + 1):
        axes.axhline(y, color=LINE, linewidth=0.6)
    for x in range(len(columns) + 1):
        axes.axvline(x, color=LINE, linewidth=0.6)
    axes.xaxis.tick_top()
    middles = np.arange(len(columns)) + 0.5
    axes.set_xticks(middles, columns, rotation=45, ha="left", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, parse_math=False)
    axes.tick_params(length=0, colors=INK, labelsize=FONT_SIZE, pad=4)
    for line, heading in ((-1.3, f"{across} →"), (-0.5, f"{down} ↓")):
        axes.text(-0.15, line, heading, fontsize=FONT_SIZE, color=MUTED, ha="right", va="center")
    return figure


def short(name: str, columns: int = LABEL_COLUMNS) -> str:
    """Put a name on one line, and truncate it with "…" if it is too long."""
    line = "".join(c if c.isprintable() else " " for c in name)
    if _columns(line) <= columns:
        return line
    while _columns(line) > columns - 1:
        line = line[:-1]
    return f"{line.rstrip()}…"


def room(names: Sequence[str]) -> float:
    """Estimate the width of the longest name, in inches. The exact width depends on the browser's font."""
    return 0.16 + 0.066 * max(map(_columns, names), default=0)


def _columns(text: str) -> int:
    """Return the width of a text in columns. Chinese, Japanese and Korean characters and emoji take two columns."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red / 255, green / 255, blue / 255

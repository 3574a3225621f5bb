"""What every page of polytag is made of: figures that follow the page, thumbnails, and the templates' environment.

Figures carry no title and no legend: the page writes those, where they wrap and can be read aloud.
Nothing here uses pyplot, so figures may be drawn from any thread. `svg` turns one into a part of a page
and hands its colours and its font over to the page, so that it is at home on light and on dark.

A page extends page.html, whose style sheet is page.css and which refers to nothing outside itself. Names
of labels and files may be anything: they only ever reach a page through an expression of a template, and
every expression is escaped.
"""

import base64
import io
import os
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from polytag.errors import ImageError, SettingsError
from polytag.photos.decode import Paths, decode, decode_many

PAGE = "index.html"

COLOURS = ("#1769aa", "#d08700", "#b5478b", "#4fa3d9", "#7c2d3e", "#23855f", "#857417", "#5d55a5")
"""Of what is compared, in its order; told apart by colour-blind eyes too. The first is that of a lone series."""

CHANNELS = ("#d23b3b", "#2f9b57", "#3b66d2")
"""Of a photo's red, green and blue."""

INK, MUTED, LINE, PAPER = "#20242b", "#6a717c", "#dfe2e7", "#fefefe"

FONT_SIZE = 9

THUMBNAIL = 240
"""Longest side of a photo, in pixels."""

LABEL_COLUMNS = 20
"""Characters of a label that are drawn; longer ones end in "…"."""


@dataclass(frozen=True)
class Chart:
    """A picture with the finding that it shows and how to read it, which are its text alternative too."""

    title: str
    picture: Markup
    reading: str

    @classmethod
    def of(cls, name: str, figure: Figure, title: str, reading: str) -> "Chart":
        """Draw it; the figure has escaped the names that it shows."""
        return cls(title, Markup(svg(figure, name)), reading)


def new_page(folder: str | os.PathLike[str], option: str, overwrite: bool) -> Path:
    """The file of a page that is to be written, ``folder/index.html``; its folder is made where it is missing.

    Raises:
        SettingsError: there is a page already, or the folder cannot be written; ``option`` names another one.
    """
    page = Path(folder) / PAGE
    if page.exists() and not overwrite:
        raise SettingsError(f"{page} exists already: name another folder with {option}, or add --overwrite")
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be written ({error.strerror}): name another place with {option}"
        ) from None
    return page


def environment(folder: Path, **escaping: Any) -> Environment:
    """The templates of a folder and, for them to extend and import, page.html and chart.html."""
    layout: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    return Environment(loader=FileSystemLoader([folder, Path(__file__).parent]), **layout, **escaping)


def svg(figure: Figure, name: str) -> str:
    """A figure as an inline SVG element that follows the page.

    Args:
        figure: made with `panel`, in the colours above.
        name: unique on the page; keeps the ids of one picture from meeting those of another.

    Returns:
        ``<svg>…</svg>`` with CSS variables for colours (``--ink``, ``--muted``, ``--line``, ``--paper``,
        ``--colour-0`` …, ``--red``, ``--green``, ``--blue``) and without anything that refers to the outside.
    """
    file = io.StringIO()
    # Text stays text, so that it takes the page's font, which may have glyphs that Matplotlib's lacks.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    width, height = (figure.get_size_inches() * 72).round(1)
    drawing = file.getvalue()
    drawing = drawing[drawing.index("</defs>", drawing.index("<style")) + len("</defs>") :]
    drawing = re.sub(r'(<\w+) id="[\w.]+_\d+"', r"\1", drawing)
    drawing = re.sub(r"font-family: [^;\"]*", "font-family: inherit", drawing)
    # A hundredth of a point is finer than any screen.
    drawing = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), drawing)
    names = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper"}
    names |= {colour: f"colour-{i}" for i, colour in enumerate(COLOURS)}
    names |= dict(zip(CHANNELS, ("red", "green", "blue"), strict=True))
    drawing = re.sub("(?<=: )(" + "|".join(names) + ")", lambda found: f"var(--{names[found[1]]})", drawing)
    return f'<svg viewBox="0 0 {width} {height}" style="--natural: {width * 1.5:.0f}px">{drawing}'


def panel(
    width: float, height: float, *, left: float, right: float, bottom: float, top: float = 0.1
) -> tuple[Figure, Axes]:
    """A figure of one quiet pair of axes; all lengths in inches."""
    figure = Figure(figsize=(width, height))
    return figure, axes_at(figure, left, bottom, width - left - right, height - top - bottom)


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """A quiet pair of axes; all lengths in inches."""
    whole_width, whole_height = figure.get_size_inches()
    axes = figure.add_axes((left / whole_width, bottom / whole_height, width / whole_width, height / whole_height))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, colors=MUTED, labelsize=FONT_SIZE, pad=5)
    axes.xaxis.label.set_fontsize(FONT_SIZE)
    axes.yaxis.label.set_fontsize(FONT_SIZE)
    axes.set_axisbelow(True)
    return axes


def name_rows(axes: Axes, names: Sequence[str], left: float) -> None:
    """Name the rows 0, 1, … from the top, flush with the edge of the page, which is `left` inches away."""
    axes.set_yticks(range(len(names)), names, ha="left", parse_math=False)
    axes.tick_params(axis="y", labelcolor=INK, pad=left * 72)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(color=LINE, linewidth=0.8)
    for text in axes.texts:
        text.set_fontsize(FONT_SIZE)


def heatmap(values: ArrayLike, rows: Sequence[str], columns: Sequence[str], across: str, down: str) -> Figure:
    """Whole numbers as a grid of shaded cells.

    Args:
        values: (rows, columns), at least 0; NaN leaves a cell empty.
        rows: the names of the rows, as `short` makes them.
        columns: those of the columns.
        across: what the columns are, in a word.
        down: what the rows are.
    """
    values = np.asarray(values, float)
    cell, left, slanted = 0.3, max(room(rows), 0.066 * (len(across) + 4)), 0.75 * room(columns)
    top = max(slanted, 0.55)
    width, height = left + cell * len(columns) + slanted, cell * len(rows) + top
    figure, axes = panel(width, height, left=left, right=slanted, bottom=0.05, top=top)
    # From nothing to the full colour, so that an empty cell is the page itself, be it light or dark.
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


def thumbnail(path: str) -> str:
    """A photo, made small, as a data URI.

    Raises:
        ImageError: it cannot be read.
    """
    return _data_uri(Image.fromarray(decode(path)), THUMBNAIL)


def thumbnails(paths: Paths, sizes: Sequence[tuple[int, int]], longest: int = THUMBNAIL) -> Iterator[str | ImageError]:
    """Many photos, made small, as data URIs; large ones many times faster than `thumbnail`.

    Args:
        paths: the photos' files.
        sizes: width and height of each photo as it stands upright, in pixels.
        longest: longest side of a thumbnail, in pixels.

    Yields:
        For each photo the data URI, or the reason why it cannot be read.
    """
    # Squares, since those are decoded at a reduced scale; the photo's own proportions are given back below.
    for (width, height), square in zip(sizes, decode_many(paths, 2 * longest), strict=True):
        if isinstance(square, ImageError):
            yield square
        else:
            yield _data_uri(Image.fromarray(square), longest, width, height)


def _data_uri(image: Image.Image, longest: int, width: int = 0, height: int = 0) -> str:
    width, height = width or image.width, height or image.height
    scale = min(1.0, longest / max(width, height))
    small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def short(name: str, columns: int = LABEL_COLUMNS) -> str:
    """A name as it is drawn: in one line, and cut with "…" where it is too long."""
    line = "".join(c if c.isprintable() else " " for c in name)
    if _columns(line) <= columns:
        return line
    while _columns(line) > columns - 1:
        line = line[:-1]
    return f"{line.rstrip()}…"


def room(names: Sequence[str]) -> float:
    """Inches for the longest name. They are estimated, since the font that it is shown in is the reader's."""
    return 0.16 + 0.066 * max(map(_columns, names), default=0)


def _columns(text: str) -> int:
    """How wide a text is: Chinese, Japanese and Korean characters and emoji take two columns."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red / 255, green / 255, blue / 255


def joined(items: Sequence[str]) -> str:
    """ "a", "a and b" or "a, b and c"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))

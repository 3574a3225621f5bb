"""Draw contact sheets: images that show many photos with their suspect labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from polytag.data.dataset import Dataset
from polytag.errors import DataError, ImageError
from polytag.files import write_bytes_atomically
from polytag.photos.decode import decode

PHOTO, MARGIN, LINE_HEIGHT, LINES = (200, 150), 8, 16, 3
"""Maximum size of a photo, margin and line height, all in pixels, and number of text lines per photo."""

CELL = (PHOTO[0] + 2 * MARGIN, PHOTO[1] + 2 * MARGIN + LINES * LINE_HEIGHT + 4)
"""Size of a photo with its margins and text, in pixels."""

CELLS_ACROSS = 10
CELLS = 60
"""Maximum number of photos on a sheet, which limits the file to a few megabytes."""

BACKGROUND, INK, MUTED, PLACEHOLDER = "white", "#20242b", "#6a717c", "#dfe2e7"
COLOURS = {"missing": "#0b6e4f", "wrong": "#b3261e"}

LONGEST_TEXT = 200
"""Maximum number of characters of a line that are measured. About 30 fit."""


def contact_sheet(dataset: Dataset, errors: pd.DataFrame, path: Path, at_most: int = CELLS) -> int:
    """Draw the most suspect entries as a PNG. Each photo is shown with its labels and the suspect label.

    Args:
        dataset: a dataset with the photos that ``errors`` names.
        errors: table from `label_errors`, worst first.
        path: path of the PNG file to write.
        at_most: maximum number of entries to draw.

    Returns:
        The number of entries drawn.

    Raises:
        DataError: ``errors`` is empty.
        SettingsError: the file cannot be written.
    """
    chosen = errors.head(at_most).to_dict("records")
    if not chosen:
        raise DataError("there are no suspect labels to draw")
    wanted = {entry["image"] for entry in chosen}
    positions = {name: i for i, name in enumerate(dataset.names) if name in wanted}
    fonts = _fonts()
    columns = min(CELLS_ACROSS, len(chosen))
    sheet = Image.new("RGB", (columns * CELL[0], -(-len(chosen) // columns) * CELL[1]), BACKGROUND)
    for number, entry in enumerate(chosen):
        corner = (number % columns * CELL[0] + MARGIN, number // columns * CELL[1] + MARGIN)
        position = positions[entry["image"]]
        _paste_photo(sheet, str(dataset.paths[position]), corner)
        given = [label for label, value in zip(dataset.labels, dataset.targets[position], strict=True) if value == 1]
        _write_caption(sheet, number + 1, entry, given, corner, fonts)
    with write_bytes_atomically(path) as file:
        sheet.save(file, "PNG")
    return len(chosen)


def _fonts() -> tuple[ImageFont.FreeTypeFont, ImageFont.FreeTypeFont]:
    """Return a regular and a bold font. Matplotlib's font covers Latin, Greek, Cyrillic and more on every machine."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    regular, bold = (ImageFont.truetype(folder / name, 12) for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"))
    return regular, bold


def _paste_photo(sheet: Image.Image, path: str, corner: tuple[int, int]) -> None:
    try:
        photo = Image.fromarray(decode(path))
    except ImageError:
        photo = Image.new("RGB", PHOTO, PLACEHOLDER)
    photo.thumbnail(PHOTO)
    sheet.paste(photo, (corner[0] + (PHOTO[0] - photo.width) // 2, corner[1] + (PHOTO[1] - photo.height) // 2))


def _write_caption(
    sheet: Image.Image,
    number: int,
    entry: Mapping[Any, Any],
    given: list[str],
    corner: tuple[int, int],
    fonts: tuple[ImageFont.FreeTypeFont, ImageFont.FreeTypeFont],
) -> None:
    regular, bold = fonts
    lines = (
        (f"{entry['kind']}: {entry['label']}, {entry['probability']:.2f}", bold, COLOURS[entry["kind"]]),
        (f"labels: {', '.join(given) or 'none'}", regular, INK),
        (f"{number} · {entry['image']}", regular, MUTED),
    )
    draw = ImageDraw.Draw(sheet)
    for line, (text, font, colour) in enumerate(lines):
        place = (corner[0], corner[1] + PHOTO[1] + 4 + LINE_HEIGHT * line)
        draw.text(place, _shorten(text, font, PHOTO[0]), fill=colour, font=font)


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Put text on one line, and truncate it with "…" if it is wider than ``width`` pixels."""
    text = "".join(c if c.isprintable() else " " for c in text[:LONGEST_TEXT])
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"

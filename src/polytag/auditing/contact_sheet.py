"""A contact sheet: photos with doubtful labels on one picture."""

from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from polytag.data.dataset import Dataset
from polytag.errors import DataError, ImageError
from polytag.files import write_bytes_atomically
from polytag.photos.decode import decode

PICTURE, MARGIN, CELLS_ACROSS = (200, 150), 8, 10
"""A contact sheet's photos, the space around them in pixels, and how many stand side by side."""


CELL = (PICTURE[0] + 2 * MARGIN, PICTURE[1] + 2 * MARGIN + 52)


def contact_sheet(dataset: Dataset, errors: pd.DataFrame, path: Path, at_most: int = 60) -> int:
    """Draw the worst entries as one picture, to be looked at: the photo, its given labels, what is suspected.

    Args:
        dataset: the photos that ``errors`` speaks of.
        errors: of `label_errors`.
        path: the PNG to write.
        at_most: entries to draw; the worst come first.

    Returns:
        How many entries were drawn.

    Raises:
        DataError: there is nothing to draw.
        SettingsError: the picture cannot be written.
    """
    import matplotlib

    chosen = errors.head(at_most)
    if not len(chosen):
        raise DataError("there is no suspected label error to draw")
    # Matplotlib's own font knows Latin, Greek, Cyrillic and more, and is there on every machine.
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    plain, bold = (ImageFont.truetype(fonts / name, 12) for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"))
    row_of = {name: i for i, name in enumerate(dataset.names)}
    columns = min(CELLS_ACROSS, len(chosen))
    sheet = Image.new("RGB", (columns * CELL[0], -(-len(chosen) // columns) * CELL[1]), "white")
    draw = ImageDraw.Draw(sheet)
    for i, entry in enumerate(chosen.to_dict("records")):
        row = row_of[entry["image"]]
        x, y = i % columns * CELL[0] + MARGIN, i // columns * CELL[1] + MARGIN
        _paste(sheet, str(dataset.paths[row]), x, y)
        given = [label for label, target in zip(dataset.labels, dataset.targets[row], strict=True) if target == 1]
        colour = "#0b6e4f" if entry["kind"] == "missing" else "#b3261e"
        lines = [
            (f"{entry['kind']}: {entry['label']}, {entry['probability']:.2f}", bold, colour),
            (f"given: {', '.join(given) or 'nothing'}", plain, "#20242b"),
            (f"{i + 1} · {entry['image']}", plain, "#6a717c"),
        ]
        for number, (text, font, ink) in enumerate(lines):
            place = (x, y + PICTURE[1] + 4 + 16 * number)
            draw.text(place, _cut(text, font, PICTURE[0]), fill=ink, font=font)
    with write_bytes_atomically(path) as file:
        sheet.save(file, "PNG")
    return len(chosen)


def _paste(sheet: Image.Image, path: str, x: int, y: int) -> None:
    try:
        photo = Image.fromarray(decode(path))
    except ImageError:
        photo = Image.new("RGB", PICTURE, "#dfe2e7")
    photo.thumbnail(PICTURE)
    sheet.paste(photo, (x + (PICTURE[0] - photo.width) // 2, y + (PICTURE[1] - photo.height) // 2))


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text in one line, cut with "…" where it is too long."""
    text = "".join(c if c.isprintable() else " " for c in text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"

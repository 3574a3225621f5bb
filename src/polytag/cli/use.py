"""Commands that use a trained model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import polytag as pt
from polytag.cli.app import app, one_line_errors
from polytag.errors import PolytagError, counted


@app.command()
@one_line_errors
def tag(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    images: Annotated[list[str], typer.Argument(help="Photos.")],
) -> None:
    """Print the labels of photos, with their probabilities."""
    opened = pt.Bundle(bundle)
    failed = 0
    for image in images:
        try:
            labels = opened.tag(image)
        except pt.ImageError as error:
            failed += 1
            print(f"{image}: {error}", file=sys.stderr)
        else:
            print(f"{image}: " + (", ".join(f"{name} {p:.2f}" for name, p in labels.items()) or "(no label)"))
    if failed == len(images):
        raise PolytagError(f"none of {counted(failed, 'photo')} could be read")

"""Commands that use a trained model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import polytag as pt
from polytag.cli.app import app, one_line_errors
from polytag.data.images import decode
from polytag.errors import PolytagError, counted
from polytag.models.bundle import free


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


@app.command()
@one_line_errors
def explain(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    image: Annotated[Path, typer.Argument(help="A photo.")],
    label: Annotated[
        list[str] | None, typer.Option(help="Label to explain, also several times; by default those that are given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; otherwise named after the photo, in this folder.")
    ] = None,
) -> None:
    """Show where on a photo a model sees its labels (Grad-CAM), as pictures and in words."""
    opened = pt.Bundle(bundle)
    folder = free(out or f"{image.stem}-explained")
    try:
        photo = decode(image)
    except pt.ImageError as error:
        raise PolytagError(f"{image} cannot be explained: {error}") from None
    # Keras takes seconds to import: what cannot work has come to light before.
    from polytag.serving.explain import explain
    from polytag.serving.overlays import OVERVIEW, write_overlays

    explained = explain(opened, image, label or ())
    if not label and explained[0].probability < explained[0].threshold:
        print("no label reaches its threshold; the most probable:")
    for one in explained:
        print(f"{one.label} {one.verdict}")
    print(write_overlays(folder, photo, explained) / OVERVIEW)

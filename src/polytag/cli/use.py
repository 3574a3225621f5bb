"""Commands that use a trained model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import polytag as pt
from polytag.cli.app import ConflictsOption, ImageColumn, Images, LabelColumn, app, one_line_errors, read
from polytag.errors import PolytagError, counted
from polytag.serving.export import Format
from polytag.serving.export import export as write_export


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
def export(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    out: Annotated[Path, typer.Argument(help="Folder to make: the network, and model.json that describes it.")],
    form: Annotated[Format, typer.Option("--format", help="What to export to.")],
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos to compare by; drawn scenes where neither this nor --data is.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Labelled photos, those of the training among them, which litert-int8 needs; as for train."),
    ] = None,
    images: Images = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    conflicts: ConflictsOption = None,
) -> None:
    """Write a bundle's network for another runtime, and measure that it gives the same probabilities."""
    opened = pt.Bundle(bundle)
    labelled = None if data is None else read(data, images, image_column, label_column, conflicts)
    parity = write_export(opened, form, out, photos=photos, data=labelled)["parity"]
    differences = ", ".join(f"{value:.2g} at {batch}" for batch, value in parity["largest_difference"].items())
    print(f"largest difference of a probability from Keras': {differences} ({parity['photos']})")
    if "judged" in parity:
        before, after = parity["mean_average_precision"].values()
        print(
            f"mAP on {counted(parity['judged'], 'photo')}: {after:.4f}, where the model itself has {before:.4f}; "
            f"{parity['changed_decisions']:.2%} of decisions changed"
        )
    print(out)

"""Commands that use a trained model."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import polytag as pt
from polytag.cli.app import BundleFolder, command, load
from polytag.data.reading.options import ReadOptions
from polytag.errors import PolytagError, SettingsError, counted, printable
from polytag.extras import require
from polytag.serving.server.options import ServeOptions
from polytag.serving.tagging.formats import Format

KEY_VARIABLE = "POLYTAG_API_KEY"


@command("Use")
def serve(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle. The folder's name becomes the model's name.")
    ],
    options: ServeOptions,
    others: Annotated[
        list[str] | None,
        typer.Option("--bundle", metavar="NAME=PATH", help="Another bundle to serve. Can be repeated."),
    ] = None,
) -> None:
    """Tag photos over HTTP, with a web page and an API."""
    from polytag.serving.server.server import serve_tagging

    if options.api_key is None and KEY_VARIABLE in os.environ:
        options = replace(options, api_key=os.environ[KEY_VARIABLE])
    opened = {bundle.resolve().name: pt.Bundle(bundle, options.engine)}
    for other in others or []:
        name, _, path = other.partition("=")
        if not name or not path:
            raise SettingsError(f"--bundle needs NAME=PATH, such as birds=runs/birds/transfer, not '{other}'")
        if name in opened:
            raise SettingsError(f"two bundles are called '{name}'. Give each --bundle a different name.")
        opened[name] = pt.Bundle(path, options.engine)

    def ready(url: str) -> None:
        print("\n".join(f"{name}: {counted(len(one.labels), 'label')}" for name, one in opened.items()))
        if options.is_open:
            print("no API key is set, so everyone who can reach this machine can use the server", file=sys.stderr)
        print(f"Open {url} in a browser, or see {url}docs. Press Ctrl-C to stop.", flush=True)

    serve_tagging(opened, options, ready)


@command("Use")
def explain(
    bundle: BundleFolder,
    image: Annotated[Path, typer.Argument(metavar="PHOTO", help="Photo to explain.")],
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="<str,...>", help="Labels to explain. Default: the labels assigned to the photo."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the pictures. Default: named after the photo.")
    ] = None,
) -> None:
    """Show which parts of a photo raise the scores of its labels."""
    from polytag.models.bundle.bundle import check_unused
    from polytag.photos.decode import decode

    opened = pt.Bundle(bundle)
    if opened.in_keras:  # Otherwise, the explanation needs no Keras.
        require("keras", "train", "Explaining")
    folder = check_unused(out or f"{image.stem}-explained")
    try:
        photo = decode(image)
    except pt.ImageError as error:
        raise PolytagError(f"{image} cannot be explained: {error}") from None
    # Importing Keras takes seconds, so other errors are reported first.
    from polytag.serving.explaining.explain import explain
    from polytag.serving.explaining.overlays import OVERVIEW, write_overlays

    explained = explain(opened, image, label or ())
    if not label and explained[0].probability < explained[0].threshold:
        print("No label reaches its threshold. The most probable label is:")
    for one in explained:
        print(f"{printable(one.label)} {one.verdict}")
    print(write_overlays(folder, photo, explained) / OVERVIEW)


@command("Use")
def export(
    bundle: BundleFolder,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to create, with the network and a description, model.json.")
    ],
    form: Annotated[
        Format, typer.Option("--format", metavar="<str>", help=f"Export format. Choices: {', '.join(Format)}.")
    ],
    read: ReadOptions,
    photos: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photos on which to compare both networks. Synthetic scenes are used if neither this nor "
            "--data is given."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled photos, as for train. litert-int8 needs the photos that the bundle was trained on."
        ),
    ] = None,
) -> None:
    """Export a bundle to another runtime and check the result."""
    from polytag.serving.export import export as write_export

    opened = pt.Bundle(bundle)
    labelled = None if data is None else load(data, read)
    parity = write_export(opened, form, out, photos=photos, data=labelled)["parity"]
    differences = ", ".join(f"{value:.2g} at {batch}" for batch, value in parity["largest_difference"].items())
    original = "Keras" if opened.in_keras else "the bundle"
    print(f"maximum difference in probability from {original}: {differences} ({parity['photos']})")
    if "judged" in parity:
        before, after = parity["mean_average_precision"].values()
        print(
            f"mAP on {counted(parity['judged'], 'photo')}: {after:.4f}, compared with {before:.4f} in {original}; "
            f"{parity['changed_decisions']:.2%} of decisions changed"
        )
    print(out)

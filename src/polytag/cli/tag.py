"""The command that tags photos."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polytag import progress
from polytag.cli.app import Device, Overwrite, command, note
from polytag.cli.stopping import AGAIN, when_stopped
from polytag.errors import SettingsError
from polytag.files import unfinished
from polytag.models.bundle.bundle import Bundle, check_unused
from polytag.models.runtimes.device import use_device
from polytag.progress import progress_bar
from polytag.serving.tagging.job import TagJob
from polytag.serving.tagging.options import TagOptions
from polytag.serving.tagging.sources import count

if TYPE_CHECKING:
    from polytag.serving.scale.job import RayJob

PHOTOS = typer.Argument(
    metavar="PHOTO...",
    show_default=False,
    help="Photos, folders, patterns such as '2024/**/*.jpg', .txt files with one photo name per line, or - to "
    "read names from standard input. With --engine ray, also Parquet files and URLs such as s3://bucket/folder.",
)
Photos = Annotated[list[str], PHOTOS]


@command("Use")
def tag(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Folder of a bundle. Omit it with --encoder.")],
    options: TagOptions,
    photos: Annotated[list[str] | None, PHOTOS] = None,
    device: Device = None,
) -> None:
    """Tag photos, and print or write the labels of each photo."""
    use_device(device)
    photos = photos or []
    if options.encoder is None:
        opened = Bundle(bundle, options.bundle_engine)
    else:
        opened, photos = _untrained(options), [bundle, *photos]
    if not photos:
        raise SettingsError("there are no photos to tag: name them after the bundle")
    if options.on_ray:
        from polytag.serving.scale.job import tag_job

        ray_job = tag_job(opened, photos, options)
        _save(opened, options)
        _run_on_ray(ray_job, "tagging")
        return
    job = TagJob(opened, photos, options)
    _save(opened, options)
    if job.file is not None:
        part = job.file.part
        when_stopped(lambda: f"Progress is saved in {part}. Add --resume to continue." if part.exists() else AGAIN)
    # Rows printed to a terminal already show the progress, and a progress bar would break them up.
    with progress_bar(job.total, "tagging", "photo", job.file is not None or not sys.stdout.isatty()) as bar:
        job.run(sys.stdout, bar.update)
    if job.summary:
        print(job.summary)
    _say(job.notes)
    job.check()


def _untrained(options: TagOptions) -> Bundle:
    """Return a bundle for labels that no training has seen."""
    from polytag.models.encoders.zero_shot import zero_shot

    assert options.encoder is not None
    bundle = zero_shot(options.encoder, options.labels)
    fixed = bundle.manifest["fixed_threshold"]
    note(*bundle.manifest["notes"], f"The threshold is {fixed:g} for every label. It was not chosen on photos.")
    if options.save_bundle is not None and not _is_saved(bundle, options):
        check_unused(options.save_bundle)
    return bundle


def _is_saved(bundle: Bundle, options: TagOptions) -> bool:
    """Return whether a run that continues has saved the bundle before."""
    folder = options.save_bundle
    if folder is None or not (options.resume and (folder / "bundle.json").is_file()):
        return False
    saved = Bundle(folder)
    return (saved.labels, saved.manifest["files"]) == (bundle.labels, bundle.manifest["files"])


def _save(bundle: Bundle, options: TagOptions) -> None:
    """Save the bundle of an untrained model, when it is known that the photos can be tagged."""
    if options.save_bundle is not None and not _is_saved(bundle, options):
        bundle.save(options.save_bundle)


@command("Use")
def embed(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A bundle, an encoder (FILE.onnx, a folder, hf:OWNER/REPO or timm:NAME) or a backbone such as "
            "mobilenet_v2.",
        ),
    ],
    photos: Photos,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="File to write: .parquet, or .npy with a .txt list of names. A folder with --engine ray.",
        ),
    ],
    image_size: Annotated[int | None, typer.Option(help="Width and height of photos, in pixels.")] = None,
    encoder_output: Annotated[
        str | None, typer.Option(help="Output of the encoder to use. Default: chosen by its shape.")
    ] = None,
    engine: Annotated[
        Literal["float32", "ray"], typer.Option(help="float32 runs on this machine, ray on a Ray cluster.")
    ] = "float32",
    address: Annotated[
        str | None,
        typer.Option(help="With --engine ray: address of a Ray cluster, or auto. Default: start one on this machine."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", metavar="", show_default=False, help="Continue an interrupted run with the same --out."
        ),
    ] = False,
    overwrite: Overwrite = False,
    device: Device = None,
) -> None:
    """Write the embeddings of photos to a file."""
    use_device(device)
    # Imported here to keep the command line fast.
    from polytag.models.encoders.embedder import open_embedder
    from polytag.serving.tagging.embed import check_embeddings, write_embeddings

    if engine == "ray":
        from polytag.serving.scale.job import RayOptions, embed_job

        options = RayOptions(out=out, address=address, resume=resume, overwrite=overwrite)
        embedder = open_embedder(model, image_size, encoder_output)
        note(embedder.name)
        _run_on_ray(embed_job(embedder, photos, options), "embedding")
        return
    if address is not None:
        raise SettingsError("--address needs a Ray cluster: add --engine ray")
    check_embeddings(out, resume, overwrite)
    total = count(photos)
    embedder = open_embedder(model, image_size, encoder_output)
    note(embedder.name)
    part = unfinished(out)
    when_stopped(lambda: f"Progress is saved in {part}. Add --resume to continue." if part.exists() else AGAIN)
    with progress_bar(total, "embedding", "photo") as bar:
        notes = write_embeddings(embedder, photos, out, resume=resume, overwrite=overwrite, on_photo=bar.update)
    _say(notes)
    print(out)


def _run_on_ray(job: "RayJob", description: str) -> None:
    out = job.folder.path
    when_stopped(lambda: f"Progress is saved in {out}. Add --resume to continue." if out.exists() else AGAIN)
    with progress_bar(None, description, "photo") as bar:

        def start(total: int, earlier: int) -> None:
            bar.total = total
            bar.update(earlier)

        job.run(start, bar.update)
    print(job.summary)
    _say(job.notes)
    job.check()


def _say(notes: list[str]) -> None:
    if notes and not progress.hidden:
        print(*notes, sep="\n", file=sys.stderr)

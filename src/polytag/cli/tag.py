"""The command that tags photos."""

import sys
from typing import Annotated

import typer

from polytag import progress
from polytag.cli.app import BundleFolder, command
from polytag.models.bundle.bundle import Bundle
from polytag.progress import progress_bar
from polytag.serving.tagging.job import TagJob
from polytag.serving.tagging.options import TagOptions


@command("Use")
def tag(
    bundle: BundleFolder,
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...",
            help="Photos, folders, patterns such as '2024/**/*.jpg', .txt files with one photo name per line, or - to "
            "read names from standard input.",
        ),
    ],
    options: TagOptions,
) -> None:
    """Tag photos, and print or write the labels of each photo."""
    job = TagJob(Bundle(bundle, options.engine), photos, options)
    # Rows printed to a terminal already show the progress, and a progress bar would break them up.
    with progress_bar(job.total, "tagging", "photo", job.file is not None or not sys.stdout.isatty()) as bar:
        try:
            job.run(sys.stdout, bar.update)
        except KeyboardInterrupt:
            if job.file is not None and job.file.part.exists():
                print(f"Progress is saved in {job.file.part}. Add --resume to continue.", file=sys.stderr)
            raise
    if job.summary:
        print(job.summary)
    if not progress.hidden:
        print(*job.notes, sep="\n", end="\n" if job.notes else "", file=sys.stderr)
    job.check()

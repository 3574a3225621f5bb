"""The command that tags photos."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from polytag.cli.app import BundleFolder, Engine, Overwrite, command
from polytag.errors import PolytagError, SettingsError, counted
from polytag.models.bundle.bundle import Bundle
from polytag.progress import progress_bar
from polytag.serving.tagging.rows import TEXT_FORMATS, Form, Row
from polytag.serving.tagging.sidecars import write_sidecar
from polytag.serving.tagging.sources import count, photos_in
from polytag.serving.tagging.tag import TagFile, tag_photos, thresholds_of


@command("Use")
def tag(
    bundle: BundleFolder,
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO...",
            help="Photos, folders of them, patterns such as '2024/**/*.jpg', lists of names that end in .txt or .lst, "
            "or - for names on standard input.",
        ),
    ],
    form: Annotated[
        Form | None,
        typer.Option("--format", help="How rows are written; by default as the ending of --out says, or as a table."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; otherwise rows are printed.")] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="The most labels that a photo is given, its most probable ones.")
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="[LABEL=]NUMBER", help="Probability from which on a label is given; may be repeated."),
    ] = None,
    write_metadata: Annotated[
        bool, typer.Option("--write-metadata", help="Write the labels as keywords into PHOTO.xmp beside each photo.")
    ] = False,
    engine: Engine = "float32",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --out where a run was stopped.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Tag photos: print or write the labels of each."""
    opened = Bundle(bundle, engine)
    thresholds = thresholds_of(opened, threshold or ())
    form = form or _form_of(out)
    if out is None and (form == Form.parquet or resume):
        raise SettingsError(f"{'--resume' if resume else '--format parquet'} needs a file: name it with --out")
    total = count(photos)
    file = None if out is None else TagFile(out, form, opened, thresholds, top, resume, overwrite)
    tally = _Tally(write_metadata)
    done: Counter[str] = Counter()  # since a photo may be named more than once
    for row in () if file is None else file.earlier():
        done[row.photo] += 1
        tally.add(row)
    earlier, start = tally.photos, time.perf_counter()
    # Rows that scroll by are progress enough, and a bar would tear them.
    with progress_bar(total, "tagging", "photo", file is not None or not sys.stdout.isatty()) as bar:
        bar.update(tally.photos)

        def waiting() -> Iterator[str]:
            for photo in photos_in(photos):
                if done[photo]:
                    done[photo] -= 1
                else:
                    yield photo

        def rows() -> Iterator[Row]:
            for row in tag_photos(opened, waiting(), thresholds, top):
                tally.add(row)
                yield row
                bar.update(1)

        if file is None:
            TEXT_FORMATS[form](rows(), opened.labels, sys.stdout)
        else:
            try:
                file.write(rows())
            except KeyboardInterrupt:
                if file.part.exists():
                    print(f"{file.part} keeps what is done: add --resume to go on", file=sys.stderr)
                raise
    if file is not None:
        speed = (tally.photos - earlier) / max(1e-9, time.perf_counter() - start)
        print(f"{out}: {counted(tally.photos, 'photo')}, {speed:.0f} photos/s")
    tally.close()


def _form_of(out: Path | None) -> Form:
    """The form that a file's ending names."""
    ending = "table" if out is None else out.suffix.lower().lstrip(".")
    if ending not in set(Form):
        endings = ", ".join(f".{form}" for form in Form if form != Form.table)
        raise SettingsError(f"--out {out} says nothing of its form: end it in {endings}, or add --format")
    return Form(ending)


class _Tally:
    """Counts what became of photos, and writes their sidecars on the way."""

    def __init__(self, write_metadata: bool):
        self._write_metadata = write_metadata
        self.photos = self._failed = self._foreign = self._unwritten = 0
        self._first_reason = ""

    def add(self, row: Row) -> None:
        self.photos += 1
        if row.error:
            self._failed += 1
        elif self._write_metadata:
            try:
                self._foreign += not write_sidecar(row.photo, row.labels)
            except SettingsError as error:
                self._unwritten += 1
                self._first_reason = self._first_reason or str(error)

    def close(self) -> None:
        """Say what was left out.

        Raises:
            PolytagError: not one photo could be read, or a sidecar could not be written.
        """
        if self._foreign:
            print(f"{counted(self._foreign, 'sidecar')} of other programs left as they are", file=sys.stderr)
        if self._failed and self._failed == self.photos:
            raise PolytagError(f"none of {counted(self._failed, 'photo')} could be read")
        if self._failed:
            print(f"{self._failed:,} of {counted(self.photos, 'photo')} could not be read", file=sys.stderr)
        if self._unwritten:
            raise PolytagError(f"{counted(self._unwritten, 'sidecar')} missing; the first: {self._first_reason}")

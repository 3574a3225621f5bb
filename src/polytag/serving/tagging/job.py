"""A complete tagging run, which reads the sources and writes the rows, the sidecars and a summary."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TextIO

from polytag.errors import DataError, PolytagError, SettingsError, counted, printable
from polytag.files import refuse_same_file
from polytag.models.bundle.bundle import Bundle
from polytag.photos.kinds import is_photo, left_out
from polytag.serving.tagging.options import TagOptions
from polytag.serving.tagging.rows import Row
from polytag.serving.tagging.sidecars import plan_sidecar, write_sidecar
from polytag.serving.tagging.sources import count, named, photos_in
from polytag.serving.tagging.tag import TagFile, tag_photos, text_writer, thresholds_of


class TagJob:
    """A run that tags photos and writes the results.

    Args:
        bundle: the model, opened with the engine given in the options.
        sources: files, folders, patterns and lists, as for `photos_in`.
        options: options for tagging and for writing the results.

    Raises:
        SettingsError: the options do not fit the bundle, or the output already exists.
        DataError: a source contains no photos.
    """

    def __init__(self, bundle: Bundle, sources: Sequence[str], options: TagOptions) -> None:
        self.bundle, self.sources, self.options = bundle, sources, options
        self.thresholds = thresholds_of(bundle, options.threshold)
        self._write_text = text_writer(options, bundle.labels)
        if options.out is not None:
            refuse_same_file(options.out, named(sources))
            if is_photo(options.out):
                raise SettingsError(f"{options.out} is named like a photo, and photos are never replaced: rename it")
        self.total = count(sources)
        self.file = None if options.out is None else TagFile(options, bundle, self.thresholds)
        self.photos = self.earlier = 0
        self._seconds = 0.0
        self._unreadable = self._changed = self._two_sidecars = self._sidecar_errors = self._repeated = 0
        self._first_error = self._first_ignored = ""
        self._skipped: Counter[str] = Counter()
        self._names: set[str] = set()
        self._errors: dict[str, str] = {}

    def run(self, output: TextIO, on_photo: Callable[[int], object] = lambda photos: None) -> None:
        """Tag the photos.

        Args:
            output: stream for the rows if there is no output file, and for the planned sidecar changes in a dry run.
            on_photo: called with the number of photos tagged since the last call.
        """
        done: Counter[str] = Counter()  # The sources may contain a photo more than once.
        for row in () if self.file is None else self.file.earlier():
            done[row.image] += 1
            self._with_sidecar(row)
        self.earlier, start = self.photos, time.perf_counter()
        on_photo(self.earlier)
        rows = self._rows(done, on_photo)
        if self.file is not None:
            self.file.write(rows, self._errors)
        elif self.options.dry_run:
            for row in rows:
                self._say_change(row, output)
        else:
            self._write_text((row.named(self.options.name) for row in rows), self.bundle.labels, output)
        self._seconds = time.perf_counter() - start

    @property
    def notes(self) -> list[str]:
        """Notes for the user about the run, one line each."""
        notes = [left_out(self._skipped)]
        if self._two_sidecars:
            notes.append(f"ignored the second sidecar of {counted(self._two_sidecars, 'photo')}: {self._first_ignored}")
            notes[-1] += " and others" if self._two_sidecars > 1 else ""
        if self._repeated:
            notes.append(f"{counted(self._repeated, 'row')} with the same name as an earlier row: use --name path")
        if self._unreadable and self._unreadable < self.photos:
            notes.append(f"{self._unreadable:,} of {counted(self.photos, 'photo')} could not be read")
        return [note for note in notes if note]

    @property
    def summary(self) -> str:
        """Summary of what was written, in one line; "" if the rows were printed."""
        if self.options.dry_run:
            return f"{counted(self._changed, 'sidecar')} would change ({counted(self.photos, 'photo')} tagged)"
        if self.file is None:
            return ""
        speed = (self.photos - self.earlier) / max(1e-9, self._seconds)
        return f"{self.file.path}: {counted(self.photos, 'photo')}, {speed:.0f} photos/s"

    def check(self) -> None:
        """Check that the run succeeded.

        Raises:
            PolytagError: no photo could be read, or a sidecar could not be written.
        """
        if self._unreadable and self._unreadable == self.photos:
            raise PolytagError(f"none of {counted(self.photos, 'photo')} could be read")
        if self._sidecar_errors:
            raise PolytagError(
                f"{counted(self._sidecar_errors, 'sidecar')} could not be written. First error: {self._first_error}"
            )

    def _rows(self, done: Counter[str], on_photo: Callable[[int], object]) -> Iterator[Row]:
        def waiting() -> Iterator[str]:
            for photo in photos_in(self.sources, self._skipped):
                if done[photo]:
                    done[photo] -= 1
                else:
                    yield photo

        for row in tag_photos(self.bundle, waiting(), self.thresholds, self.options.top):
            with_error = self._with_sidecar(row)
            yield with_error if self.file is None else row
            on_photo(1)

    def _with_sidecar(self, row: Row) -> Row:
        """Count the photo and write its sidecar. Return the row, with an error if the sidecar cannot be written."""
        self.photos += 1
        self._unreadable += not row.probabilities
        if self.options.name != "path":
            name = row.named(self.options.name).image
            self._repeated += name in self._names
            self._names.add(name)
        if not (self.options.write_metadata and row.probabilities):
            return row
        try:
            change = plan_sidecar(row.image, row.labels, self.bundle.labels)
            if not self.options.dry_run:
                write_sidecar(change)
        except DataError as error:
            self._sidecar_errors += 1
            self._first_error = self._first_error or printable(str(error))
            if self.file is not None:
                self._errors[row.image] = str(error)
            return replace(row, error=str(error))
        self._changed += change.content is not None
        if change.ignored is not None:
            self._two_sidecars += 1
            self._first_ignored = self._first_ignored or printable(str(change.ignored))
        return row

    def _say_change(self, row: Row, output: TextIO) -> None:
        if row.error:
            output.write(f"{printable(row.image)}: {printable(row.error)}\n")
            return
        change = plan_sidecar(row.image, row.labels, self.bundle.labels)
        if change.content is not None:
            output.write(f"{printable(str(change))}\n")

"""A complete run on a cluster, from the sources to a folder of Parquet files."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytag.errors import DataError, PolytagError, counted, listed
from polytag.models.bundle.bundle import Bundle
from polytag.models.encoders.embedder import Embedder
from polytag.photos.kinds import left_out
from polytag.serving.scale.folder import PartFolder
from polytag.serving.scale.on_ray import ray_cluster, run_on_ray
from polytag.serving.scale.shards import SHARD, shards
from polytag.serving.scale.worker import EmbedTask, TagTask, Task
from polytag.serving.tagging.options import TagOptions
from polytag.serving.tagging.tag import settings_of, thresholds_of


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Options for runs on a Ray cluster.

    Attributes:
        out: output folder.
        address: address of a running cluster, or "auto"; ``None`` to start one.
        resume: continue an interrupted run.
        overwrite: replace existing output.
    """

    out: Path
    address: str | None = None
    resume: bool = False
    overwrite: bool = False


def tag_job(bundle: Bundle, sources: Sequence[str], options: TagOptions) -> "RayJob":
    """Create a run that tags photos.

    Args:
        bundle: the model, opened with the engine given in the options.
        sources: the sources.
        options: options for tagging and for the output folder.

    Raises:
        SettingsError: the options do not fit the bundle, or the output folder cannot be used.
    """
    assert options.out is not None
    thresholds = thresholds_of(bundle, options.threshold)
    settings = {**settings_of(bundle, thresholds, options.top), "name": options.name}
    where = RayOptions(out=options.out, address=options.address, resume=options.resume, overwrite=options.overwrite)
    return RayJob(TagTask.of(bundle, thresholds, options.top, options.name), settings, sources, where)


def embed_job(embedder: Embedder, sources: Sequence[str], options: RayOptions) -> "RayJob":
    """Create a run that embeds photos.

    Args:
        embedder: what computes the embeddings.
        sources: the sources.
        options: options for the run and its output folder.

    Raises:
        SettingsError: the network has no ONNX file, or the output folder cannot be used.
    """
    task = EmbedTask.of(embedder)
    return RayJob(task, task.settings, sources, options)


class RayJob:
    """A run that tags or embeds photos on a Ray cluster.

    Args:
        task: what to do with the photos.
        settings: settings that decide the rows, as JSON.
        sources: the sources, as for `polytag.serving.scale.shards.shards`.
        options: options for the run and its output folder.

    Raises:
        SettingsError: the output folder cannot be used.
    """

    def __init__(self, task: Task, settings: dict[str, Any], sources: Sequence[str], options: RayOptions) -> None:
        self._task, self.sources, self._address = task, sources, options.address
        settings = {**settings, "photos_per_file": SHARD, "sources": list(sources)}
        self.folder = PartFolder(options.out, settings, options.resume, options.overwrite)
        self.photos = self.earlier = 0
        self._unreadable = 0
        self._seconds = 0.0
        self._skipped: Counter[str] = Counter()

    def run(self, on_start: Callable[[int, int], object], on_photos: Callable[[int], object]) -> None:
        """Process the photos that earlier runs have not processed.

        Args:
            on_start: called once with the number of photos, and the number of those that are already done.
            on_photos: called with the number of photos done since the last call.

        Raises:
            DataError: a source contains no photos or cannot be read.
            MachineError: the cluster or an object store failed.
        """
        files: dict[str, int] = {}
        # Shards wait on disk, because the names of millions of photos would fill the memory.
        with self.folder.writing(), tempfile.TemporaryFile("w+", encoding="ascii") as waiting:
            for shard in shards(self.sources, self._skipped):
                files[shard.file] = shard.photos
                if shard.file in self.folder:
                    self.earlier += shard.photos
                else:
                    waiting.write(f"{shard.to_json()}\n")
            if not files:
                raise DataError(f"{listed(list(self.sources))} contains no photos")
            self.photos = sum(files.values())
            on_start(self.photos, self.earlier)
            waiting.seek(0)
            if self.photos > self.earlier:
                with ray_cluster(self._address, self._task):
                    start = time.perf_counter()
                    for name, content in run_on_ray(self._task, waiting):
                        self.folder.write(name, content)
                        on_photos(files[name])
                    self._seconds = time.perf_counter() - start
            self.photos, self._unreadable = self.folder.finish(files)

    @property
    def notes(self) -> list[str]:
        """Notes for the user about the run, one line each."""
        notes = [left_out(self._skipped)]
        if self._unreadable and self._unreadable < self.photos:
            notes.append(f"{self._unreadable:,} of {counted(self.photos, 'photo')} could not be read")
        return [note for note in notes if note]

    @property
    def summary(self) -> str:
        """Summary of what was written, in one line."""
        speed = (self.photos - self.earlier) / max(1e-9, self._seconds)
        return f"{self.folder.path}: {counted(self.photos, 'photo')}, {speed:.0f} photos/s"

    def check(self) -> None:
        """Check that the run succeeded.

        Raises:
            PolytagError: no photo could be read.
        """
        if self._unreadable and self._unreadable == self.photos:
            raise PolytagError(f"none of {counted(self.photos, 'photo')} could be read")

"""What a worker does with a shard: the same on Ray, on Spark and in a test."""

import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from polytag.errors import ImageError
from polytag.models.bundle.bundle import Bundle
from polytag.serving.tagging.rows import Row, write_parquet

Photo = bytes | str | ImageError
"""The content of a photo, its path, or the error that explains why it cannot be read."""


@dataclass(frozen=True)
class TagTask:
    """Everything that a worker needs for tagging. It can be sent to other machines.

    Attributes:
        files: content of each file of the bundle, so that workers need no access to its folder.
        engine: the bundle's engine.
        thresholds: minimum probability for assigning each label.
        top: maximum number of labels per photo; ``None`` for no limit.
        name: "path", "name" or "stem", the name of each image in the output.
        folder: folder that relative paths start from.
    """

    files: dict[str, bytes]
    engine: str
    thresholds: tuple[float, ...]
    top: int | None = None
    name: str = "path"
    folder: str = ""

    @classmethod
    def of(
        cls, bundle: Bundle, thresholds: NDArray[np.float32] | None = None, top: int | None = None, name: str = "path"
    ) -> "TagTask":
        """Create the task of a bundle, with its own thresholds unless others are given, float32 (k,)."""
        files = {file: (bundle.path / file).read_bytes() for file in ("bundle.json", *bundle.manifest["files"])}
        chosen = bundle.thresholds if thresholds is None else thresholds
        return cls(files, bundle.engine, tuple(chosen.tolist()), top, name, os.getcwd())

    def open(self) -> "Tagger":
        """Load the model.

        Raises:
            BundleError: the bundle is damaged.
            SettingsError: the engine is not installed on this machine.
        """
        with tempfile.TemporaryDirectory(prefix="polytag-") as folder:
            for name, content in self.files.items():
                (Path(folder) / name).write_bytes(content)
            bundle = Bundle(folder, self.engine, cores=1)
            _ = bundle.run  # The runtime reads the files now, so that they can be deleted.
        return Tagger(bundle, np.array(self.thresholds, np.float32), self.top, self.name)


class Tagger:
    """A loaded model on one core, which turns photos into rows.

    Args:
        bundle: the model.
        thresholds: minimum probability for assigning each label, float32 (k,).
        top: maximum number of labels per photo; ``None`` for no limit.
        name: "path", "name" or "stem", the name of each image in the output.
    """

    def __init__(self, bundle: Bundle, thresholds: NDArray[np.float32], top: int | None = None, name: str = "path"):
        self.labels: Sequence[str] = bundle.labels
        self._bundle, self._thresholds, self._top, self._name = bundle, thresholds, top, name

    def rows(self, photos: Iterable[tuple[str, Photo]]) -> Iterator[Row]:
        """Yield a row per photo, in order, while only a few photos are in memory.

        Args:
            photos: name and photo.
        """
        waiting: deque[tuple[str, ImageError | None]] = deque()

        def readable() -> Iterator[bytes | str]:
            for name, photo in photos:
                if isinstance(photo, ImageError):
                    waiting.append((name, photo))
                else:
                    waiting.append((name, None))
                    yield photo

        def row(found: NDArray[np.float32] | ImageError) -> Row:
            name, _ = waiting.popleft()
            return Row.of(name, found, self.labels, self._thresholds, self._top).named(self._name)

        for found in self._bundle.stream(readable()):
            while (error := waiting[0][1]) is not None:
                yield row(error)
            yield row(found)
        while waiting:
            error = waiting[0][1]
            assert error is not None
            yield row(error)

    def write(self, photos: Iterable[tuple[str, Photo]], file: BinaryIO) -> None:
        """Write the rows as Parquet, with the same columns as ``polytag tag --format parquet``."""
        write_parquet(self.rows(photos), self.labels, file)

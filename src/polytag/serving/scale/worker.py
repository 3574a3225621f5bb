"""What a worker does with a shard: the same on Ray, on Spark and in a test."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from polytag.errors import ImageError, SettingsError
from polytag.models.bundle.bundle import Bundle
from polytag.models.encoders.embedder import Embedder
from polytag.models.encoders.graph import external_files, load_graph
from polytag.models.runtimes.onnx import OnnxModel
from polytag.models.runtimes.photos import named_stream
from polytag.serving.tagging.embed import write_embedding_rows
from polytag.serving.tagging.rows import Row, write_parquet

Photo = bytes | str | ImageError
"""The content of a photo, its path, or the error that explains why it cannot be read."""


class Writer(Protocol):
    """A loaded model."""

    def write(self, photos: Iterable[tuple[str, Photo]], file: BinaryIO) -> None:
        """Write the rows of photos, given by name and photo, as Parquet."""


class Task(Protocol):
    """What to do with the photos. It can be sent to other machines."""

    @property
    def files(self) -> dict[str, bytes]:
        """Content of the model's files."""

    @property
    def folder(self) -> str:
        """Folder that relative paths start from."""

    def open(self) -> Writer:
        """Load the model."""


@contextmanager
def written(files: Mapping[str, bytes]) -> Iterator[Path]:
    """Write files to a temporary folder, which is deleted at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="polytag-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        yield Path(folder)


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
        with written(self.files) as folder:
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
        for name, found in named_stream(self._bundle.stream, photos):
            yield Row.of(name, found, self.labels, self._thresholds, self._top).named(self._name)

    def write(self, photos: Iterable[tuple[str, Photo]], file: BinaryIO) -> None:
        """Write the rows as Parquet, with the same columns as ``polytag tag --format parquet``."""
        write_parquet(self.rows(photos), self.labels, file)


@dataclass(frozen=True)
class EmbedTask:
    """Everything that a worker needs for embedding. It can be sent to other machines.

    Attributes:
        files: content of the ONNX file, which is the first, and of its external weights.
        output: name of an inner value that is the embedding; ``None`` for the output of the network.
        image_size: width and height to which photos are resized, in pixels.
        width: length of an embedding.
        folder: folder that relative paths start from.
    """

    files: dict[str, bytes]
    output: str | None
    image_size: int
    width: int
    folder: str = ""

    @classmethod
    def of(cls, embedder: Embedder) -> "EmbedTask":
        """Create the task of an embedder.

        Raises:
            SettingsError: the network has no ONNX file.
        """
        network = embedder.run
        if not isinstance(network, OnnxModel):
            raise SettingsError("this backbone runs on Keras only, which --engine ray does not support: use an encoder")
        weights = external_files(load_graph(network.path), network.path.parent)
        files = {path.name: path.read_bytes() for path in (network.path, *weights)}
        return cls(files, network.output, embedder.image_size, embedder.width, os.getcwd())

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the rows, as JSON."""
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        return {"network": digests, "output": self.output, "image_size": self.image_size}

    def open(self) -> "RowEmbedder":
        """Load the network.

        Raises:
            BundleError: ONNX Runtime cannot run the network.
        """
        with written(self.files) as folder:
            network = OnnxModel(folder / next(iter(self.files)), threads=1, output=self.output)
        return RowEmbedder(Embedder("", "", self.image_size, self.width, network, threads=1))


class RowEmbedder:
    """A loaded network on one core, which turns photos into embeddings.

    Args:
        embedder: the network.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def write(self, photos: Iterable[tuple[str, Photo]], file: BinaryIO) -> None:
        """Write the rows as Parquet, with the same columns as ``polytag embed``."""
        write_embedding_rows(named_stream(self._embedder.stream, photos), self._embedder.width, file)

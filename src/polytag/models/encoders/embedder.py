"""Turn photos into embeddings with whatever computes them: a trained bundle, an encoder or a pretrained backbone."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import ImageError, SettingsError
from polytag.models.backbones.embed import backbone_runner
from polytag.models.backbones.weights import find_weights
from polytag.models.bundle.bundle import CORES, Bundle
from polytag.models.encoders.encoder import find_encoder
from polytag.models.encoders.graph import FEATURES, load_graph
from polytag.models.encoders.source import is_encoder
from polytag.models.runtimes.onnx import OnnxModel, batch_size_of
from polytag.models.runtimes.photos import Network, Photo, run_on_photos, stream_photos

DEFAULT_SIZE = 224
"""Width and height of the photos for pretrained backbones, in pixels."""


@dataclass(frozen=True)
class Embedder:
    """A network that computes embeddings.

    Attributes:
        name: what computes the embeddings, in one line.
        key: what identifies the network. It changes with the weights.
        image_size: width and height to which photos are resized, in pixels.
        width: length of an embedding.
        run: network from photos, uint8 (batch, size, size, 3), to embeddings, float32 (batch, width).
        threads: number of threads that should call it.
    """

    name: str
    key: str
    image_size: int
    width: int
    run: Network
    threads: int = CORES

    def stream(self, photos: Iterable[Photo]) -> Iterator[NDArray[np.float32] | ImageError]:
        """Yield the embedding of each photo, float32 (width,), or the error that explains why it cannot be read.

        Photos may be paths or contents, of any number. Only a few are in memory at a time.
        """
        return stream_photos(self.embeddings, photos, batch_size_of(self.run), self.threads)

    def embeddings(self, photos: Sequence[Photo]) -> list[NDArray[np.float32] | ImageError]:
        """Embed photos as one batch, on the calling thread. Errors take the places of unreadable photos."""
        return run_on_photos(self.run, photos, self.image_size)


def open_embedder(name: str, image_size: int | None = None, output: str | None = None) -> Embedder:
    """Open whatever computes embeddings.

    Args:
        name: folder of a bundle, an encoder (see `polytag.models.encoders.encoder.find_encoder`) or the name of a
            backbone, such as "mobilenet_v2".
        image_size: width and height of the photos, in pixels. A bundle has a fixed size.
        output: name of an encoder's output. ``None`` chooses it by shape.

    Raises:
        SettingsError: an option does not fit, or the bundle has no embeddings.
        WeightsError: weights are missing or cannot be used.
        BundleError: the bundle is damaged.
    """
    folder = Path(name).expanduser()
    if (folder / "bundle.json").exists():
        if image_size is not None or output is not None:
            raise SettingsError(f"{name} is a bundle, which has its own size and output: omit these options")
        return _of_bundle(Bundle(folder))
    if is_encoder(name):
        encoder = find_encoder(name, image_size, output)
        assert encoder.path is not None
        run = OnnxModel(encoder.path, threads=1)
        return Embedder(encoder.summary, encoder.sha256, encoder.image_size, encoder.width, run)
    if output is not None:
        raise SettingsError(f"{name} has only one output: omit --encoder-output")
    size = image_size or DEFAULT_SIZE
    weights = find_weights(None, name)
    network, threads, width = backbone_runner(weights, size)
    return Embedder(f"{name}: {size} px, {width} features", weights.name, size, width, network, threads or CORES)


def _of_bundle(bundle: Bundle) -> Embedder:
    """Return the part of a bundle's network before its head."""
    path = bundle.onnx_file if "model.onnx" in bundle.manifest["files"] else None
    value = None if path is None else _features_in(load_graph(path).graph.node)
    if path is None or value is None:
        raise SettingsError(
            f"{bundle.path} has no embeddings: its network does not pool a feature map. Choose a bundle of transfer or "
            "of a classical method, or an encoder."
        )
    run, size = OnnxModel(path, threads=1, output=value), bundle.image_size
    width = run(np.zeros((1, size, size, 3), np.uint8)).shape[1]
    key = bundle.manifest["files"]["model.onnx"]
    return Embedder(f"bundle {bundle.path}: {size} px, {width} features", key, size, width, run)


def _features_in(nodes: Sequence[Any]) -> str | None:
    """Return the name of the value that enters the head: an encoder's embedding, or the last pooled feature map."""
    made = {output: node for node in nodes for output in node.output}
    if FEATURES in made:
        return FEATURES
    pooled = (
        node.output[0]
        for node in reversed(nodes)
        if node.op_type == "Flatten" and getattr(made.get(node.input[0]), "op_type", "") == "GlobalAveragePool"
    )
    return next(pooled, None)

"""An encoder in ONNX: a frozen network from photos to embeddings, which users bring as a file or name."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polytag.errors import BundleError, SettingsError, WeightsError
from polytag.files import write_json
from polytag.models.backbones.weights import Weights
from polytag.models.encoders.graph import (
    external_files,
    fixed_size,
    give_features,
    image_input,
    is_channels_last,
    load_graph,
    parameters,
    take_photos,
    write_graph,
)
from polytag.models.encoders.outputs import Output, Shape, choose_output
from polytag.models.encoders.preprocessing import Preprocessing, read_json, read_preprocessing
from polytag.models.encoders.source import HUB, TIMM, Source, find_source
from polytag.photos.cache_room import cache_folder, new_cache_folder

VERSION = 1
"""Version of the graphs. It increases when the same encoder would give different embeddings."""


@dataclass(frozen=True)
class Encoder(Weights):
    """An encoder that is ready to run. ``path`` is a graph from photos uint8 (batch, size, size, 3) to embeddings.

    Attributes:
        image_size: width and height of the photos, in pixels.
        width: length of the embeddings.
        facts: what a bundle records about the encoder: source, licence, checksum, preprocessing and output.
    """

    image_size: int
    width: int
    facts: Mapping[str, Any] = field(compare=False)

    @property
    def name(self) -> str:
        """Short name for cache folders and reports. It changes with the content."""
        words = Path(self.backbone.rpartition(":")[2].partition("@")[0])
        stem = words.stem if words.suffix == ".onnx" else words.name
        return f"{''.join(c if c.isalnum() or c in '-_.' else '-' for c in stem)}-onnx-{self.sha256[:8]}"

    @property
    def summary(self) -> str:
        """The encoder in one line, with the output that becomes the embedding."""
        return (
            f"encoder {self.facts['source']}: {self.image_size} px, output {self.facts['output']} "
            f"({self.facts['pooling']}, {self.width} features), licence {self.facts['licence'] or 'not stated'}"
        )


def find_encoder(name: str, image_size: int | None = None, output: str | None = None) -> Encoder:
    """Find an encoder and prepare it to run. The graph is kept in the cache.

    Args:
        name: path of an ONNX file or of a folder, ``hf:OWNER/REPO[@REVISION]`` or ``timm:NAME``.
        image_size: width and height of the photos, in pixels. ``None`` uses the size in the configuration.
        output: name of the output that becomes the embedding. ``None`` chooses it by shape.

    Raises:
        WeightsError: a file is missing or damaged, or the graph cannot be used as an encoder.
        SettingsError: the size or the output does not fit the encoder, or a package is missing.
    """
    source = find_source(name)
    preprocessing = read_preprocessing(source.folder)
    model = load_graph(source.model)
    value, data = image_input(model), external_files(model, source.model.parent)
    size = _size(name, image_size, fixed_size(value), preprocessing)
    config = read_json(source.folder / "config.json")
    content = _sha256([source.model, *data])
    key = hashlib.sha256(repr((content, preprocessing, size, output, sorted(config.items()), VERSION)).encode())
    folder = cache_folder() / "encoders" / key.hexdigest()[:16]
    known = _known_shapes(folder)
    shapes = known or _shapes(source, size, is_channels_last(value))
    chosen = choose_output(shapes, config, size, output or "")
    count = parameters(model)
    if not known:
        take_photos(model, preprocessing, size)
        give_features(model, chosen)
        # Files of the hub never change. Others may be written again, and a link would change with them.
        _store(model, data, shapes, folder, link=name.startswith((HUB, TIMM)))
    facts = _facts(source, preprocessing, chosen, content, count)
    return Encoder(name, "onnx", folder / "model.onnx", key.hexdigest(), size, chosen.width, facts)


def _size(name: str, wanted: int | None, fixed: int | None, preprocessing: Preprocessing) -> int:
    if wanted is not None and fixed is not None and wanted != fixed:
        raise SettingsError(f"{name} needs photos at {fixed} px, not {wanted}: omit --image-size")
    size = wanted or fixed or preprocessing.size
    if size is None:
        raise SettingsError(f"{name} does not state the size of its photos: add --image-size")
    return size


def _shapes(source: Source, size: int, channels_last: bool) -> dict[str, Shape]:
    """Return the shape of each output for two photos.

    The encoder is run for this, because many exports do not state their shapes.
    """
    from polytag.models.runtimes.onnx import open_session, quiet_run

    try:
        session = open_session(source.model, threads=0)
        dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(
            session.get_inputs()[0].type, np.float32
        )
        batch = np.zeros((2, size, size, 3) if channels_last else (2, 3, size, size), dtype)
        values = session.run(None, {session.get_inputs()[0].name: batch}, quiet_run())
    except BundleError as error:
        raise WeightsError(str(error)) from None
    except Exception as error:
        # ONNX Runtime's exceptions share no public base class.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
        raise WeightsError(
            f"{source.model} does not run on two photos at {size} px ({reason}): export it with a variable batch size"
        ) from None
    return {value.name: array.shape for value, array in zip(session.get_outputs(), values, strict=True)}


def _known_shapes(folder: Path) -> dict[str, Shape]:
    """Return the shapes of an encoder in the cache, empty if it is not there. A damaged entry is removed."""
    try:
        known = read_json(folder / "shapes.json")
        shapes = {name: tuple(map(int, shape)) for name, shape in known.items()}
    except (WeightsError, TypeError, ValueError):
        shapes = {}
    if folder.exists() and not (shapes and (folder / "model.onnx").is_file()):
        shutil.rmtree(folder, ignore_errors=True)
        return {}
    return shapes


def _store(model: Any, data: list[Path], shapes: Mapping[str, Shape], folder: Path, link: bool) -> None:
    """Write the graph and its shapes into the cache."""
    with new_cache_folder(folder) as temporary:
        write_graph(model, temporary, data, link)
        write_json(temporary / "shapes.json", shapes)


def _facts(source: Source, preprocessing: Preprocessing, output: Output, sha256: str, count: int) -> dict[str, Any]:
    return {
        "source": source.name,
        "revision": source.revision,
        "sha256": sha256,
        "licence": source.licence,
        "parameters": count,
        "scale": preprocessing.scale,
        "mean": list(preprocessing.mean),
        "deviation": list(preprocessing.deviation),
        "channels": "blue, green, red" if preprocessing.blue_first else "red, green, blue",
        "output": output.name,
        "pooling": output.pooling,
        "width": output.width,
    }


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()

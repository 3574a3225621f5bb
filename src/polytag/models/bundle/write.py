"""Write a trained network as a bundle."""

import contextlib
import importlib.metadata
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.files import sha256_of
from polytag.models.bundle.bundle import FORMAT, SEEN_FILE, Bundle, describe
from polytag.models.bundle.seen import to_bytes
from polytag.models.encoders.join import write_joined
from polytag.models.runtimes.onnx import export_onnx
from polytag.photos.decode import PIXEL_PATH


def write_bundle(
    model: Any, manifest: Mapping[str, Any], seen: NDArray[np.void], encoder: Path | None = None
) -> Bundle:
    """Write a bundle to a temporary folder, which is deleted with the object. `Bundle.save` makes a permanent copy.

    Args:
        model: `keras.Model` from photos uint8 (batch, size, size, 3) to probabilities float32 (batch, k). With an
            encoder, its input is embeddings instead.
        manifest: labels, recipe and other entries of ``bundle.json``. Thresholds are 0.5 until they are recorded.
        seen: the training and validation photos, as `polytag.models.bundle.seen.seen_photos` records them.
        encoder: ONNX graph from photos to embeddings, if the network is not wholly in Keras.
    """

    def write(folder: Path) -> None:
        if encoder is None:
            model.save(folder / "model.keras")
            export_onnx(model, folder / "model.onnx")
        else:
            write_joined(model, encoder, folder)
        (folder / f"{SEEN_FILE}.npy").write_bytes(to_bytes(seen))
        describe(
            folder,
            {
                "format": FORMAT,
                "pixel_path": PIXEL_PATH,
                "polytag": importlib.metadata.version("polytag"),
                "thresholds": [0.5] * len(manifest["labels"]),
                "validation_accuracy": None,
                **manifest,
                "versions": _versions(),
                "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
            },
        )

    return temporary_bundle(write)


def temporary_bundle(write: Callable[[Path], object]) -> Bundle:
    """Return a bundle in a temporary folder, which is deleted with the object.

    Args:
        write: function that writes the files of the bundle into the folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="polytag-"))
    try:
        write(folder)
        bundle = Bundle(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(bundle, shutil.rmtree, folder, ignore_errors=True)
    return bundle


def _versions() -> dict[str, str]:
    versions = {}
    for package in ("keras", os.environ.get("KERAS_BACKEND", "tensorflow"), "numpy", "pillow", "onnxruntime"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions

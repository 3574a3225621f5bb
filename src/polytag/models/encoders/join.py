"""Write the network of a bundle whose encoder is an ONNX graph: encoder, head and calibration in one graph."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polytag.errors import BundleError, SettingsError
from polytag.models.conversion.onnx_graph import OPSET
from polytag.models.encoders.graph import join_head
from polytag.models.runtimes.onnx import OnnxModel

if TYPE_CHECKING:
    from polytag.models.backend import keras

TOLERANCE = 1e-4
"""Maximum difference in probability between the joined graph and the encoder followed by the head."""


def write_joined(head: "keras.Model", encoder: Path, folder: Path) -> None:
    """Write ``model.onnx``, from photos to probabilities, and ``head.keras``, which Keras can train further.

    Args:
        head: network from embeddings, float32 (batch, d), to probabilities, float32 (batch, k).
        encoder: graph of the encoder, the ``path`` of `polytag.models.encoders.encoder.Encoder`.
        folder: existing folder.

    Raises:
        SettingsError: the encoder's version of ONNX lacks an operation of the head.
        BundleError: the joined graph gives other probabilities.
    """
    # Imported here because tagging with a finished bundle needs no Keras.
    from polytag.models.conversion.keras_to_onnx import write_head

    head.save(folder / "head.keras")
    alone = folder / "head.onnx"
    write_head(head, alone)
    join_head(encoder, alone, folder)
    alone.unlink()
    try:
        joined = OnnxModel(folder / "model.onnx")
    except BundleError:
        raise SettingsError(
            f"this model cannot be joined with the encoder {encoder}, whose version of ONNX is too old: export the "
            f"encoder with opset {OPSET}, or choose another model"
        ) from None
    size = int(joined.shape[1])
    photos = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    expected = head.predict_on_batch(OnnxModel(encoder)(photos))
    difference = float(np.abs(joined(photos) - expected).max())
    if not difference <= TOLERANCE:
        raise BundleError(f"the joined network differs from the encoder and its head by {difference:.2g}")

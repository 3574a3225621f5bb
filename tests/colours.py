"""A bundle without training: how red, green and blue a photo is on average are its labels' probabilities."""

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.models.bundle.bundle import FORMAT, Bundle
from polytag.models.bundle.seen import PHOTO, to_bytes
from polytag.photos.decode import PIXEL_PATH

LABELS = ("red", "green", "blue")
SIZE = 32


def write_colour_bundle(folder: Path, seen: NDArray[np.void] | None = None) -> Bundle:
    """Write it, with thresholds of 0.5 and a record of the photos it has seen."""
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("Cast", ["photo"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["mean", "full"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("photo", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.array(255, np.float32), "full")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    content = {
        "model.onnx": model.SerializeToString(),
        "seen-photos.npy": to_bytes(np.zeros(0, PHOTO) if seen is None else seen),
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    manifest = {
        "format": FORMAT,
        "pixel_path": PIXEL_PATH,
        "polytag": "0",
        "labels": LABELS,
        "thresholds": [0.5, 0.5, 0.5],
        "recipe": {"model": "baseline", "image_size": SIZE},
        "history": [],
        "validation_accuracy": None,
        "fit_seconds": 0.0,
        "parameters": 0,
        "trainable_parameters": 0,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
    }
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return Bundle(folder)

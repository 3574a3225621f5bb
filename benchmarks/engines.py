"""How fast and how faithful each runtime is with a bundle's network, in 32 and in 8 bits.

    python benchmarks/engines.py BUNDLE DATA [--photos 1000] [--rounds 3] [--out engines.json]

DATA holds the photos that the bundle was trained on, of which 200 choose the ranges of 8-bit numbers, and others, of which
so many are tagged. Decoding is not counted. Photos/s are medians over rounds in which every engine has its turn: with a call
on one thread for each core at the same time, and with one call after the other on all cores. Differences and mAP are those
of probabilities, beside Keras'. 8 bits on ONNX Runtime are tried in the ways that its documentation offers.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import polytag as pt
from polytag.data.images import decode_many, each
from polytag.evaluation.evaluation import aligned
from polytag.evaluation.metrics import scores
from polytag.models.backend import quiet_stderr
from polytag.models.int8 import LitertModel, write_int8
from polytag.models.onnx import BATCH_SIZE, OnnxModel

Photos = NDArray[np.uint8]
Engine = Callable[[Photos], NDArray[np.float32]]

ONNX_INT8 = {
    "U8S8": {"activation_type": "QUInt8"},
    "U8S8, reduced range": {"activation_type": "QUInt8", "reduce_range": True},
    "S8S8": {"activation_type": "QInt8"},
}
"""Settings of ONNX Runtime's static quantisation, beside weights int8 for each channel."""

QUANTISED = ("Add", "AveragePool", "Clip", "Conv", "GlobalAveragePool", "MaxPool", "Pad", "Relu")
"""Operations whose numbers get 8 bits; the head keeps 32, as its few products cost no time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    bundle = pt.Bundle(arguments.bundle)
    data = pt.read(arguments.data, conflicts="unknown")
    seen = bundle.seen(data)
    rng = np.random.default_rng(0)
    known, new = (rng.permutation(np.flatnonzero(rows)) for rows in (seen, ~seen))
    calibration = decoded(data.take(known[:200]), bundle.image_size)
    judged = data.take(new[: arguments.photos])
    photos, (targets, _) = decoded(judged, bundle.image_size), aligned(bundle.labels, judged)
    with tempfile.TemporaryDirectory() as folder:
        sizes, engines = built(bundle, calibration, Path(folder))
        rows: dict[str, dict] = {}
        for _ in range(arguments.rounds):
            for name, (side_by_side, one_by_one) in engines.items():
                row = rows.setdefault(name, {"megabytes": round(sizes[name] / 1e6, 1), "side_by_side": [], "one": []})
                probabilities, speed = run(side_by_side, photos, os.cpu_count() or 1)
                row["side_by_side"].append(speed)
                row["one"].append(run(one_by_one, photos, 1)[1])
                row["probabilities"] = probabilities
    show(rows, targets)
    if arguments.out:
        for row in rows.values():
            del row["probabilities"]
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


def decoded(data: pt.Dataset, size: int) -> Photos:
    """All of the photos, uint8 (n, size, size, 3)."""
    return np.stack([pixels for pixels in decode_many(data.paths, size) if not isinstance(pixels, pt.ImageError)])


def built(bundle: pt.Bundle, calibration: Photos, folder: Path) -> tuple[dict[str, int], dict[str, tuple]]:
    """For each engine the bytes of its network, and how to run it: on one thread, and on all."""
    import openvino

    model = bundle.keras_model()
    model(calibration[:1])
    onnx = bundle.path / "model.onnx"
    with quiet_stderr():
        model.export(str(folder / "f32.tflite"), format="litert", verbose=False)
        write_int8(model, calibration, folder / "int8.tflite")
        model.export(str(folder / "f32.xml"), format="openvino", verbose=False)
        for name, settings in ONNX_INT8.items():
            write_onnx_int8(onnx, folder / f"{name}.onnx", calibration, settings)
    files = {
        "ONNX Runtime": onnx,
        "LiteRT": folder / "f32.tflite",
        "LiteRT, 8 bits": folder / "int8.tflite",
        **{f"ONNX Runtime, 8 bits {name}": folder / f"{name}.onnx" for name in ONNX_INT8},
    }
    engines: dict[str, tuple] = {"Keras": (None, model.predict_on_batch)}

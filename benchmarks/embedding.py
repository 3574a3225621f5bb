"""How fast photos become embeddings: decoding, then the backbone on Keras and on ONNX Runtime.

    python benchmarks/embedding.py [--photos 256] [--out embedding.json]

Draws its own photos. Prints images per second of each step, and ratios, which compare better between machines.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import polytag as pt
from polytag.models.backbones.backbone import backbone, pooled
from polytag.models.backbones.onnx import write_backbone
from polytag.models.backbones.weights import find_weights
from polytag.models.runtimes.onnx import BATCH_SIZE, OnnxModel
from polytag.photos.decode import decode_many, each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    size = 224
    with tempfile.TemporaryDirectory() as folder:
        pt.write_sample(Path(folder) / "sample", arguments.photos, 640)
        files = sorted(str(path) for path in (Path(folder) / "sample" / "images").iterdir())
        weights = find_weights()
        network = pooled(backbone("mobilenet_v2", size, weights))
        write_backbone(weights, Path(folder) / "backbone.onnx")
        onnx = OnnxModel(Path(folder) / "backbone.onnx", threads=1)

        start = time.perf_counter()
        photos = np.stack(list(decode_many(files, size)))
        seconds = {"decode 640 px JPEG": time.perf_counter() - start}

        def on_every_core(batch_size: int) -> NDArray[np.float32]:
            batches = (photos[i : i + batch_size] for i in range(0, len(photos), batch_size))
            return np.concatenate(list(each(onnx, batches)))

        onnx_name = f"ONNX Runtime, batches of {BATCH_SIZE}"
        runs = {
            "Keras predict": lambda: network.predict(photos, batch_size=32, verbose=0),
            onnx_name: partial(on_every_core, BATCH_SIZE),
            **{f"ONNX Runtime, batches of {n}": partial(on_every_core, n) for n in (1, 4, 8, 32)},
        }
        results = {}
        for name, run in runs.items():
            run()  # the first run compiles
            start = time.perf_counter()
            results[name] = run()
            seconds[name] = time.perf_counter() - start
    speeds = {name: round(arguments.photos / value, 1) for name, value in seconds.items()}
    speeds["ONNX Runtime / Keras predict"] = round(seconds["Keras predict"] / seconds[onnx_name], 2)
    speeds["largest difference"] = float(np.abs(results[onnx_name] - results["Keras predict"]).max())
    print(json.dumps(speeds, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(speeds, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""How fast and how accurate each runtime is with a bundle's network, in float32 and in 8 bits.

    python benchmarks/engines.py BUNDLE DATA [--photos 1000] [--rounds 5] [--out engines.json]

DATA holds the photos that the bundle was trained on, some of which calibrate the 8-bit ranges, and others, which are
tagged. Decoding is not counted. Every engine takes its turn in every round, with one single-threaded call per core at a
time; Keras has one call on all cores. Photos per second are the best of the rounds; photos per second of processor
time depend least on other work. Differences are measured against Keras' probabilities; mAP is that of the tagged
photos.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import polytag as pt
from polytag.evaluation.metrics import scores
from polytag.evaluation.unseen import aligned
from polytag.files import write_json
from polytag.models.quantization import litert as int8_litert
from polytag.models.quantization import onnx as int8_onnx
from polytag.models.quantization.quantize import CALIBRATION_PHOTOS
from polytag.models.runtimes import openvino
from polytag.models.runtimes.litert import LitertModel
from polytag.models.runtimes.onnx import BATCH_SIZE, OnnxModel
from polytag.models.runtimes.quiet import quiet_stderr
from polytag.photos.decode import decode, each

Photos = NDArray[np.uint8]
Engine = Callable[[Photos], NDArray[np.float32]]

CORES = os.cpu_count() or 1

SPEEDS = ("per second", "per CPU second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    bundle = pt.Bundle(arguments.bundle)
    data = pt.read(arguments.data, conflicts="unknown")
    seen, rng = bundle.seen(data), np.random.default_rng(0)
    known = data.take(rng.permutation(np.flatnonzero(seen))[:CALIBRATION_PHOTOS])
    judged = data.take(rng.permutation(np.flatnonzero(~seen))[: arguments.photos])
    calibration, photos = (np.stack([decode(path, bundle.image_size) for path in d.paths]) for d in (known, judged))
    print(f"{len(photos)} photos that the model has not seen, {len(calibration)} to calibrate by", flush=True)
    targets, _ = aligned(bundle.labels, judged)
    found: dict[str, NDArray[np.float32]] = {}
    with tempfile.TemporaryDirectory() as folder:
        engines = built(bundle, calibration, Path(folder))
        speeds: dict[str, list[tuple[float, ...]]] = {name: [] for name in engines}
        for number in range(1, arguments.rounds + 1):
            for name, (_, engine) in engines.items():
                found[name], *speed = run(engine, photos, 1 if name == "Keras" else CORES)
                speeds[name].append(tuple(speed))
            rows = {
                name: {
                    "megabytes": size / 1e6,
                    **dict(zip(SPEEDS, np.max(speeds[name], axis=0).tolist(), strict=True)),
                    "largest off": float(np.abs(found[name] - found["Keras"]).max()),
                    "mean off": float(np.abs(found[name] - found["Keras"]).mean()),
                    "mAP": scores(targets, found[name])["mean_average_precision"],
                }
                for name, (size, _) in engines.items()
            }
            # A table after each round, in case the run is stopped.
            print(f"{f'after round {number}':38}" + "".join(f"{title:>16}" for title in rows["Keras"]))
            for name, row in rows.items():
                print(f"{name:38}" + "".join(f"{value:16.4g}" for value in row.values()), flush=True)
            if arguments.out:
                write_json(arguments.out, rows)


def run(engine: Engine, photos: Photos, calls: int) -> tuple[NDArray[np.float32], float, float]:
    """Probabilities of all photos with ``n`` parallel calls; photos per second of wall-clock and of processor time."""
    size = openvino.BATCH_SIZE if isinstance(engine, openvino.OpenvinoModel) else BATCH_SIZE
    batches = (photos[i : i + size] for i in range(0, len(photos), size))
    wall, processor = time.perf_counter(), time.process_time()
    probabilities = np.concatenate(list(each(engine, batches, calls)))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return probabilities, len(photos) / wall, len(photos) / processor


def built(bundle: pt.Bundle, calibration: Photos, folder: Path) -> dict[str, tuple[int, Engine]]:
    """For each engine, the size of its network in bytes and the function that runs it."""
    model = bundle.keras_model()
    engines: dict[str, tuple[int, Engine]] = {}

    def add(name: str, path: Path, make: Callable[[Path], Engine]) -> None:
        engines[name] = (path.stat().st_size, make(path))

    def on_onnx_runtime(path: Path) -> Engine:
        return OnnxModel(path, threads=1)

    def on_openvino(path: Path) -> Engine:
        return openvino.OpenvinoModel(path, calls=CORES)

    with quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(calibration[:1])
        engines["Keras"] = ((bundle.path / "model.keras").stat().st_size, model.predict_on_batch)
        add("ONNX Runtime", bundle.path / "model.onnx", on_onnx_runtime)
        add("OpenVINO", bundle.path / "model.onnx", on_openvino)
        model.export(str(folder / "f32.tflite"), format="litert", verbose=False)
        add("LiteRT", folder / "f32.tflite", LitertModel)
        int8_litert.write_int8(model, calibration, folder / "int8.tflite")
        add("LiteRT, 8 bits", folder / "int8.tflite", LitertModel)
        int8_onnx.write_int8(bundle.path / "model.onnx", calibration, folder / "int8.onnx")
        write_plain_int8(bundle.path / "model.onnx", folder / "plain.onnx", calibration)
        for name, file in {"8 bits": "int8.onnx", "8 bits by ONNX Runtime's tool": "plain.onnx"}.items():
            add(f"ONNX Runtime, {name}", folder / file, on_onnx_runtime)
            add(f"OpenVINO, {name}", folder / file, on_openvino)
    return engines


def write_plain_int8(source: Path, path: Path, calibration: Photos) -> None:
    """Quantize an ONNX network's convolutions with ONNX Runtime's own tool."""

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._photos = iter(calibration)

        def get_next(self) -> dict | None:
            photo = next(self._photos, None)
            return None if photo is None else {"photo": photo[None]}

    quantize_static(
        source,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


if __name__ == "__main__":
    main()

"""How fast and how faithful each runtime is with a bundle's network, in 32 and in 8 bits.

    python benchmarks/engines.py BUNDLE DATA [--photos 1000] [--rounds 5] [--out engines.json]

DATA holds the photos that the bundle was trained on, of which some choose the ranges of 8-bit numbers, and others, of
which so many are tagged; decoding is not counted. Every engine has its turn in every round. Photos/s are the best of
the rounds: with one call on one thread for each core at a time ("side by side"), and with one call after the other on
all cores. Photos for each second of processor time depend least on what else the machine does. Differences are those
of probabilities from Keras'; mAP is that of the tagged photos.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import polytag as pt
from polytag.data.files import write_json
from polytag.data.images import decode, each
from polytag.evaluation.evaluation import aligned
from polytag.evaluation.metrics import scores
from polytag.models import quantisation
from polytag.models.backend import quiet_stderr
from polytag.models.int8 import CALIBRATION_PHOTOS, LitertModel
from polytag.models.onnx import BATCH_SIZE, OnnxModel
from polytag.models.quantisation import write_int8

Photos = NDArray[np.uint8]
Engine = Callable[[Photos], NDArray[np.float32]]

ONNX_INT8 = {
    "U8S8": {"activation_type": QuantType.QUInt8},
    "U8S8 reduced range": {"activation_type": QuantType.QUInt8, "reduce_range": True},
    "S8S8": {"activation_type": QuantType.QInt8},
}
"""Settings of ONNX Runtime's static quantisation; weights are int8 for each channel."""

IN_8_BITS = ("AveragePool", "Clip", "Conv", "GlobalAveragePool", "MaxPool", "Pad", "Relu")
"""ONNX's operations that take 8 bits there, as those of `polytag.models.quantisation` do."""


SPEEDS = ("side by side", "one by one", "per CPU second")


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
            for name, (_, side_by_side, one_by_one) in engines.items():
                found[name], wall, processor = run(side_by_side, photos, os.cpu_count() or 1)
                speeds[name].append((wall, run(one_by_one, photos, 1)[1], processor))
            rows = {
                name: {
                    "megabytes": size / 1e6,
                    **dict(zip(SPEEDS, np.max(speeds[name], axis=0).tolist(), strict=True)),
                    "largest off": float(np.abs(found[name] - found["Keras"]).max()),
                    "mean off": float(np.abs(found[name] - found["Keras"]).mean()),
                    "mAP": float(scores(targets, found[name])["mean_average_precision"][0]),
                }
                for name, (size, _, _) in engines.items()
            }
            # A table after each round, as a run may be stopped.
            print(f"{f'after round {number}':38}" + "".join(f"{title:>16}" for title in rows["Keras"]))
            for name, row in rows.items():
                print(f"{name:38}" + "".join(f"{value:16.4g}" for value in row.values()), flush=True)
            if arguments.out:
                write_json(arguments.out, rows)


def run(engine: Engine, photos: Photos, calls: int) -> tuple[NDArray[np.float32], float, float]:
    """Probabilities of all photos with so many calls at a time; photos for each second, by the clock and by the CPU."""
    batches = (photos[i : i + BATCH_SIZE] for i in range(0, len(photos), BATCH_SIZE))
    wall, processor = time.perf_counter(), time.process_time()
    probabilities = np.concatenate(list(each(engine, batches, calls)))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return probabilities, len(photos) / wall, len(photos) / processor


def built(bundle: pt.Bundle, calibration: Photos, folder: Path) -> dict[str, tuple[int, Engine, Engine]]:
    """For each engine the bytes of its network, what runs it on one thread, and what runs it on all."""
    import openvino

    model = bundle.keras_model()
    cores = os.cpu_count() or 1
    engines: dict[str, tuple[int, Engine, Engine]] = {}

    def add(name: str, path: Path, make: Callable[[Path, int], Engine]) -> None:
        size = path.stat().st_size + (path.with_suffix(".bin").stat().st_size if path.suffix == ".xml" else 0)
        engines[name] = (size, make(path, 1), make(path, cores))

    def on_openvino(path: Path, threads: int, precision: str = "f32") -> Engine:
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        network = openvino.Core().compile_model(path, "CPU", settings)
        return lambda batch: network.create_infer_request().infer(batch)[0]

    with quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(calibration[:1])
        engines["Keras"] = ((bundle.path / "model.keras").stat().st_size, *[model.predict_on_batch] * 2)
        add("ONNX Runtime", bundle.path / "model.onnx", OnnxModel)
        model.export(str(folder / "f32.xml"), format="openvino", verbose=False)
        add("OpenVINO", folder / "f32.xml", on_openvino)
        add("OpenVINO in bfloat16", folder / "f32.xml", partial(on_openvino, precision="bf16"))
        model.export(str(folder / "f32.tflite"), format="litert", verbose=False)
        add("LiteRT", folder / "f32.tflite", LitertModel)
        write_int8(model, calibration, folder / "int8.tflite")
        add("LiteRT, 8 bits", folder / "int8.tflite", LitertModel)
        with mock.patch.object(quantisation, "IN_32_BITS", ()):
            write_int8(model, calibration, folder / "all.tflite")
        add("LiteRT, 8 bits throughout", folder / "all.tflite", LitertModel)
        for name, settings in ONNX_INT8.items():
            path = folder / f"{len(engines)}.onnx"
            write_onnx_int8(bundle.path / "model.onnx", path, calibration, settings)
            add(f"ONNX Runtime, 8 bits {name}", path, OnnxModel)
    return engines


def write_onnx_int8(source: Path, path: Path, calibration: Photos, settings: dict) -> None:
    """Quantise an ONNX network by ONNX Runtime's own tool."""

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
        op_types_to_quantize=list(IN_8_BITS),
        per_channel=True,
        weight_type=QuantType.QInt8,
        **settings,
    )


if __name__ == "__main__":
    main()

"""How fast a bundle tags photos, from files to rows, compared with plain Keras.

    python benchmarks/tagging.py BUNDLE DATA [--enlarged 1000] [--cold 10] [--rounds 4] [--out FILE]

The plain way opens each photo with Pillow, decodes it in full, resizes it, and calls `model.predict` in batches of
32: as a loop, or "overlapped", with decoding on Keras' threads. It runs with the bundle's own Keras model and, where
the backbone is a MobileNetV2 that was not fine-tuned, with the network of ``keras.applications``, which is slower.
The methods take turns with the same quarter of the photos, so that a slow spell of the machine affects all of them.
Each turn is a new process; the clock starts once the model is loaded, and all files have been read once before. mAP
is that of photos that the bundle has not seen. Some photos are enlarged to 1600×1200 for a second measurement. Last,
``--cold`` single photos are tagged, each by a new process.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from processes import in_fresh_process, peak_megabytes

import polytag as pt
from polytag.evaluation.metrics import scores
from polytag.files import write_json

ENLARGED = (1600, 1200)

COLD_KERAS = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
from PIL import Image
model = keras.saving.load_model(sys.argv[1], compile=False)
photo = np.asarray(Image.open(sys.argv[2]).convert("RGB").resize(model.input_shape[1:3], Image.Resampling.BILINEAR))
print(model.predict(photo[None], verbose=0))
"""

Result = dict[str, Any]
Turn = tuple[float, NDArray[np.float32], float]
"""Seconds, probabilities and peak memory in megabytes of one method on some photos."""


def plain(bundle: str, paths: Sequence[str], published: bool, overlapped: bool) -> Turn:
    """The plain way, in a new process."""
    import reference

    from polytag.models.backbones.weights import find_weights

    opened = pt.Bundle(bundle)
    network = opened.keras_model()
    if published:
        x = photo = reference.layers.Input((opened.image_size, opened.image_size, 3), dtype="uint8")
        for layer in reference.pretrained_base(opened.image_size, str(find_weights().path)):
            x = layer(x)
        network = reference.keras.Model(photo, network.layers[-1](x))
    targets = np.zeros((len(paths), len(opened.labels)), np.int8)

    def predicted(n: int) -> NDArray[np.float32]:
        photos = reference.Photos(paths[:n], targets[:n], opened.image_size)
        if overlapped:
            return network.predict(photos, verbose=0)
        return np.concatenate([network.predict(photos[i][0], verbose=0) for i in range(len(photos))])

    predicted(32)  # compiles
    start = time.perf_counter()
    probabilities = predicted(len(paths))
    with tempfile.TemporaryFile("w") as file:
        for path, row in zip(paths, probabilities, strict=True):
            file.write(json.dumps({"photo": path, "probabilities": [round(float(p), 6) for p in row]}) + "\n")
    return time.perf_counter() - start, probabilities, peak_megabytes()


def polytag(bundle: str, paths: Sequence[str], engine: str) -> Turn:
    """The same with the functions of `polytag tag`."""
    from polytag.serving.tagging.options import TagOptions
    from polytag.serving.tagging.rows import Row
    from polytag.serving.tagging.tag import TagFile, tag_photos

    opened = pt.Bundle(bundle, engine)
    opened.predict(paths[:32])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tags.jsonl"
        start = time.perf_counter()
        TagFile(TagOptions(out=out), opened, opened.thresholds).write(tag_photos(opened, paths))
        seconds = time.perf_counter() - start
        rows = [Row.from_json(line) for line in out.read_text().splitlines()]
    return (
        seconds,
        np.array([[row.probabilities[x] for x in opened.labels] for row in rows], np.float32),
        peak_megabytes(),
    )


def measured(
    bundle: pt.Bundle, data: pt.Dataset, paths: Sequence[str], unseen: NDArray[np.bool_], rounds: int
) -> Result:
    """Run every method on these photos, in turns."""
    facts = bundle.manifest
    networks = {"": False}
    if facts["recipe"].get("backbone") == "mobilenet_v2" and facts.get("fine_tuning") == "none":
        networks[", network of keras.applications"] = True
    ways: dict[str, tuple[Callable[..., Turn], tuple[Any, ...]]] = {
        f"plain {way}{network}": (plain, (published, overlapped))
        for network, published in networks.items()
        for way, overlapped in {"loop": False, "overlapped": True}.items()
    }
    ways |= {f"polytag {engine}": (polytag, (engine,)) for engine in bundle.engines}
    for path in paths:
        Path(path).read_bytes()
    turns: dict[str, list[Turn]] = {name: [] for name in ways}
    for part in np.array_split(paths, rounds):
        for name, (way, settings) in ways.items():
            turns[name].append(in_fresh_process(way, str(bundle.path), part.tolist(), *settings))
    first = np.concatenate([probabilities for _, probabilities, _ in turns["plain loop"]])
    results: Result = {}
    for name in ways:
        seconds, parts, memory = zip(*turns[name], strict=True)
        probabilities = np.concatenate(parts)
        speeds = [round(len(part) / s, 1) for part, s in zip(parts, seconds, strict=True)]
        results[name] = {
            "photos_per_second": round(len(paths) / sum(seconds), 1),
            "slowest_turn": min(speeds),
            "fastest_turn": max(speeds),
            "mean_average_precision": round(
                scores(data.targets[unseen], probabilities[unseen])["mean_average_precision"], 4
            ),
            "largest_difference": round(float(np.abs(probabilities - first).max()), 6),
            "peak_megabytes": round(max(memory)),
        }
        print(f"  {name:48} {json.dumps(results[name])}", flush=True)
    for engine in bundle.engines:
        for name in (name for name in ways if name.startswith("plain")):
            ratio = results[f"polytag {engine}"]["photos_per_second"] / results[name]["photos_per_second"]
            results[f"polytag {engine} / {name}"] = round(ratio, 2)
            print(f"  polytag {engine} is {ratio:.2f} times as fast as {name}", flush=True)
    return results


def enlarged(paths: Sequence[str], folder: Path) -> list[str]:
    """Write copies of photos at 1600×1200."""
    copies = []
    for number, path in enumerate(paths):
        with Image.open(path) as photo:
            copies.append(str(folder / f"{number}.jpg"))
            photo.convert("RGB").resize(ENLARGED, Image.Resampling.LANCZOS).save(copies[-1], quality=90)
    return copies


def cold(bundle: pt.Bundle, photo: str, times: int) -> Result:
    """Median seconds from the start of a process to its end, for one photo."""
    commands = {
        "polytag tag": [sys.executable, "-m", "polytag", "tag", str(bundle.path), photo],
        "Keras": [sys.executable, "-c", COLD_KERAS, str(bundle.path / "model.keras"), photo],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    return {name: round(statistics.median(values), 2) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data")
    parser.add_argument("--enlarged", type=int, default=1000)
    parser.add_argument("--cold", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    bundle, data = pt.Bundle(arguments.bundle), pt.read(arguments.data, conflicts="unknown")
    paths, unseen = [str(path) for path in data.paths], ~bundle.seen(data)
    results: Result = {}
    print(f"{len(paths):,} photos, {int(unseen.sum()):,} of them unseen")
    results["as they are"] = measured(bundle, data, paths, unseen, arguments.rounds)
    if arguments.enlarged:
        rows = np.flatnonzero(unseen)[: arguments.enlarged]
        rows = np.concatenate([rows, np.flatnonzero(~unseen)[: arguments.enlarged - len(rows)]])
        with tempfile.TemporaryDirectory() as folder:
            large = enlarged([paths[row] for row in rows], Path(folder))
            print(f"{len(large):,} photos of {ENLARGED[0]}×{ENLARGED[1]}")
            results["enlarged"] = measured(bundle, data.take(rows), large, unseen[rows], arguments.rounds)
    if arguments.cold:
        results["one photo, seconds"] = cold(bundle, paths[0], arguments.cold)
        print(f"one photo, from the start of the process: {json.dumps(results['one photo, seconds'])} seconds")
    if arguments.out:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()

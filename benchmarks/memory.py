"""Whether memory grows with the number of photos: peak memory on DATA and on N times as many photos.

    python benchmarks/memory.py DATA [--trainings frozen fine-tuned baseline tuned] [--times 10] [--json F]

Writes the photos N times under other names, each copy with a few extra bytes at its end. The pictures stay the same,
but the cache is keyed by content and has to decode, embed and keep every copy. The temporary folder needs room for N
times the decoded photos (150 KB each at 224 px). Every training runs in its own process: transfer on a frozen
backbone with an empty cache, then, with that cache, fine-tuning, the baseline CNN, and the tuned CNN with a search of
two trials. The number of steps in an epoch does not grow with the photos. Reports peak resident memory, which
includes pages of the mapped cache that the system can take back, and peak private memory (Linux only).
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from processes import in_fresh_process, peak_megabytes, private_memory

import polytag as pt
from polytag.data.dataset import Dataset
from polytag.photos.measure import measure

TRAININGS: dict[str, dict[str, Any]] = {
    "frozen": {"fine_tune": 0, "epochs": 5},
    "fine-tuned": {"fine_tune": 1, "epochs": 5},
    "baseline": {"model": "baseline", "epochs": 1},
    "tuned": {"model": "tuned", "epochs": 1, "trials": 2},
}


def repeated(data: Dataset, times: int, folder: Path) -> Dataset:
    """Write the photos ``times`` times into a folder, no two files alike."""
    folder.mkdir()
    paths = []
    for copy in range(times):
        for row, path in enumerate(data.paths):
            target = folder / f"{copy}-{row}{Path(path).suffix}"
            # Decoders ignore what follows the end of a picture.
            target.write_bytes(Path(path).read_bytes() + b"%d" % copy)
            paths.append(str(target))
    return replace(
        data,
        paths=np.array(paths),
        targets=np.tile(data.targets, (times, 1)),
        groups=np.tile(data.groups, times),
        parts=None,
        root=folder,
    )


def train(parts: tuple[Dataset, Dataset], settings: dict[str, Any], steps: int) -> Any:
    """Train in a new process; epochs on photos end after a fixed number of steps."""
    from polytag.models.backend import keras

    plain_fit = keras.Model.fit

    def fit(self: keras.Model, batches: Any, **options: Any) -> Any:
        if len(self.input_shape) == 4:
            options["steps_per_epoch"] = min(steps, len(batches))
        return plain_fit(self, batches, **options)

    keras.Model.fit = fit
    start = time.time()
    with private_memory() as private:
        pt.fit(*parts, show_progress=False, **settings)
    return {
        "peak MB": round(peak_megabytes()),
        "peak private MB": round(private["peak"]),
        "seconds": round(time.time() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--trainings", nargs="+", choices=list(TRAININGS), default=list(TRAININGS))
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50, help="steps in an epoch on photos")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data = pt.read(arguments.data, conflicts="unknown")
    data = data.without({path: str(error) for path, error in measure(data.paths).errors.items()})
    training, validation, _ = pt.split(data)
    # Before the cache moves: the weights may be in it.
    from polytag.models.backbones.weights import find_weights

    weights = find_weights().path
    results: dict[str, Any] = {}
    for times in (1, arguments.times):
        # The cache's limit must not remove what the second training needs.
        os.environ["POLYTAG_CACHE_LIMIT"] = "1000"
        with tempfile.TemporaryDirectory() as folder:
            parts = tuple(
                repeated(part, times, Path(folder) / name)
                for name, part in (("train", training), ("validation", validation))
            )
            for name in arguments.trainings:
                settings = {"image_size": arguments.image_size, **TRAININGS[name]}
                if "fine_tune" in settings and weights is not None:
                    settings["weights"] = str(weights)
                row = results.setdefault(name, {})
                row[f"{len(parts[0]) + len(parts[1])} photos"] = in_fresh_process(
                    train, parts, settings, arguments.steps, cache=f"{folder}/cache"
                )
    for row in results.values():
        few, many = row.values()
        row["ratio"] = {name: round(many[name] / few[name], 2) for name in few if few[name] and name != "seconds"}
    print(json.dumps(results, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

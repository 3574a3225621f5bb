"""Whether training takes more memory on more photos: the peak on DATA, and on N times as many, in one run.

    python benchmarks/memory.py DATA [--trainings frozen fine-tuned baseline tuned] [--times 10] [--json F]

The photos are repeated under other names, each copy with a few bytes more behind its end: the pictures stay the same,
but the cache, which goes by content, has to decode, embed and keep every one of them. That takes room for N times the
decoded photos, 150 KB each at 224 px, in the temporary folder. Every training runs in a process of its own: transfer on
a frozen backbone with a fresh cache, then, on that cache, fine-tuning, the baseline CNN and the tuned one with a search
of two trials. Epochs on photos have a number of steps that does not grow with the photos. Reported are the peak
resident memory, which includes pages of the mapped cache that the system may take back at any time, and the peak of
private memory, which has to be there (Linux only).
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
    """The photos ``times`` times, all written to a folder, no two files alike."""
    folder.mkdir()
    paths = []
    for copy in range(times):
        for row, path in enumerate(data.paths):
            target = folder / f"{copy}-{row}{Path(path).suffix}"
            # Whatever stands behind the end of a picture is not read.
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
    """Train in the process that was started for it; epochs on photos, rather than embeddings, end after some steps."""
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
    parser.add_argument("--steps", type=int, default=50, help="of an epoch on photos")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    data = pt.read(arguments.data, conflicts="unknown")
    data = data.without({path: str(error) for path, error in measure(data.paths).errors.items()})
    training, validation, _ = pt.split(data)
    # Before the cache changes its place: weights may lie there.
    from polytag.models.backbones.weights import find_weights

    weights = find_weights().path
    results: dict[str, Any] = {}
    for times in (1, arguments.times):
        # The cache's limit must not remove what the second training is to find.
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

"""How much faster networks learn from photos when threads of their own prepare the batches, in one run.

    python benchmarks/threads.py DATA [--models tuned,transfer,baseline] [--rounds 5] [--image-size 224] [--json F]

The CNNs and MobileNetV2's late layers learn for a few epochs each, in turns with batches that TensorFlow prepares on
the network's threads and with batches from threads of Keras. Printed are the seconds of each training, its judgement on
validation photos included; both ways learn the same, which is checked.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import polytag as pt
from polytag.models import fitting
from polytag.models.backend import keras

FROM = {"network's threads": math.inf, "own threads": 0}
"""How many photos are enough for threads of their own, for each way."""

SETTINGS: dict[str, dict[str, Any]] = {
    "tuned": {"epochs": 4, "trials": 1},
    "transfer": {"fine_tune": 1},
    "baseline": {"epochs": 1},
}


@contextmanager
def epochs_on_photos() -> Iterator[list[float]]:
    """The seconds of each call of Keras' `fit` in the block whose network sees photos, not embeddings."""
    seconds: list[float] = []
    plain_fit = keras.Model.fit

    def fit(self: keras.Model, *batches: Any, **settings: Any) -> Any:
        start = time.perf_counter()
        record = plain_fit(self, *batches, **settings)
        if len(self.input_shape) == 4:
            seconds.append(time.perf_counter() - start)
        return record

    with patch.object(keras.Model, "fit", fit):
        yield seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--models", default=",".join(SETTINGS), help="separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    train, validation, _ = pt.split(pt.read(arguments.data, conflicts="unknown"))
    models = arguments.models.split(",")
    seconds: dict[str, dict[str, list[float]]] = {model: {way: [] for way in FROM} for model in models}
    losses: dict[str, set[float]] = {model: set() for model in models}
    for _ in range(arguments.rounds):
        for model in models:
            for way, many in FROM.items():
                with patch.object(fitting, "MANY_PHOTOS", many), epochs_on_photos() as timed:
                    bundle = pt.fit(
                        train,
                        validation,
                        model,
                        image_size=arguments.image_size,
                        show_progress=False,
                        **SETTINGS[model],
                    )
                seconds[model][way] += timed
                losses[model].add(bundle.manifest["history"][-1]["loss"])
    for model, ways in seconds.items():
        before, now = (float(np.median(times)) for times in ways.values())
        print(f"{model}: " + ", ".join(f"{way} {np.round(times, 1)} s" for way, times in ways.items()), end="; ")
        print(f"medians {before:.1f} and {now:.1f} s, {before / now:.2f} ×; the same loss: {len(losses[model]) == 1}")
    if arguments.json:
        arguments.json.write_text(json.dumps(seconds, indent=2) + "\n")


if __name__ == "__main__":
    main()

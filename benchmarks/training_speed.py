"""Training time on photos with and without one optimization.

    python benchmarks/training_speed.py DATA --without threads|fused|early [--models M,N] [--rounds 5] [--json F]

"threads" prepare batches of photos ahead of the network. "fused" is batch normalisation in one operation. "early" runs
the frozen early layers of transfer's backbone on ONNX Runtime. Trainings of a few epochs alternate with and without the
optimization. For each it prints the seconds, including validation, and the losses of the last epoch. The seed is always
the same: threads must not change the loss, and the others only by rounding.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import polytag as pt
from polytag.models.backend import keras
from polytag.models.networks import architectures
from polytag.models.training import loop as fitting
from polytag.models.training import transfer

WITHOUT: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "threads": lambda: patch.object(fitting, "THREADED_PHOTOS", math.inf),
    "fused": lambda: patch.object(architectures, "FusedBatchNormalization", keras.layers.BatchNormalization),
    "early": lambda: patch.object(transfer, "split_early_layers", lambda network, _: (network, None)),
}

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
        if len(self.input_shape) == 4:  # whole photos, or their early feature maps
            seconds.append(time.perf_counter() - start)
        return record

    with patch.object(keras.Model, "fit", fit):
        yield seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--without", choices=list(WITHOUT), required=True)
    parser.add_argument("--models", default=",".join(SETTINGS), help="separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    train, validation, _ = pt.split(pt.read(arguments.data, conflicts="unknown"))
    models = arguments.models.split(",")
    ways = {f"without {arguments.without}": WITHOUT[arguments.without], f"with {arguments.without}": nullcontext}
    seconds: dict[str, dict[str, list[float]]] = {model: {way: [] for way in ways} for model in models}
    losses: dict[str, dict[str, set[float]]] = {model: {way: set() for way in ways} for model in models}
    for _ in range(arguments.rounds):
        for model in models:
            for way, changed in ways.items():
                with changed(), epochs_on_photos() as timed:
                    bundle = pt.fit(
                        train,
                        validation,
                        model,
                        image_size=arguments.image_size,
                        show_progress=False,
                        **SETTINGS[model],
                    )
                seconds[model][way] += timed
                losses[model][way].add(bundle.manifest["history"][-1]["loss"])
    for model, times in seconds.items():
        for way, values in times.items():
            print(f"{model} {way}: {np.round(values, 1)} s, last loss {sorted(losses[model][way])}")
        before, now = (float(np.median(values)) for values in times.values())
        print(f"{model}: medians {before:.1f} and {now:.1f} s, {before / now:.2f} ×")
    if arguments.json:
        arguments.json.write_text(json.dumps(seconds, indent=2) + "\n")


if __name__ == "__main__":
    main()

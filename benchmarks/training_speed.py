"""How much faster networks learn from photos by one of the means to that end, in one run with and without it.

    python benchmarks/training_speed.py DATA --without threads|fused|adam|divided [--models M,N] [--rounds 5] [--json F]

"threads" of their own prepare batches of photos, which TensorFlow does on the network's threads otherwise; "fused" is
the CNNs' batch normalisation in one operation, where Keras has a dozen; "adam" the optimizer's step, likewise;
"divided" are the early layers of transfer's backbone on ONNX Runtime, which fine-tuning leaves as they are. Networks
learn for a few epochs each, in turns without and with it. Printed are the seconds of each training, its judgement on
validation photos included, and each way's losses in the last epoch: one, as the seed is, which threads must not change
and the others only by rounding.
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
from polytag.models.training.optimizer import AdamW

WITHOUT: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "threads": lambda: patch.object(fitting, "MANY_PHOTOS", math.inf),
    "fused": lambda: patch.object(architectures, "FusedBatchNormalization", keras.layers.BatchNormalization),
    "adam": lambda: patch.object(AdamW, "fused_step", keras.optimizers.Adam.update_step),
    "divided": lambda: patch.object(transfer, "divided", lambda network, twin: (network, None)),
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

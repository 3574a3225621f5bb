"""The pointing game (Zhang et al. 2018): does the heat map point at the object?

    python benchmarks/pointing_game.py [--model transfer] [--scenes 600] [--image-size 224] [--seed 0]

Trains on synthetic scenes, whose objects have known positions, and explains all labels of the test scenes. A heat map
hits if its warmest place lies in the box around the visible part of the object. "chance" is what a random place would
hit (the mean share of a scene that a box covers); "centre" is what the centre would hit. "found" is the share of
objects whose label the model assigns; hits count all objects.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import NDArray

import polytag as pt
from polytag.data.sample.scenes import Box, draw_labels, draw_scene_with_boxes
from polytag.photos.decode import decode
from polytag.serving.explaining.explain import Explainer

SIDE = 192
"""Side of the scenes, in pixels."""

COLUMNS = ("hit", "chance", "centre", "found")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="transfer")
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--fine-tune", type=int, help="epochs of fine-tuning, for transfer")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = {"image_size": arguments.image_size, "epochs": arguments.epochs, "seed": arguments.seed}
    if arguments.model == "transfer":
        settings["fine_tune"] = arguments.fine_tune
    with tempfile.TemporaryDirectory() as folder:
        data = pt.read(pt.write_sample(Path(folder) / "scenes", arguments.scenes, SIDE, arguments.seed))
        train, validation, test = pt.split(data, seed=arguments.seed)
        bundle = pt.fit(train, validation, arguments.model, **settings)
        explainer = Explainer(bundle)
        rows: list[tuple] = []
        seconds = []
        for path in test.paths:
            boxes, pixels = boxes_of(path, arguments.seed), decode(path, bundle.image_size)
            start = time.perf_counter()
            heats = explainer.heat(pixels, list(boxes))
            seconds.append(time.perf_counter() - start)
            found = bundle.tag(path)
            rows += [
                (label, *played(heat, box), label in found)
                for (label, box), heat in zip(boxes.items(), heats, strict=True)
            ]
    print(f"{arguments.model}, {arguments.image_size} px, trained on {len(train)} scenes; {len(test)} test scenes")
    print(f"{'':12}{'objects':>9}" + "".join(f"{column:>9}" for column in COLUMNS))
    for label in (*bundle.labels, "all"):
        of_label = np.array([row[1:] for row in rows if label in (row[0], "all")], float)
        shares = of_label.mean(axis=0) if len(of_label) else np.full(len(COLUMNS), np.nan)
        print(f"{label:12}{len(of_label):9}" + "".join(f"{share:9.3f}" for share in shares))
    print(f"all labels of a scene are explained in {1000 * np.median(seconds):.0f} ms (median)")


def boxes_of(path: str, seed: int) -> dict[str, Box]:
    """Boxes of the objects of a sample scene, whose number is in its name."""
    scene = SeedSequence(seed, spawn_key=(int(Path(path).stem.removeprefix("scene")),))
    return draw_scene_with_boxes(draw_labels(scene), SIDE, scene)[1]


def played(heat: NDArray[np.float32], box: Box) -> tuple[bool, float, bool]:
    """Whether the map's maximum hits the box, the probability of a random hit, and whether the centre hits."""
    left, top, right, bottom = np.array(box) / SIDE
    y, x = (np.array(np.unravel_index(heat.argmax(), heat.shape)) + 0.5) / heat.shape
    hits = [left <= a < right and top <= b < bottom for a, b in ((x, y), (0.5, 0.5))]
    return bool(heat.any() and hits[0]), float((right - left) * (bottom - top)), hits[1]


if __name__ == "__main__":
    main()

"""The largest difference between the features of an encoder's own library and polytag's, in every way to run it.

    python benchmarks/encoders.py [FOLDER] [--out FILE]

FOLDER holds encoders as `tests/models/encoders/make_encoders.py` writes them, each with the features that its library
computes for some photos (`expected.npz`). Compares these with `polytag embed`, and the probabilities of a random head
with the bundle's graph, `polytag tag` and `polytag serve`.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from parity import COMMAND, served, tagged
from PIL import Image

import polytag as pt
from polytag.files import write_json
from polytag.models.backend import keras
from polytag.models.bundle.seen import PHOTO
from polytag.models.bundle.write import write_bundle
from polytag.models.encoders.encoder import find_encoder
from polytag.models.networks.architectures import head

TINY = Path(__file__).parent.parent / "tests" / "models" / "encoders" / "tiny"
LABELS = ["boat", "sunset", "tree"]


def bundled(encoder_folder: Path, out: Path) -> tuple[keras.Model, pt.Bundle]:
    """Join an encoder with a random head."""
    encoder = find_encoder(str(encoder_folder))
    keras.utils.set_random_seed(0)
    network = head(encoder.width, len(LABELS), dense=16)
    recipe = {"model": "transfer", "image_size": encoder.image_size, "backbone": encoder.backbone}
    facts = {"history": [], "fit_seconds": 0.0, "parameters": 0, "trainable_parameters": 0}
    manifest = {"labels": LABELS, "recipe": recipe, "encoder": dict(encoder.facts), **facts}
    return network, write_bundle(network, manifest, np.zeros(0, PHOTO), encoder.path).save(out)


def differences(folder: Path) -> dict[str, float]:
    """Return the largest absolute difference of each way to run an encoder."""
    with np.load(folder / "expected.npz") as arrays:
        photos, features = arrays["photos"], arrays["features"]
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        paths = [str(out / f"{i}.png") for i in range(len(photos))]
        for path, photo in zip(paths, photos, strict=True):
            Image.fromarray(photo).save(path)
        subprocess.run([*COMMAND, "embed", str(folder), *paths, "--out", str(out / "e.npy"), "-q"], check=True)
        network, bundle = bundled(folder, out / "bundle")
        wanted = network.predict(features, verbose=0)

        def largest(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
            return float(np.abs(found - expected).max())

        return {
            "embed": largest(np.load(out / "e.npy"), features),
            "bundle": largest(bundle.run(photos), wanted),
            "tag": largest(tagged(bundle.path, paths), wanted),
            "serve": largest(served(bundle.path, paths), wanted),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=TINY)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {}
    for folder in sorted(path.parent for path in options.folder.glob("*/expected.npz")):
        found[folder.name] = differences(folder)
        print(f"{folder.name:20} " + "  ".join(f"{way} {value:.1e}" for way, value in found[folder.name].items()))
    if options.out is not None:
        write_json(options.out, found)


if __name__ == "__main__":
    main()

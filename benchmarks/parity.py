"""The largest difference of any probability between all ways of using a bundle, on the same photos.

    python benchmarks/parity.py BUNDLE DATA [--photos 200] [--out FILE]

Compares the trained Keras model, `polytag evaluate`, the command `polytag tag`, `polytag serve` over HTTP, every export
on its own runtime, and the quantized model if the bundle has one. Photos that the bundle was trained on are left out,
since `evaluate` refuses them.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import polytag as pt
from polytag.errors import SettingsError
from polytag.files import write_json
from polytag.photos.decode import decode
from polytag.serving.export import FILES, export, runner
from polytag.serving.tagging.formats import Format

COMMAND = [sys.executable, "-m", "polytag"]


def tagged(bundle: Path, paths: list[str]) -> NDArray[np.float32]:
    """Probabilities from `polytag tag`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tags.jsonl"
        subprocess.run(
            [*COMMAND, "tag", str(bundle), "-", "--out", str(out)], input="\n".join(paths), text=True, check=True
        )
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    return np.array([list(row["probabilities"].values()) for row in rows], np.float32)


def served(bundle: Path, paths: list[str]) -> NDArray[np.float32]:
    """Probabilities from `polytag serve`."""
    command = [*COMMAND, "serve", str(bundle), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = next(m for line in server.stdout if (m := re.search(r"http://\S+/", line))).group()
        rows = []
        for path in paths:
            request = urllib.request.Request(f"{address}v1/tag", Path(path).read_bytes(), method="POST")
            with urllib.request.urlopen(request) as answer:
                rows.append([label["probability"] for label in json.load(answer)["images"][0]["labels"]])
        server.terminate()
    return np.array(rows, np.float32)


def exported(bundle: pt.Bundle, form: Format, data: pt.Dataset, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities from an export."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / str(form)
        export(bundle, form, out, data=data)
        run = runner(form, out / FILES[form])
        return np.concatenate([run(pixels[i : i + 5]) for i in range(0, len(pixels), 5)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    bundle, data = pt.Bundle(arguments.bundle), pt.read(arguments.data, conflicts="unknown")
    rows = np.flatnonzero(~bundle.seen(data))[: arguments.photos]
    some = data.take(rows)
    paths = [str(path) for path in some.paths]
    pixels = np.stack([decode(path, bundle.image_size) for path in paths])
    ways: dict[str, Callable[[], NDArray[np.float32]]] = {
        "Keras": lambda: bundle.keras_model().predict(pixels, verbose=0),
        "evaluate": lambda: pt.evaluate(bundle, replace(some, parts=None)).probabilities,
        "tag": lambda: tagged(arguments.bundle, paths),
        "serve": lambda: served(arguments.bundle, paths),
        **{f"export {form}": lambda form=form: exported(bundle, form, data, pixels) for form in Format},
        **{f"tag {e}": lambda e=e: pt.Bundle(arguments.bundle, e).predict(paths)[0] for e in bundle.engines[1:]},
    }
    found: dict[str, NDArray[np.float32]] = {}
    for name, way in ways.items():
        try:
            found[name] = way()
        except SettingsError as error:
            print(f"{name}: {error}")
    names = list(found)
    differences = {a: {b: float(np.abs(found[a] - found[b]).max()) for b in names} for a in names}
    print(f"largest difference of any of {found['Keras'].size:,} probabilities of {len(paths)} photos")
    width = max(map(len, names))
    print(f"{'':{width}}  " + "  ".join(f"{name.removeprefix('export '):>12}" for name in names))
    for a in names:
        print(f"{a:{width}}  " + "  ".join(f"{differences[a][b]:12.1e}" for b in names))
    if arguments.out:
        write_json(arguments.out, {"photos": len(paths), "differences": differences})


if __name__ == "__main__":
    main()

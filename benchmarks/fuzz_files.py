"""Damage tables, annotation files and bundles, and count inputs that end in anything but a result or one clear line.

    python benchmarks/fuzz_files.py [--inputs 5000] [--seed 0] [--bundle BUNDLE] [--json F]

The inputs are small data sets in each format that polytag reads. Text and binary files are damaged byte by byte, and
JSON also by replacing values with odd ones. Every input is read. The only exception allowed is
`polytag.errors.PolytagError` with a message of one line.

With --bundle, the files of a bundle are damaged, cut, swapped or removed, half of the time with checksums that match
again, as an attacker would do. Each bundle is opened and tags a photo. If the checksum does not match, the bundle must
be refused. A Keras model with a layer of Python code must be refused by Keras' safe mode.

Nothing may be unpickled: Python reports each attempt to find a class for a pickle, and it counts as a crash. Inputs run
in child processes, so that an input which crashes the process is reported, too.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

import polytag as pt
from polytag.errors import PolytagError

PORTION = 250
"""Number of inputs per child process."""

ODD = (
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    10**30,
    "",
    " ",
    "nan",
    "\0",
    "é" * 300,
    "../../etc/passwd",
    "=1+1",
    [],
    {},
)
"""Values that replace others in JSON."""

NAMES = [f"photo{number}.png" for number in range(6)]


class Unpickling(BaseException):
    """Something was unpickled."""


def forbid_pickle(event: str, arguments: Any) -> None:
    if event == "pickle.find_class":
        raise Unpickling(str(arguments))


def data_sets(folder: Path) -> list[Path]:
    """Write a small data set in each format, and return the files to damage. Photos are in the same folder."""
    pt.write_sample(folder / "sample", 6, 32)
    data = pt.read(folder / "sample" / "labels.csv", conflicts="unknown")
    for name, path in zip(NAMES, data.paths, strict=True):
        shutil.copy(path, folder / name)
    rows = [[NAMES[i], *map(int, data.targets[i])] for i in range(6)]
    columns = pd.DataFrame(rows, columns=["image", *data.labels])
    columns.to_csv(folder / "columns.csv", index=False)
    columns.to_parquet(folder / "columns.parquet")
    columns.to_excel(folder / "columns.xlsx", index=False)
    pd.DataFrame({"file": NAMES, "tags": ["a;b", "a", "b;c", "c", "", "a;c"]}).to_csv(folder / "tags.tsv", sep="\t")
    (folder / "lines.jsonl").write_text("".join(json.dumps({"image": n, "labels": ["a", "b"]}) + "\n" for n in NAMES))
    images = [{"id": i, "file_name": name, "width": 32, "height": 32} for i, name in enumerate(NAMES)]
    boxes = [{"id": i, "image_id": i, "category_id": i % 2 + 1, "bbox": [1, 1, 9, 9]} for i in range(6)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    write(folder / "coco.json", {"images": images, "annotations": boxes, "categories": categories})
    choice = {"type": "choices", "from_name": "l", "to_name": "i", "value": {"choices": ["cat"]}}
    write(folder / "studio.json", [{"data": {"image": n}, "annotations": [{"result": [choice]}]} for n in NAMES])
    region = {"shape_attributes": {"name": "rect"}, "region_attributes": {"kind": "cat"}}
    write(
        folder / "via.json", {n: {"filename": n, "size": 1, "regions": [region], "file_attributes": {}} for n in NAMES}
    )
    box = {"label": "cat", "coordinates": {"x": 5, "y": 5, "width": 4, "height": 4}}
    write(folder / "createml.json", [{"image": name, "annotations": [box]} for name in NAMES])
    items = [{"id": n, "annotations": [{"type": "label", "label_id": 0}], "image": {"path": n}} for n in NAMES]
    write(folder / "datumaro.json", {"categories": {"label": {"labels": [{"name": "cat"}]}}, "items": items})
    xml = "".join(f'<image id="{i}" name="{n}"><tag label="cat"/></image>' for i, n in enumerate(NAMES))
    (folder / "cvat.xml").write_text(f"<annotations><version>1.1</version>{xml}</annotations>")
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".png")


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def nodes(content: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) in JSON content."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place for key, value in inside for place in [(content, key), *nodes(value)]]


def damaged(content: bytes, others: list[bytes], is_json: bool, rng: random.Random) -> bytes:
    """Return a damaged version of a file's content."""
    if is_json and rng.random() < 0.6:
        parsed = json.loads(content)
        for _ in range(rng.randint(1, 3)):
            container, key = rng.choice(nodes(parsed) or [(None, None)])
            if container is not None:
                container[key] = rng.choice(ODD)
        return json.dumps(parsed).encode()
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        place, way = rng.randrange(len(data) + 1), rng.randrange(5)
        if way == 0:
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif way == 1:
            del data[place:]
        elif way == 2:
            data[place : place + rng.randint(1, 100)] *= rng.randrange(3)
        elif way == 3:
            data[place:place] = rng.choice((b"\n", b",", b'"', b";;", b"\xff\xfe", b"\0", b"[" * 500, b"9" * 400))
        else:
            data[place:] = rng.choice(others)[place:]
        data = data or bytearray(b" ")
    return bytes(data)


def read_damaged(files: list[Path], contents: list[bytes], number: int, rng: random.Random) -> str:
    chosen = number % len(files)
    path = files[chosen]
    path.write_bytes(damaged(contents[chosen], contents, path.suffix == ".json", rng))
    try:
        pt.read(path, images=path.parent)
        return "read"
    except PolytagError as error:
        return refusal(error)
    finally:
        path.write_bytes(contents[chosen])


def refusal(error: PolytagError) -> str:
    if "\n" in str(error) or not str(error).strip():
        raise AssertionError(f"no line: {error!s}") from error
    return type(error).__name__


def use_damaged(bundle: Path, photo: Path, rng: random.Random) -> str:
    """Damage one file of a copy of the bundle, open it and tag."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(shutil.copytree(bundle, Path(temporary) / "bundle"))
        names = ["bundle.json", *json.loads((copy / "bundle.json").read_text())["files"]]
        name = rng.choice([*names, "bundle.json", "model.onnx"])
        before, way = (copy / name).read_bytes(), rng.randrange(4)
        if way == 0:
            (copy / name).unlink()
        else:
            others = [(copy / other).read_bytes() for other in names]
            after = rng.choice(others) if way == 1 else damaged(before, others, name == "bundle.json", rng)
            (copy / name).write_bytes(after)
        changed = not (copy / name).exists() or (copy / name).read_bytes() != before
        resealed = changed and name != "bundle.json" and (copy / name).exists() and rng.random() < 0.5
        if resealed:
            reseal(copy, name)
        try:
            opened = pt.Bundle(copy)
            opened.tag(photo)
            _ = opened.seen_photos
            if name == "model.keras":
                opened.keras_model()
        except PolytagError as error:
            return refusal(error)
        if changed and not resealed and name not in ("bundle.json", "model.keras", "MODEL_CARD.md"):
            raise AssertionError(f"{name} was changed, and nothing was refused")
        return "used"


def reseal(bundle: Path, name: str) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["files"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    write(bundle / "bundle.json", manifest)


def refuses_code(bundle: Path) -> bool:
    """Return whether a model with Python code in a layer, and a matching checksum, is refused without running it."""
    import keras

    with tempfile.TemporaryDirectory() as temporary:
        copy, trace = Path(shutil.copytree(bundle, Path(temporary) / "bundle")), Path(temporary) / "trace"
        source = f"lambda x: (open({str(trace)!r}, 'w').close(), x)[1]"
        network = keras.Sequential([keras.layers.Input((3,)), keras.layers.Lambda(eval(source))])
        trace.unlink(missing_ok=True)
        network.save(copy / "model.keras")
        reseal(copy, "model.keras")
        trace.unlink(missing_ok=True)
        try:
            pt.Bundle(copy).keras_model()
        except PolytagError:
            return not trace.exists()
        return False


def run_portion(first: int, last: int, seed: int, bundle: Path | None) -> None:
    """Try a range of inputs, and print the number and the result of each on a line."""
    warnings.simplefilter("ignore")
    sys.addaudithook(forbid_pickle)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = data_sets(folder)
        contents = [file.read_bytes() for file in files]
        attempt: Callable[[int, random.Random], str]
        if bundle is None:
            attempt = lambda number, rng: read_damaged(files, contents, number, rng)  # noqa: E731
        else:
            attempt = lambda number, rng: use_damaged(bundle, folder / NAMES[0], rng)  # noqa: E731
        for number in range(first, last):
            name = files[number % len(files)].name if bundle is None else "bundle"
            print(number, name, flush=True)
            try:
                outcome = attempt(number, random.Random(f"{seed} {number}"))
            except (Exception, Unpickling):
                outcome = "CRASH " + traceback.format_exc().strip().replace("\n", " | ")[-600:]
            print(number, name, outcome, flush=True)


def run_all(inputs: int, options: list[str]) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    crashes, first, begun = [], 0, time.perf_counter()
    while first < inputs:
        last = min(inputs, first + PORTION)
        command = [sys.executable, os.path.abspath(__file__), *options, "--portion", str(first), str(last)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=1200)
        started, name = first, ""
        for line in done.stdout.splitlines():
            number, name, *rest = line.split(" ", 2)
            started = int(number)
            if rest:
                outcomes[rest[0].split(" ")[0]] += 1
                crashes += [f"{name}, input {number}: {rest[0][6:]}"] if rest[0].startswith("CRASH") else []
        if done.returncode:
            crashes.append(f"{name}, input {started}: exit status {done.returncode}: {done.stderr[-300:]}")
        first = started + 1 if done.returncode else last
    minutes = round((time.perf_counter() - begun) / 60, 1)
    return {"inputs": inputs, "outcomes": dict(outcomes.most_common()), "crashes": crashes, "minutes": minutes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--portion", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.portion:
        run_portion(*options.portion, options.seed, options.bundle)
        return
    given = ["--seed", str(options.seed)]
    results = {"tables and annotations": run_all(options.inputs, given)}
    if options.bundle:
        results["bundles"] = run_all(options.inputs // 5, [*given, "--bundle", str(options.bundle)])
        results["bundles"]["Python code in a layer is refused"] = refuses_code(options.bundle)
    print(json.dumps(results, indent=2))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(any(result["crashes"] for result in results.values()))


if __name__ == "__main__":
    main()

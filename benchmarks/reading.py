"""Seconds and peak memory of reading tables of the size and form of well-known data sets.

    python benchmarks/reading.py [FORM …] [--json F]

Each table is made up in a temporary folder with stand-ins for 200 of its photos; all others are missing. Every form is
read in its own process. The index of files is measured on a folder of a million empty files (form ``index``).
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

STAND_INS = 200
Lines = Iterator[str]

PLANET = [f"tag_{j}" for j in range(17)]


def names(head: str, name: str, n: int, labels: list[str], mark: str, most: int) -> Lines:
    """Yield the lines of a table with a column of label names."""
    rng = random.Random(0)
    yield head
    for i in range(n):
        yield f"{name.format(i)},{mark.join(sorted(rng.sample(labels, rng.randint(1, most))))}"


def columns(name: str, n: int, k: int, values: str, blank: float = 0.0) -> Lines:
    """Yield the lines of a table with one column per label."""
    rng = random.Random(0)
    yield "image," + ",".join(f"label {j}" for j in range(k))
    cells = values.split()
    rows = [",".join("" if rng.random() < blank else rng.choice(cells) for _ in range(k)) for _ in range(5000)]
    for i in range(n):
        yield f"{name.format(i)},{rows[i * 7919 % 5000]}"


def nih(n: int) -> Lines:
    """Yield the lines of a table with label names next to ages, patients and follow-up counts."""
    rng = random.Random(0)
    findings = [f"Finding {j}" for j in range(14)]
    yield "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender"
    for i in range(n):
        chosen = "|".join(rng.sample(findings, rng.choice((1, 1, 2, 3))))
        yield f"{i:08d}_000.png,{chosen},{i % 4},{i // 4},{20 + i % 60},{'MF'[i % 2]}"


def open_images(n: int) -> Lines:
    """Yield the lines of a table in long format. Each row has an image, a label and whether the label is present."""
    rng = random.Random(0)
    yield "ImageID,Source,LabelName,Confidence"
    for i in range(n):
        for j in rng.sample(range(600), 6):
            yield f"{i:016x},verification,/m/0{j:03d},{rng.randint(0, 1)}"


def odir(n: int) -> Lines:
    """Yield the lines of a table with 0/1 columns, a list and a vector of the labels, and three columns of photos."""
    rng = random.Random(0)
    letters = "NDGCAHMO"
    yield "ID,Patient Age,Left-Fundus,Right-Fundus," + ",".join(letters) + ",labels,target,filename"
    for i in range(n):
        chosen = rng.sample(letters, rng.randint(1, 2))
        bits = [int(letter in chosen) for letter in letters]
        photo = f"{i // 2}_{'left' if i % 2 else 'right'}.jpg"
        yield f'{i // 2},50,{i // 2}_left.jpg,{i // 2}_right.jpg,{",".join(map(str, bits))},"{chosen}","{bits}",{photo}'


FORMS: dict[str, tuple[Callable[[], Lines], str]] = {
    "planet": (lambda: names("image_name,tags", "train_{}", 40_479, PLANET, " ", 6), "train_{}.jpg"),
    "protein-atlas": (
        lambda: names("Id,Target", "{:08x}-bbc0", 31_072, [str(j) for j in range(28)], " ", 4),
        "{:08x}-bbc0.png",
    ),
    "imet": (
        lambda: names("id,attribute_ids", "{:016x}", 142_119, [str(j) for j in range(3474)], " ", 6),
        "{:016x}.png",
    ),
    "celeba": (lambda: columns("{:06d}.jpg", 202_599, 40, "1 -1 -1"), "{:06d}.jpg"),
    "chexpert": (lambda: columns("train/p{}/view1.jpg", 223_414, 14, "1.0 0.0 0.0 -1.0", 0.4), "train/p{}/view1.jpg"),
    "nih": (lambda: nih(112_120), "{:08d}_000.png"),
    "open-images": (lambda: open_images(250_000), "{:016x}.jpg"),
    "odir": (lambda: odir(6_392), "{}_left.jpg {}_right.jpg"),
    "million-80": (lambda: columns("{}.jpg", 1_000_000, 80, "1 0 0 0"), "{}.jpg"),
}


def measure(form: str) -> dict[str, float | int | str]:
    """Read a table in one format. Each call runs in a separate process."""
    import polytag as pt
    from polytag.data.reading.photo_index import PhotoIndex

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if form == "index":
            for i in range(1000):
                (home / f"{i}").mkdir()
                for j in range(1000):
                    (home / f"{i}" / f"{j}_{i}.jpg").touch()
            start, cpu = time.perf_counter(), time.process_time()
            n = len(PhotoIndex([home]))
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            return {"form": form, "photos": n, "labels": 0, "seconds": seconds, "cpu_seconds": cpu}
        lines, photo = FORMS[form]
        with (home / "labels.csv").open("w") as file:
            file.writelines(f"{line}\n" for line in lines())
        for i in range(STAND_INS):
            for name in photo.split():
                path = home / "photos" / name.format(i)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(name.format(i).encode())
        start, cpu = time.perf_counter(), time.process_time()
        data = pt.read(home / "labels.csv")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {
            "form": form,
            "photos": len(data) + len(data.left_out),
            "labels": len(data.labels),
            "seconds": seconds,
            "cpu_seconds": cpu,
            "read": data.notes[0],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("forms", nargs="*", metavar="FORM", default=[*FORMS, "index"])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--here", action="store_true", help="measure in this process")
    given = parser.parse_args()
    if given.here:
        found = measure(given.forms[0])
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    results = []
    for form in given.forms:
        out = subprocess.run([sys.executable, __file__, form, "--here"], capture_output=True, text=True, check=True)
        found = json.loads(out.stdout)
        results.append(found)
        print(
            f"{form:14} {found['photos']:>9,} photos {found['labels']:>5,} labels {found['seconds']:6.1f} s "
            f"({found['cpu_seconds']:5.1f} s of CPU) "
            f"{found['peak_mb']:7,.0f} MB",
            flush=True,
        )
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

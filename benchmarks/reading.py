"""Seconds and peak memory of reading tables of the size and form of well-known data sets, and whether labels are right.

    python benchmarks/reading.py [FORM …] [--json F]

Each table is made up in a temporary folder. About 2,000 of its photos, drawn at random, have a stand-in file; the rest
are missing. Every label of the stand-ins is compared with what was written. Each form is read in its own process. The
index of files is measured on a folder of a million empty files (form ``index``).
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

STAND_INS = 2_000

Rows = Iterator[tuple[str, str, dict[str, int]]]
"""Lines of a table, each with its photo file and the values of the labels that it names: 1, 0 or -1 (unknown)."""


@dataclass(frozen=True)
class Form:
    """A table to read.

    Attributes:
        header: the first line.
        rows: makes the other lines.
        n_photos: the number of photos.
        n_labels: the number of labels.
        otherwise: the value of a label that no line of a photo names.
    """

    header: str
    rows: Callable[[], Rows]
    n_photos: int
    n_labels: int
    otherwise: int = 0


def names(n: int, name: str, ending: str, labels: list[str], mark: str, most: int) -> Rows:
    """Yield rows of a table with a column of label names."""
    rng = random.Random(0)
    for i in range(n):
        chosen = sorted(rng.sample(labels, rng.randint(1, most)))
        yield f"{name.format(i)},{mark.join(chosen)}", name.format(i) + ending, dict.fromkeys(chosen, 1)


def columns(n: int, name: str, k: int, meaning: Mapping[str, int], cells: str, blank: float = 0.0) -> Rows:
    """Yield rows of a table with one column per label."""
    rng = random.Random(0)
    drawn = [["" if rng.random() < blank else rng.choice(cells.split()) for _ in range(k)] for _ in range(5000)]
    rows = [(",".join(row), {f"label {j}": meaning[cell] for j, cell in enumerate(row)}) for row in drawn]
    for i in range(n):
        line, values = rows[i * 7919 % 5000]
        yield f"{name.format(i)},{line}", name.format(i), values


def nih(n: int) -> Rows:
    """Yield rows of a table with label names next to ages, patients and follow-up counts."""
    rng = random.Random(0)
    findings = [f"Finding {j}" for j in range(14)]
    for i in range(n):
        chosen = rng.sample(findings, rng.choice((1, 1, 2, 3)))
        photo = f"{i:08d}_000.png"
        cells = f"{photo},{'|'.join(chosen)},{i % 4},{i // 4},{20 + i % 60},{'MF'[i % 2]}"
        yield cells, photo, dict.fromkeys(chosen, 1)


def open_images(n: int) -> Rows:
    """Yield rows of a table in long format. Each row has an image, a label and whether the label is present."""
    rng = random.Random(0)
    for i in range(n):
        photo = f"{i:016x}"
        for j in {rng.randrange(600) for _ in range(rng.choice((3, 4, 5, 7)))}:
            value = rng.randint(0, 1)
            yield f"{photo},verification,/m/0{j:03d},{value}", f"{photo}.jpg", {f"/m/0{j:03d}": value}


def odir(n: int) -> Rows:
    """Yield rows of a table with 0/1 columns, a list and a vector of the labels, and three columns of photos."""
    rng = random.Random(0)
    letters = "NDGCAHMO"
    for i in range(n):
        chosen = rng.sample(letters, rng.randint(1, 2))
        bits = [int(letter in chosen) for letter in letters]
        photo = f"{i // 2}_{'left' if i % 2 else 'right'}.jpg"
        eyes = f"{i // 2},50,{i // 2}_left.jpg,{i // 2}_right.jpg"
        yield (
            f'{eyes},{",".join(map(str, bits))},"{chosen}","{bits}",{photo}',
            photo,
            dict(zip(letters, bits, strict=True)),
        )


PLANET = [f"tag_{j}" for j in range(17)]
NUMBERS = [str(j) for j in range(3474)]
OPEN_IMAGES = "ImageID,Source,LabelName,Confidence"


def header(k: int) -> str:
    """Return the header of a table with one column per label."""
    return "image," + ",".join(f"label {j}" for j in range(k))


NIH = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender"
CHEXPERT = {"1.0": 1, "0.0": 0, "-1.0": -1, "": -1}
FORMS = {
    "planet": Form("image_name,tags", lambda: names(40_479, "train_{}", ".jpg", PLANET, " ", 6), 40_479, 17),
    "protein-atlas": Form("Id,Target", lambda: names(31_072, "{:08x}-bbc0", ".png", NUMBERS[:28], " ", 4), 31_072, 28),
    "imet": Form("id,attribute_ids", lambda: names(142_119, "{:016x}", ".png", NUMBERS, " ", 6), 142_119, 3474),
    "celeba": Form(header(40), lambda: columns(202_599, "{:06d}.jpg", 40, {"1": 1, "-1": 0}, "1 -1 -1"), 202_599, 40),
    "chexpert": Form(
        header(14),
        lambda: columns(223_414, "train/p{}/view1.jpg", 14, CHEXPERT, "1.0 0.0 0.0 -1.0", 0.4),
        223_414,
        14,
    ),
    "nih": Form(
        NIH,
        lambda: nih(112_120),
        112_120,
        14,
    ),
    "open-images": Form(OPEN_IMAGES, lambda: open_images(250_000), 250_000, 600, otherwise=-1),
    # Human-verified labels of the images with boxes: training, validation and test set together.
    "open-images-all": Form(OPEN_IMAGES, lambda: open_images(1_910_098), 1_910_098, 600, otherwise=-1),
    "odir": Form(
        "ID,Patient Age,Left-Fundus,Right-Fundus,N,D,G,C,A,H,M,O,labels,target,filename", lambda: odir(6_392), 6_392, 8
    ),
    "million-80": Form(
        header(80), lambda: columns(1_000_000, "{}.jpg", 80, {"1": 1, "0": 0}, "1 0 0 0"), 1_000_000, 80
    ),
}


def write(form: Form, home: Path) -> tuple[dict[str, dict[str, int]], int]:
    """Write a table and its stand-ins. Return the labels of the stand-ins and the number of rows."""
    rng = random.Random(1)
    expected: dict[str, dict[str, int]] = {}
    last, chosen, n_rows = "", False, 0
    (home / "photos").mkdir()
    with (home / "labels.csv").open("w") as file:
        file.write(f"{form.header}\n")
        for line, photo, values in form.rows():
            file.write(f"{line}\n")
            n_rows += 1
            if photo != last:
                last, chosen = photo, rng.random() < STAND_INS / form.n_photos
            if chosen:
                expected.setdefault(photo, {}).update(values)
    for photo in expected:
        path = home / "photos" / photo
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.encode())
    return expected, n_rows


def labels_right(data: "pt.Dataset", expected: Mapping[str, Mapping[str, int]], otherwise: int) -> int:  # noqa: F821
    """Return the number of photos of which every label was read as it was written."""
    right = 0
    for name, row in zip(data.names, data.targets.tolist(), strict=True):
        values = expected[name.removeprefix("photos/")]
        right += set(values) <= set(data.labels) and row == [values.get(label, otherwise) for label in data.labels]
    return right


def measure_index(home: Path) -> dict[str, float | int | str]:
    """Index a million empty files."""
    from polytag.data.reading.photo_index import PhotoIndex

    for i in range(1000):
        (home / f"{i}").mkdir()
        for j in range(1000):
            (home / f"{i}" / f"{j}_{i}.jpg").touch()
    start, cpu = time.perf_counter(), time.process_time()
    n = len(PhotoIndex([home]))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"photos": n, "rows": n, "labels": 0, "seconds": seconds, "cpu_seconds": cpu}


def measure(name: str) -> dict[str, float | int | str]:
    """Read a table in one format. Each call runs in a separate process."""
    import polytag as pt

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if name == "index":
            return {**measure_index(home), "form": name}
        form = FORMS[name]
        expected, n_rows = write(form, home)
        start, cpu = time.perf_counter(), time.process_time()
        data = pt.read(home / "labels.csv")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {
            "form": name,
            "photos": len(data) + len(data.left_out),
            "rows": n_rows,
            "labels": len(data.labels),
            "expected_labels": form.n_labels,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "checked": len(expected),
            "right": labels_right(data, expected, form.otherwise) if len(data) == len(expected) else 0,
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
        checked = f"{found['right']:,} of {found['checked']:,}" if "checked" in found else "-"
        print(
            f"{form:15} {found['rows']:>10,} rows {found['photos']:>9,} photos {found['labels']:>5,} labels "
            f"{found['seconds']:6.1f} s ({found['cpu_seconds']:5.1f} s of CPU) {found['peak_mb']:7,.0f} MB, "
            f"labels right: {checked}",
            flush=True,
        )
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=2) + "\n")
    wrong = [one["form"] for one in results if one.get("right") != one.get("checked")]
    wrong += [one["form"] for one in results if one["labels"] != one.get("expected_labels", one["labels"])]
    if wrong:
        sys.exit(f"labels are wrong: {', '.join(wrong)}")


if __name__ == "__main__":
    main()

"""Print, for each table that could be misread, the command and the line with which polytag refuses it.

    python benchmarks/guards.py [--polytag COMMAND]

Each example is written into a temporary folder with small photos, and ``polytag convert`` is run on it. The exit code
is 1 unless every command exits with code 2, prints a single line to stderr, and writes nothing.
"""

import argparse
import itertools
import random
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

PHOTOS = 24


@dataclass(frozen=True)
class Guard:
    """An input that polytag refuses.

    Attributes:
        title: what is wrong or ambiguous.
        make: writes the input into a folder that holds the photos 0.jpg, 1.jpg, ….
        arguments: arguments of ``polytag convert``.
    """

    title: str
    make: Callable[[Path], object]
    arguments: str = "labels.csv out.csv"


def table(header: str, cells: Sequence[str], name: str = "labels.csv") -> Callable[[Path], object]:
    """Return a function that writes a table with one row per photo."""
    rows = [f"{i}.jpg,{cell}" for i, cell in enumerate(cells)]
    return lambda home: (home / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def repeated(*cells: str) -> list[str]:
    """Return one cell for each photo."""
    return [cells[i % len(cells)] for i in range(PHOTOS)]


def ambiguous(home: Path) -> None:
    """Write a table of base names that two folders have."""
    for folder in ("a", "b"):
        (home / folder).mkdir()
        draw(home / folder / "photo.jpg", folder)
    (home / "labels.csv").write_text("image,labels\nphoto.jpg,cat\n0.jpg,dog\n")


def lost_zeros(home: Path) -> None:
    """Write a table in which 0007.jpg became 7.jpg."""
    (home / "photos").mkdir()
    for i in range(3):
        draw(home / "photos" / f"000{i}7.jpg", f"zero {i}")
    (home / "labels.csv").write_text("image,labels\n7.jpg,cat\n17.jpg,dog\n27.jpg,cat\n")


def stray_ids(home: Path) -> None:
    """Write COCO annotations whose image ids are text, unlike the ids of the images."""
    images = ",".join(f'{{"id": {i}, "file_name": "{i}.jpg"}}' for i in range(4))
    boxes = ",".join(f'{{"id": {i}, "image_id": "x{i}", "category_id": 1}}' for i in range(4))
    text = f'{{"images": [{images}], "annotations": [{boxes}], "categories": [{{"id": 1, "name": "cat"}}]}}'
    (home / "coco.json").write_text(text)


def parquet(home: Path) -> None:
    """Write Parquet without file names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"cat": [1, 0, 1], "dog": [0, 1, 1]}), home / "labels.parquet")


def workbook(home: Path) -> None:
    """Write the beginning of an Excel workbook of the format before 2007."""
    (home / "labels.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504))


WORDS = [" ".join(words) for words in itertools.permutations(("red", "green", "blue", "old"), 3)]
ANIMALS = ("cat", "dog", "owl", "cow")
PLACES = ("mat", "box", "car", "bed", "sofa", "desk")
GUARDS = (
    Guard("multi-hot vectors without names", table("image,labels", repeated("0 1 0", "1 0 0", "1 1 0"))),
    Guard("multi-hot vectors with commas", table("image,labels", repeated('"1,0"', '"0,1"', '"0,0"'))),
    Guard("vectors that lost their leading zeros", table("image,labels", repeated("110", "10", "1", "111"))),
    Guard("vectors of different lengths", table("image,labels", repeated("0 1 0", "1 0 0", "1 1 0 0"))),
    Guard("values between 0 and 1", table("image,cat,dog", repeated("0.2,0.9", "0.7,0.1"))),
    Guard(
        "confidences of one row per label",
        table("image,label,confidence", repeated("cat,0.2", "dog,0.9", "cat,0.8")),
    ),
    Guard("pieces of lists", table("image,labels", [f"\"['cat', 'dog'\" {i}" for i in range(PHOTOS)])),
    Guard(
        "pieces of JSON", table("image,labels", repeated('"{""a"": ""cat"""', '"""b"": ""dog""}"', '"{""a"": ""owl"""'))
    ),
    Guard("damaged lists", table("image,labels", [*repeated("\"['cat', 'dog']\"")[1:], "\"['cat', 'do\""])),
    Guard("nearly as many labels as rows", table("image,labels", [f"thing{i * 7919}" for i in range(PHOTOS)])),
    Guard("permutations of few words", table("image,labels", [words.replace(" ", "_") for words in WORDS])),
    Guard("sentences", table("image,labels", [f"a {animal} on the {place}" for animal in ANIMALS for place in PLACES])),
    Guard(
        "a mark that may separate",
        table("image,labels", repeated(*(f"{a}/{b}" for a, b in itertools.pairwise(PLACES)))),
    ),
    Guard("1, -1 and blank, but no 0", table("image,cat,dog", repeated("1,-1", ",1", "-1,"))),
    Guard("an invalid cell in a 0/1 column", table("image,cat,dog", [*repeated("1,0", "0,1")[1:], "7,1"])),
    Guard("several columns of names", table("image,animals,colours", repeated("cat,red", "dog,blue", "cat,blue"))),
    Guard(
        "rows that contradict each other",
        lambda home: (home / "labels.csv").write_text("image,cat,dog\n0.jpg,1,0\n0.jpg,0,0\n1.jpg,1,1\n2.jpg,0,1\n"),
    ),
    Guard("ambiguous names", ambiguous),
    Guard("names that lost their zeros", lost_zeros),
    Guard("mostly stray COCO ids", stray_ids, "coco.json out.csv"),
    Guard(
        "an output that is the input",
        table("image,labels", repeated("cat", "dog", "cat|dog")),
        "labels.csv labels.csv --overwrite",
    ),
    Guard("an old Excel workbook", workbook, "labels.xls out.csv"),
    Guard("Parquet without names", parquet, "labels.parquet out.csv"),
    Guard("a table without labels", table("image,width,height", repeated("640,480", "800,600"))),
)


def draw(path: Path, seed: str) -> None:
    """Draw a small photo that no other seed gives."""
    rng = random.Random(seed)
    Image.frombytes("RGB", (6, 5), rng.randbytes(90)).resize((48, 40)).save(path)


def check(guard: Guard, polytag: Sequence[str]) -> bool:
    """Run the command of a guard and print what it says. Return whether the input was refused in one line."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for i in range(PHOTOS):
            draw(home / f"{i}.jpg", str(i))
        guard.make(home)
        before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
        command = [*polytag, "convert", *shlex.split(guard.arguments)]
        ran = subprocess.run(command, cwd=home, capture_output=True, text=True)
        unchanged = before == {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    lines = [line for line in ran.stderr.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]
    good = ran.returncode == 2 and len(lines) == 1 and unchanged
    print(f"{guard.title}\n  polytag convert {guard.arguments}\n  {' / '.join(lines) or ran.stdout.strip()}")
    print(
        f"  exit code {ran.returncode}{'' if unchanged else ', files changed'}{'' if good else '  <-- NOT REFUSED'}\n"
    )
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--polytag", default=f"{sys.executable} -m polytag", help="command to run")
    polytag = shlex.split(parser.parse_args().polytag)
    refused = [check(guard, polytag) for guard in GUARDS]
    print(f"{sum(refused)} of {len(refused)} refused")
    sys.exit(0 if all(refused) else 1)


if __name__ == "__main__":
    main()

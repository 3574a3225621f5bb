"""How long the search for copies takes among up to a million photos, and how many planted copies it finds.

    python benchmarks/copies.py DATA FOLDER [--photos 10000 100000] [--copies 2000] [--exact] [--results copies.jsonl]

Needs no JPEGs of its own: each "photo" is the thumbnail of a quadrilateral of a photo of DATA, turned or mirrored, so
that it has the statistics of real photos but shows a picture of its own. The thumbnails are kept in FOLDER. For the
last `--copies` of them, such a picture was changed as in `duplicates.py`: re-encoded, resized, cropped by up to 8% a
side, brightened or mirrored. A pair is right if it joins a copy with its source, or with another photo that was paired
with the source. `--exact` compares all photos with each other, which takes hours for a million.

Seconds are wall and CPU seconds. Memory is the growth of the process's own memory during the search, at its peak.
"""

import argparse
import io
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from duplicates import KINDS, copy_of
from numpy.typing import NDArray
from PIL import Image

import polytag as pt
from polytag.photos.copies import candidates, index
from polytag.photos.copies.duplicates import find_duplicates, groups_of
from polytag.photos.decode import examine
from polytag.photos.measure import RECORD, THUMBNAIL, Measurements

SIDE = 224
"""Size of the pictures that copies are made of, in pixels."""

BLOCK = 5000


@cache
def originals(data: str) -> list[Image.Image]:
    photos = []
    for path in pt.read(data, conflicts="unknown").paths:
        with Image.open(path) as photo:
            photos.append(photo.convert("L"))
    return photos


def picture(data: str, i: int, side: int) -> Image.Image:
    """Draw the picture of photo i: a quadrilateral of a photo of DATA with random corners, turned or mirrored."""
    rng = np.random.default_rng([1, i])
    photos = originals(data)
    photo = photos[rng.integers(len(photos))]
    x, y = rng.uniform(0, 0.4, (2, 4)) * np.array([photo.size]).T
    width, height = photo.size
    corners = (x[0], y[0], x[1], height - y[1], width - x[2], height - y[2], width - x[3], y[3])
    part = photo.transform((side, side), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
    turn = int(rng.integers(8))
    return part.transpose(Image.Transpose(turn - 1)) if turn else part


def thumbnails_of(start: int, data: str, photos: int, copies: int) -> NDArray[np.uint8]:
    """Return the thumbnails of a block of photos, of which the last ``copies`` are copies of the first."""
    drawn = []
    for i in range(start, min(start + BLOCK, photos)):
        source = i - (photos - copies)
        small = (
            picture(data, i, 2 * THUMBNAIL).reduce(2) if source < 0 else changed(picture(data, source, SIDE), source)
        )
        drawn.append(np.asarray(small))
    return np.stack(drawn)


def changed(photo: Image.Image, number: int) -> Image.Image:
    """Return the thumbnail of a copy that was changed and saved as JPEG."""
    copy, quality = copy_of(photo.convert("RGB"), KINDS[number % len(KINDS)], random.Random(number))
    content = io.BytesIO()
    copy.save(content, "JPEG", quality=quality)
    pixels = examine(content.getvalue(), SIDE)[1]
    return Image.fromarray(pixels).convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)


def measurements(data: str, folder: Path, photos: int, copies: int) -> Measurements:
    """Return measurements of drawn photos. All are square, but for cropped copies."""
    file = folder / f"thumbnails-{photos}-{copies}.npy"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = np.lib.format.open_memmap(file.with_suffix(".part"), "w+", np.uint8, (photos, THUMBNAIL, THUMBNAIL))
        starts = range(0, photos, BLOCK)
        with ProcessPoolExecutor() as pool:
            draw = partial(thumbnails_of, data=data, photos=photos, copies=copies)
            for start, block in zip(starts, pool.map(draw, starts), strict=True):
                part[start : start + BLOCK] = block
        part.flush()
        file.with_suffix(".part").rename(file)
    records = np.zeros(photos, RECORD)
    records["width"] = records["height"] = SIDE
    blank = Image.new("RGB", (SIDE, SIDE))
    for number in range(copies):
        size = copy_of(blank, KINDS[number % len(KINDS)], random.Random(number))[0].size
        records["width"][photos - copies + number], records["height"][photos - copies + number] = size
    stored = np.load(file, mmap_mode="r")
    for start in range(0, photos, BLOCK):
        records["thumbnail"][start : start + BLOCK] = stored[start : start + BLOCK]
    return Measurements([str(i) for i in range(photos)], np.ones(photos, bool), {}, records)


class Clock:
    """Wall and CPU seconds of the stages of a search, and how many pairs were compared."""

    def __init__(self) -> None:
        self.stages: dict[str, list[float]] = {}
        self.candidates = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        spent = self.stages.setdefault(name, [0.0, 0.0])
        spent[0] += time.perf_counter() - wall
        spent[1] += time.process_time() - cpu

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with self.stage(name):
                return function(*arguments, **options)

        return call


class Memory:
    """The peak of the process's own memory while the block runs, in bytes more than before. Linux only."""

    def __enter__(self) -> "Memory":
        self.before = self.peak = self._now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        return self.peak - self.before

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("RssAnon:")[1].split()[0])


def search(measured: Measurements, copies: int, exact: bool) -> dict[str, Any]:
    """Search once, and return what was found and what it cost."""
    photos, clock = len(measured.paths), Clock()
    find = candidates.CandidateSearch.pairs

    def pairs(self: Any, mirrored: bool) -> NDArray[Any]:
        found = find(self, mirrored)
        clock.candidates += len(found)
        return found

    most, index.EXACT = index.EXACT, photos if exact else index.EXACT
    construct = candidates.CandidateSearch.__init__
    candidates.CandidateSearch.__init__ = clock.timed("index", construct)  # type: ignore[method-assign]
    candidates.CandidateSearch.pairs = clock.timed("candidates", pairs)  # type: ignore[method-assign]
    try:
        with Memory() as memory, clock.stage("all"):
            found = find_duplicates(measured, np.arange(photos))
    finally:
        index.EXACT = most
        candidates.CandidateSearch.__init__ = construct  # type: ignore[method-assign]
        candidates.CandidateSearch.pairs = find  # type: ignore[method-assign]
    first = photos - copies
    own = groups_of([pair for pair in found if pair.b < first], np.arange(photos))
    touching = [pair for pair in found if pair.b >= first]
    right = [pair for pair in touching if own[pair.a if pair.a < first else pair.a - first] == own[pair.b - first]]
    joined = {(pair.a, pair.b) for pair in found}
    recall = [np.mean([(i, first + i) in joined for i in range(k, copies, len(KINDS))]) for k in range(len(KINDS))]
    return {
        "photos": photos,
        "search": "exact" if exact else "index",
        "seconds": {name: round(wall, 1) for name, (wall, _) in clock.stages.items()},
        "cpu": {name: round(cpu, 1) for name, (_, cpu) in clock.stages.items()},
        "candidates": clock.candidates,
        "pairs": len(found),
        "recall": {
            "all": round(float(np.mean(recall)), 4),
            **dict(zip(KINDS, np.round(recall, 4).tolist(), strict=True)),
        },
        "precision": round(len(right) / max(1, len(touching)), 4),
        "bytes per photo": round(memory.growth / photos),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--copies", type=int, default=2000)
    parser.add_argument("--exact", action="store_true", help="also compare all photos with each other")
    parser.add_argument("--results", type=Path, default=Path("copies.jsonl"))
    arguments = parser.parse_args()
    for photos in arguments.photos:
        measured = measurements(arguments.data, arguments.folder, photos, arguments.copies)
        for exact in (False, True) if arguments.exact else (False,):
            result = search(measured, arguments.copies, exact)
            print(json.dumps(result, indent=2), flush=True)
            with arguments.results.open("a") as file:
                file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()

"""How many planted copies the audit finds, by kind, compared with perceptual hashes on the same photos.

    python benchmarks/duplicates.py DATA [--copies 200] [--seed 0] [--json F] [--sheet F.png]

Copies photos of DATA into a temporary folder in five ways: re-encoded, resized, cropped by up to 8 % a side,
brightened, mirrored. A pair is right if it joins a copy with its source, or with another photo of the same picture.
The search for large collections, which uses an index, is measured on the same photos. Pairs are searched among
DATA's own photos first; --sheet draws them so that you can check them.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

import polytag as pt
from polytag.models.backbones.embed import embeddings_of
from polytag.photos.copies import index
from polytag.photos.copies.duplicates import Pair, find_duplicates, groups_of
from polytag.photos.measure import measure

KINDS = ("re-encoded", "resized", "cropped", "brightened", "mirrored")


def copy_of(photo: Image.Image, kind: str, rng: random.Random) -> tuple[Image.Image, int]:
    """A changed copy, and the JPEG quality for saving it."""
    width, height = photo.size
    if kind == "re-encoded":
        return photo, rng.choice([30, 40, 50, 60])
    if kind == "resized":
        scale = rng.uniform(0.4, 1.6)
        return photo.resize((int(width * scale), int(height * scale))), 95
    if kind == "cropped":
        left, top, right, bottom = (rng.uniform(0, 0.08) for _ in range(4))
        box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
        return photo.crop(tuple(round(side) for side in box)), 95
    if kind == "brightened":
        brighter = ImageEnhance.Brightness(photo).enhance(rng.choice([0.7, 0.8, 1.2, 1.35]))
        return ImageEnhance.Contrast(brighter).enhance(rng.uniform(0.85, 1.15)), 95
    return ImageOps.mirror(photo), 95


def by_hashes(paths: list[str], radius: int) -> set[tuple[int, int]]:
    """Pairs within this distance of 64-bit perceptual hashes (DCT), mirrored hashes included."""
    hashes, mirrored = [], []
    for path in paths:
        with Image.open(path) as photo:
            rgb = photo.convert("RGB")
        hashes.append(imagehash.phash(rgb).hash.ravel())
        mirrored.append(imagehash.phash(ImageOps.mirror(rgb)).hash.ravel())
    plain, other = (np.array(bits).astype(np.int32) for bits in (hashes, mirrored))
    found = set()
    for bits in (plain, other):
        distance = plain.sum(1)[:, None] + bits.sum(1)[None] - 2 * plain @ bits.T
        i, j = np.nonzero(np.triu(distance <= radius, 1))
        found |= set(zip(i.tolist(), j.tolist(), strict=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    originals = [str(path) for path in pt.read(arguments.data, conflicts="unknown").paths]
    rng = random.Random(arguments.seed)
    sources = rng.sample(range(len(originals)), arguments.copies)
    with tempfile.TemporaryDirectory() as folder:
        kinds, copies = [], []
        for number, source in enumerate(sources):
            kind = KINDS[number % len(KINDS)]
            with Image.open(originals[source]) as photo:
                changed, quality = copy_of(photo.convert("RGB"), kind, rng)
            path = os.path.join(folder, f"{number}.jpg")
            changed.save(path, quality=quality)
            kinds.append(kind)
            copies.append(path)
        paths = originals + copies
        n = len(originals)
        contents = np.arange(len(paths))
        measured = measure(paths)
        embeddings = embeddings_of(paths, view="half")
        results: dict[str, tuple[dict[tuple[int, int], str], float]] = {}
        own: list[Pair] = []
        for name, vectors, most in (
            ("polytag, with embeddings", embeddings, index.EXACT),
            ("polytag", None, index.EXACT),
            ("polytag, with an index", None, 0),
        ):
            if name == "polytag, with embeddings" and vectors is None:
                continue
            index.EXACT = most
            start = time.perf_counter()
            pairs = find_duplicates(measured, contents, vectors)
            results[name] = ({(p.a, p.b): p.kind for p in pairs}, time.perf_counter() - start)
            own += [p for p in pairs if p.b < n]
        for radius in (2, 6, 10):
            start = time.perf_counter()
            results[f"pHash, radius {radius}"] = (
                dict.fromkeys(by_hashes(paths, radius), "found"),
                time.perf_counter() - start,
            )
    # Copies among DATA's own photos, as polytag finds them; --sheet lets a person check.
    same = groups_of(own, np.arange(n))
    rows = {}
    picture = np.concatenate([same, same[sources]])
    planted = [(sources[i], n + i) for i in range(len(copies))]
    for name, (found, seconds) in results.items():
        touching = [pair for pair in found if pair[1] >= n]
        right = [pair for pair in touching if picture[pair[0]] == picture[pair[1]]]
        rows[name] = {
            "recall": round(float(np.mean([pair in found for pair in planted])), 4),
            "precision": round(len(right) / max(1, len(touching)), 4),
            "pairs among the originals": sum(pair[1] < n for pair in found),
            "seconds": round(seconds, 1),
        }
        for kind in KINDS:
            pairs_of_kind = [pair for pair, k in zip(planted, kinds, strict=True) if k == kind]
            listed = Counter(found.get(pair, "missed") for pair in pairs_of_kind)
            rows[name][kind] = {"recall": round(1 - listed["missed"] / len(pairs_of_kind), 3), **listed}
    print(json.dumps(rows, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    if arguments.sheet:
        draw(arguments.sheet, originals, sorted({(p.a, p.b) for p in own}))


def draw(path: Path, photos: list[str], pairs: list[tuple[int, int]]) -> None:
    """Draw the pairs found among the originals, four pairs in a row."""
    width, height, columns = 180, 140, 4
    sheet = Image.new("RGB", (columns * (2 * width + 16), -(-len(pairs) // columns) * (height + 20)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, pair in enumerate(pairs):
        x, y = number % columns * (2 * width + 16), number // columns * (height + 20)
        for side, photo in enumerate(pair):
            with Image.open(photos[photo]) as image:
                small = image.convert("RGB")
            small.thumbnail((width, height))
            sheet.paste(small, (x + side * width, y))
        pen.text((x, y + height + 3), " ".join(Path(photos[photo]).name for photo in pair), fill="black")
    sheet.save(path)


if __name__ == "__main__":
    main()

"""A folder of synthetic photos with known numbers of every kind of defect, which an audit must find.

``python tests/planted.py`` prints what was planted and what the audit found.
"""

import csv
import io
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.random import SeedSequence
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from polytag.data.sample.scenes import LABELS, draw_labels, draw_scene

SIDE = 128
CLEAN = 500
"""Scenes without any defect; copies are made of the last of them, and some of the first are labelled oddly."""

Save = Callable[[Image.Image, Path, int], object]
Change = Callable[[Image.Image, int], Image.Image]


@dataclass(frozen=True)
class Planted:
    """The folder, and what was planted there.

    Attributes:
        folder: holds ``labels.csv``, ``split.csv``, ``useless.csv`` and ``images/``.
        photos: issue → names of the photos that have it.
        labels: issue → (label, other label) of ``labels.csv``.
        useless: issue → (label, "") of ``useless.csv``, a table of the same photos: labels of which nothing can
            be learned, which no table can have that is to be split.
        mild: photos that come near a threshold without crossing it.
    """

    folder: Path
    photos: Mapping[str, frozenset[str]]
    labels: Mapping[str, frozenset[tuple[str, str]]]
    useless: Mapping[str, frozenset[tuple[str, str]]]
    mild: frozenset[str]

    @property
    def counts(self) -> dict[str, int]:
        return {issue: len(found) for issue, found in {**self.photos, **self.labels}.items()}


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG of rows that each begin with their filter's byte; Pillow writes neither 16-bit colour nor bombs."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def encoded(scene: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    scene.save(file, form, **options)
    return file.getvalue()


def _truncated(scene: Image.Image, path: Path, i: int) -> None:
    whole = encoded(scene, quality=90)
    path.write_bytes(whole[: len(whole) * (4 + i % 4) // 10])


def _damaged(scene: Image.Image, path: Path, i: int) -> None:
    content = bytearray(encoded(scene, "PNG"))
    middle = len(content) // 2 + i
    content[middle : middle + 200] = bytes(255 - byte for byte in content[middle : middle + 200])
    path.write_bytes(content)


def _too_large(scene: Image.Image, path: Path, i: int) -> None:
    width, height = 10_000 + i, 8_500
    path.write_bytes(png(width, height, 1, 0, bytes(height * (1 + -(-width // 8)))))


def _animated(scene: Image.Image, path: Path, i: int) -> None:
    frames = [ImageOps.mirror(scene), ImageOps.flip(scene)][: 1 + i % 2]
    scene.save(path, save_all=True, append_images=frames, duration=100)


def _deep_colour(scene: Image.Image, path: Path, i: int) -> None:
    pixels = np.asarray(scene).astype(">u2") * 257 + i
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    path.write_bytes(png(scene.width, scene.height, 16, 2, rows))


def _deep_grey(scene: Image.Image, path: Path, i: int) -> None:
    Image.fromarray(np.asarray(scene.convert("L")).astype(np.uint16) * 257).save(path)


def _translucent(scene: Image.Image, path: Path, i: int) -> None:
    scene.putalpha(Image.linear_gradient("L").resize(scene.size).point([128 + v // 2 for v in range(256)]))
    scene.save(path)


def _turned(scene: Image.Image, path: Path, i: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 2 + i % 7
    scene.save(path, exif=exif, quality=90)


def _flat(scene: Image.Image, path: Path, i: int) -> None:
    """One colour with a little noise, from black to white."""
    rng = np.random.default_rng(i)
    colour = rng.integers(0, 256, 3) if i > 1 else np.full(3, 255 * i)
    noisy = colour + rng.normal(0, 1.5, (scene.height, scene.width, 3))
    Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(path, quality=90)


def saved(change: Callable[[Image.Image], Image.Image]) -> Save:
    return lambda scene, path, i: change(scene).save(path, quality=92)


def levels(low: int, high: int) -> Callable[[Image.Image], Image.Image]:
    """All of a scene's contrast, squeezed between two grey levels."""
    table = [round(low + (high - low) * value / 255) for value in range(256)] * 3
    return lambda scene: ImageOps.autocontrast(scene, cutoff=1).point(table)


ALTERED: tuple[tuple[str, int, str, Save, tuple[str, ...]], ...] = (
    ("missing", 5, ".jpg", lambda scene, path, i: None, ("missing",)),
    ("empty", 3, ".jpg", lambda scene, path, i: path.touch(), ("empty",)),
    ("text", 4, ".jpg", lambda scene, path, i: path.write_text(f"page {i} not found"), ("not_an_image",)),
    ("truncated", 7, ".jpg", _truncated, ("truncated",)),
    ("damaged", 6, ".png", _damaged, ("damaged",)),
    ("bomb", 2, ".png", _too_large, ("too_large",)),
    ("ending", 9, ".jpg", lambda scene, path, i: scene.save(path, ("PNG", "WEBP", "BMP")[i % 3]), ("wrong_extension",)),
    # A GIF has a palette.
    ("animated", 8, ".gif", _animated, ("animated", "unusual_mode")),
    ("cmyk", 4, ".jpg", saved(lambda scene: scene.convert("CMYK")), ("unusual_mode",)),
    ("deep", 3, ".png", _deep_colour, ("unusual_mode",)),
    ("deepgrey", 2, ".png", _deep_grey, ("unusual_mode", "grey")),
    ("alpha", 5, ".png", _translucent, ("unusual_mode",)),
    ("palette", 6, ".png", saved(lambda scene: scene.quantize(64)), ("unusual_mode",)),
    ("turned", 7, ".jpg", _turned, ("exif_rotated",)),
    ("tiny", 11, ".jpg", saved(lambda scene: scene.resize((24, 24))), ("tiny",)),
    ("aspect", 10, ".jpg", saved(lambda scene: scene.resize((400, 80))), ("extreme_aspect",)),
    ("blank", 12, ".jpg", _flat, ("blank",)),
    ("dark", 13, ".jpg", saved(levels(0, 76)), ("dark",)),
    ("bright", 14, ".jpg", saved(levels(222, 255)), ("bright",)),
    ("blurry", 15, ".jpg", saved(lambda scene: scene.filter(ImageFilter.GaussianBlur(4))), ("blurry",)),
    ("grey", 16, ".jpg", lambda s, p, i: s.convert("L").convert(("L", "RGB")[i % 2]).save(p), ("grey",)),
)
"""Defects of a photo of its own: name, number, ending, how it is written, and the issues that it has."""

MILD: tuple[tuple[str, Save], ...] = (
    ("dim", saved(lambda scene: ImageEnhance.Brightness(scene).enhance(0.6))),
    ("light", saved(lambda scene: ImageEnhance.Brightness(scene).enhance(1.4))),
    ("soft", saved(lambda scene: scene.filter(ImageFilter.GaussianBlur(0.7)))),
    ("faint", saved(lambda scene: ImageEnhance.Contrast(scene).enhance(0.4))),
    ("pale", saved(lambda scene: ImageEnhance.Color(scene).enhance(0.5))),
    ("small", saved(lambda scene: scene.resize((72, 72)))),
    ("wide", saved(lambda scene: scene.resize((240, 96)))),
    ("coarse", lambda scene, path, i: scene.save(path, quality=25)),
)
"""Changes that come near a threshold and must not be flagged, `MILD_EACH` photos each."""

MILD_EACH = 8


def _reencoded(scene: Image.Image, i: int) -> Image.Image:
    changed = (
        lambda: scene,
        lambda: scene.resize((96, 96)),
        lambda: scene.resize((200, 190)),
        lambda: ImageEnhance.Brightness(scene).enhance(1.3),
    )
    return changed[i % len(changed)]()


def _cropped(scene: Image.Image, i: int) -> Image.Image:
    left, top, right, bottom = np.random.default_rng(i).integers(5, 11, 4)
    return scene.crop((left, top, scene.width - right, scene.height - bottom))


COPIES: tuple[tuple[str, int, Change | None, bool, bool, tuple[str, ...]], ...] = (
    ("copy", 6, None, False, False, ("exact_duplicate",)),
    ("copyconflict", 5, None, True, False, ("exact_duplicate", "conflicting_duplicate")),
    ("copyleak", 3, None, False, True, ("exact_duplicate", "leak")),
    ("near", 21, _reencoded, False, False, ("near_duplicate",)),
    ("nearconflict", 2, _reencoded, True, False, ("near_duplicate", "conflicting_duplicate")),
    ("nearleak", 4, _reencoded, False, True, ("near_duplicate", "leak")),
    ("crop", 17, _cropped, False, False, ("cropped_duplicate",)),
    ("mirror", 19, lambda scene, i: ImageOps.mirror(scene), False, False, ("mirrored_duplicate",)),
)
"""Copies: name, number, what was changed (nothing: the same bytes), whether labels conflict, whether it leaks from
the training part into another, and the issues that it has."""

LISTED = {"listed_twice": 8, "conflicting_rows": 7, "names_against_columns": 9, "no_label": 10, "all_unknown": 4}
"""Defects of a photo's rows: issue and number."""

VARIANTS = {"Boat": "boat", "har monium": "harmonium"}
SIMILAR = {"trucks": "truck", "sitarr": "sitar", "flute": "flutes"}
RENAMED = 22
"""Photos on which a label is written otherwise; from 20 on it is not rare."""
RARE = {"kazoo": 3, "drum": 6, "horn": 12, "bell": 19}
TOGETHER = ("pedal", "saddle")
USELESS = {"never_present": ("ghost", "unicorn"), "always_present": ("photo",)}


def scenes(n: int) -> Iterator[tuple[Image.Image, list[str]]]:
    """Scenes of which no two are alike, each with its labels, one at least; two processes draw them."""
    seeds = [SeedSequence(7, spawn_key=(i,)) for i in range(n + n // 5)]
    drawn = [(draw_labels(seed), seed) for seed in seeds]
    chosen = [(labels, seed) for labels, seed in drawn if labels][:n]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        pictures = pool.map(
            draw_scene, *zip(*[(labels, SIDE, seed) for labels, seed in chosen], strict=True), chunksize=16
        )
        yield from zip(pictures, [list(labels) for labels, _ in chosen], strict=True)


class _Planter:
    def __init__(self, folder: Path):
        self.folder, self.images = folder, folder / "images"
        self.images.mkdir(parents=True)
        self.labels = (*LABELS, *VARIANTS, *SIMILAR, *RARE, *TOGETHER)
        self.rows: list[tuple[str, list[str], dict[str, int]]] = []
        self.parts: dict[str, str] = {}
        self.photos: dict[str, set[str]] = {}
        self.scene = scenes(
            CLEAN + sum(number for _, number, *_ in ALTERED) + MILD_EACH * len(MILD) + sum(LISTED.values())
        )

    def list(self, name: str, labels: list[str], issues: Iterable[str] = (), part: str = "train") -> None:
        """Give a photo a row, which names its labels and has them as 0/1 columns."""
        self.rows.append((name, labels, {label: int(label in labels) for label in self.labels}))
        self.parts[name] = part
        for issue in issues:
            self.photos.setdefault(issue, set()).add(name)

    def write(self) -> None:
        with (self.folder / "labels.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "labels", *self.labels])
            for name, labels, values in self.rows:
                cells = ["?" if values[label] < 0 else values[label] for label in self.labels]
                writer.writerow([name, "|".join(labels), *cells])
        with (self.folder / "split.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("image", "part"), *self.parts.items()])


def other_labels(labels: list[str]) -> list[str]:
    """The first label exchanged for another one."""
    return [next(label for label in LABELS if label not in labels), *labels[1:]]


def plant(folder: Path) -> Planted:
    """Write the folder, the same each time."""
    planter = _Planter(folder)
    clean = []
    for i in range(CLEAN):
        scene, labels = next(planter.scene)
        clean.append((f"scene{i:03}.jpg", labels))
        scene.save(planter.images / clean[-1][0], quality=90)
    n_copies = sum(number for _, number, *_ in COPIES)
    originals = clean[-n_copies:]
    _label_oddly(clean[:-n_copies])
    for i, (name, labels) in enumerate(clean):
        planter.list(
            name, labels, part="train" if i % 4 or i >= CLEAN - n_copies else ("validation", "test")[i % 8 // 4]
        )

    for kind, number, ending, save, issues in ALTERED:
        for i in range(number):
            scene, labels = next(planter.scene)
            save(scene, planter.images / f"{kind}{i:02}{ending}", i)
            planter.list(f"{kind}{i:02}{ending}", labels, issues)
    mild = []
    for kind, save in MILD:
        for i in range(MILD_EACH):
            scene, labels = next(planter.scene)
            mild.append(f"mild-{kind}{i}.jpg")
            save(scene, planter.images / mild[-1], i)
            planter.list(mild[-1], labels)
    sources = iter(originals)
    for kind, number, change, conflicts, leaks, issues in COPIES:
        for i in range(number):
            original, labels = next(sources)
            content = (planter.images / original).read_bytes()
            if change is not None:
                content = encoded(change(Image.open(io.BytesIO(content)), i), quality=75)
            (planter.images / f"{kind}{i:02}.jpg").write_bytes(content)
            part = ("validation", "test")[i % 2] if leaks else "train"
            planter.list(f"{kind}{i:02}.jpg", other_labels(labels) if conflicts else labels, issues, part)
    _list_oddly(planter)
    planter.write()
    _useless(folder / "useless.csv", clean)
    odd: dict[str, Iterable[tuple[str, str]]] = {
        "label_variant": VARIANTS.items(),
        "similar_labels": SIMILAR.items(),
        "rare": [(label, "") for label in RARE],
        "always_together": [TOGETHER[::-1]],
    }
    return Planted(
        folder,
        photos={issue: frozenset(names) for issue, names in planter.photos.items()},
        labels={issue: frozenset(pairs) for issue, pairs in odd.items()},
        useless={issue: frozenset((label, "") for label in names) for issue, names in USELESS.items()},
        mild=frozenset(mild),
    )


def _label_oddly(clean: list[tuple[str, list[str]]]) -> None:
    """Plant the defects of labels among these photos, whose lists of labels are changed."""
    for odd, label in {**VARIANTS, **SIMILAR}.items():
        for labels in [labels for _, labels in clean if label in labels][:RENAMED]:
            labels[labels.index(label)] = odd
    for i, (label, number) in enumerate(RARE.items()):
        for _, labels in clean[10 * i : 10 * i + number]:
            labels.append(label)
    for _, labels in clean[5::12]:
        labels.extend(TOGETHER)


def _list_oddly(planter: _Planter) -> None:
    for issue, number in LISTED.items():
        for i in range(number):
            scene, labels = next(planter.scene)
            name = f"{issue}{i:02}.jpg"
            scene.save(planter.images / name, quality=90)
            planter.list(name, [] if issue in ("no_label", "all_unknown") else labels, [issue])
            _, named, values = planter.rows[-1]
            if issue == "listed_twice":
                planter.rows.append(planter.rows[-1])
            elif issue == "conflicting_rows":
                planter.list(name, other_labels(labels))
            elif issue == "names_against_columns":
                planter.rows[-1] = (name, other_labels(named) if i % 2 else named[1:], values)
            elif issue == "all_unknown":
                values.update(dict.fromkeys(values, -1))


def _useless(path: Path, clean: list[tuple[str, list[str]]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *LABELS, *USELESS["never_present"], *USELESS["always_present"]])
        for name, labels in clean:
            writer.writerow([name, *(int(label in labels) for label in LABELS), 0, 0, 1])


def main() -> None:
    """Print for each kind of finding how many were planted, found, right and false."""
    import tempfile

    from polytag.auditing.audit import audit
    from polytag.auditing.issues import ISSUES
    from polytag.data.reading.read import read
    from polytag.data.splitting.split_file import with_split

    with tempfile.TemporaryDirectory() as folder:
        planted = plant(Path(folder) / "planted")
        data = read(planted.folder, conflicts="unknown")
        found = audit(with_split(data, planted.folder / "split.csv")).findings
        useless = audit(read(planted.folder / "useless.csv")).findings
    there = {**planted.photos, **planted.labels, **planted.useless}
    print(f"{'kind':30} {'planted':>8} {'found':>6} {'right':>6} {'false':>6}")
    for issue, about in ISSUES.items():
        source = useless if issue in planted.useless else found
        rows = source[source["issue"] == issue]
        keys = rows["image"] if about.about == "photo" else zip(rows["label"], rows["other"], strict=True)
        named, right = set(keys), there.get(issue, frozenset())
        if named or right:
            print(f"{about.title:30} {len(right):8} {len(named):6} {len(right & named):6} {len(named - right):6}")


if __name__ == "__main__":
    main()

"""Decode damaged photos of every format, and count the inputs that end in anything but pixels or an `ImageError`.

    python benchmarks/fuzz_images.py [--inputs 20000] [--seed 0] [--json F]

The inputs are small photos of each format, mode and kind of metadata (EXIF, XMP, ICC, frames, transparency), and camera
raw files. Each is damaged in one of five ways: changed bytes, odd numbers, cut off, a part repeated or removed, or
spliced with another file. Every input is decoded at its own size and at 32 pixels, measured, and its kind recognised.
A decoder that crashes the process is reported too: inputs run in child processes, which print where they are.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import time
import traceback
from collections import Counter

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, PngImagePlugin

from polytag.errors import ImageError
from polytag.photos.decode import decode, examine
from polytag.photos.kinds import kind_of_content
from polytag.photos.measure import measurements_of

PORTION = 500
"""Number of inputs per child process."""

ODD_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 70000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def seeds() -> dict[str, bytes]:
    """Return undamaged photos in each format, by name."""
    pillow_heif.register_heif_opener()
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x010F] = 6, 72.0, "maker"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:01 00:00:00"
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF tiff:Orientation='6'/></x:xmpmeta>"
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a text", zip=True)
    frames = [Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)) for _ in range(2)]
    more = {"exif": exif.tobytes(), "icc_profile": profile}

    def saved(image: Image.Image, form: str, **options: object) -> bytes:
        file = io.BytesIO()
        # Saving leaves settings behind in an image, so only copies are saved.
        if "save_all" in options:
            options["append_images"] = [frame.copy() for frame in frames]
        image.copy().save(file, form, **options)
        return file.getvalue()

    return {
        "JPEG": saved(colours, "JPEG", **more, xmp=xmp, dpi=(72, 72)),
        "progressive JPEG": saved(colours, "JPEG", progressive=True, exif=exif.tobytes()),
        "CMYK JPEG": saved(colours.convert("CMYK"), "JPEG"),
        "MPO": saved(colours, "MPO", save_all=True),
        "PNG": saved(colours, "PNG", **more, pnginfo=text, dpi=(72, 72)),
        "palette PNG": saved(colours.convert("P"), "PNG", transparency=3),
        "grey PNG": saved(colours.convert("L"), "PNG", transparency=7),
        "16-bit PNG": saved(Image.fromarray(rng.integers(0, 65536, (24, 40)).astype(np.uint16)), "PNG"),
        "APNG": saved(colours, "PNG", save_all=True),
        "WebP": saved(colours, "WEBP", **more, xmp=xmp),
        "lossless WebP": saved(colours.convert("RGBA"), "WEBP", lossless=True),
        "animated WebP": saved(colours, "WEBP", save_all=True),
        "GIF": saved(colours.convert("P"), "GIF", transparency=3),
        "animated GIF": saved(colours, "GIF", save_all=True, loop=0, comment=b"a comment"),
        "BMP": saved(colours, "BMP"),
        "palette BMP": saved(colours.convert("P"), "BMP"),
        "TIFF": saved(colours, "TIFF", **more, dpi=(72, 72)),
        "LZW TIFF": saved(colours, "TIFF", compression="tiff_lzw", tiffinfo={0x0112: 6}),
        "JPEG TIFF": saved(colours, "TIFF", compression="jpeg"),
        "deflated TIFF": saved(colours.convert("RGBA"), "TIFF", compression="tiff_adobe_deflate"),
        "bilevel TIFF": saved(colours.convert("1"), "TIFF", compression="group4"),
        "float TIFF": saved(Image.fromarray(rng.random((24, 40)).astype(np.float32)), "TIFF"),
        "TIFF of pages": saved(colours, "TIFF", save_all=True),
        "big TIFF": saved(colours, "TIFF", big_tiff=True),
        "DNG": saved(colours, "TIFF", tiffinfo={50706: b"\1\4\0\0"}),
        "HEIC": saved(colours, "HEIF", **more),
        "HEIC with thumbnail": saved(colours.resize((160, 96)), "HEIF", thumbnails=[64], quality=40),
        "HEIC with alpha": saved(colours.convert("RGBA"), "HEIF"),
        "HEIC of frames": saved(colours, "HEIF", save_all=True),
        "AVIF": saved(colours, "AVIF", **more),
        "AVIF with alpha": saved(colours.convert("RGBA"), "AVIF"),
        "AVIF of frames": saved(colours, "AVIF", save_all=True),
    }


def damaged(files: list[bytes], number: int, seed: int) -> bytes:
    """Return the input with this number, a damaged version of one of the files."""
    rng = np.random.default_rng([seed, number])
    data = bytearray(files[number % len(files)])
    for _ in range(int(rng.integers(1, 4))):
        place, way = int(rng.integers(0, max(1, len(data)))), int(rng.integers(0, 6))
        # Headers and metadata are near the start.
        place = place if rng.random() < 0.5 else min(place, int(rng.integers(1, 600)))
        if way == 0:
            for _ in range(int(rng.integers(1, 8))):
                data[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
        elif way in (1, 2):
            value = ODD_NUMBERS[int(rng.integers(0, len(ODD_NUMBERS)))]
            width = (1, 2, 4)[int(rng.integers(0, 3))]
            order = "big" if rng.random() < 0.5 else "little"
            data[place : place + width] = (value & (256**width - 1)).to_bytes(width, order)
        elif way == 3:
            del data[max(1, place) :]
        elif way == 4:
            length = int(rng.integers(1, 200))
            data[place : place + length] = data[place : place + length] * 2 if rng.random() < 0.5 else b""
        else:
            other = files[int(rng.integers(0, len(files)))]
            data[place:] = other[place:]
        data = data or bytearray(b"\0")
    return bytes(data)


def attempt(data: bytes) -> str:
    """Decode one input and return "pixels" or the kind of `ImageError`. Any other exception is raised."""
    kind_of_content(data)
    try:
        header, small = examine(data, 32)
        measurements_of(header, small)
        whole = decode(data)
    except ImageError as error:
        if "\n" in str(error) or not str(error):
            raise AssertionError(f"no line: {error!s}") from error
        return error.problem
    if whole.dtype != np.uint8 or whole.ndim != 3 or not 1 <= header.orientation <= 8:
        raise AssertionError(f"{whole.dtype} {whole.shape} {header}")
    return "pixels"


def run_portion(first: int, last: int, seed: int) -> None:
    """Decode a range of inputs, and print the number and the result of each input on a line."""
    files = list(seeds().values())
    for number in range(first, last):
        print(number, flush=True)
        begun = time.perf_counter()
        try:
            outcome = attempt(damaged(files, number, seed))
        except Exception:
            outcome = "CRASH " + traceback.format_exc().strip().replace("\n", " | ")[-600:]
        print(f"{number} {time.perf_counter() - begun:.3f} {outcome}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json")
    parser.add_argument("--portion", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.portion:
        run_portion(*options.portion, options.seed)
        return
    outcomes: Counter[str] = Counter()
    crashes: list[str] = []
    slowest, names, begun = (0.0, -1), list(seeds()), time.perf_counter()
    first = 0
    while first < options.inputs:
        last = min(options.inputs, first + PORTION)
        command = [sys.executable, os.path.abspath(__file__), "--seed", str(options.seed)]
        done = subprocess.run([*command, "--portion", str(first), str(last)], capture_output=True, text=True)
        started = first
        for line in done.stdout.splitlines():
            number, _, rest = line.partition(" ")
            started = int(number)
            if rest:
                seconds, _, outcome = rest.partition(" ")
                slowest = max(slowest, (float(seconds), started))
                outcomes["crash" if outcome.startswith("CRASH") else outcome] += 1
                if outcome.startswith("CRASH"):
                    crashes.append(f"{names[started % len(names)]}, input {started}: {outcome[6:]}")
        if done.returncode:
            outcomes["crash"] += 1
            crashes.append(f"{names[started % len(names)]}, input {started}: exit status {done.returncode}")
        first = started + 1 if done.returncode else last
    result = {
        "inputs": options.inputs,
        "formats": len(names),
        "outcomes": dict(outcomes.most_common()),
        "crashes": crashes,
        "slowest": {"seconds": slowest[0], "input": slowest[1], "format": names[slowest[1] % len(names)]},
        "minutes": round((time.perf_counter() - begun) / 60, 1),
    }
    print(json.dumps(result, indent=2))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
    sys.exit(bool(crashes))


if __name__ == "__main__":
    main()

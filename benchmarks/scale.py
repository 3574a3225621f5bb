"""How time, memory and disk grow with the number of photos, for each command.

    python benchmarks/scale.py FOLDER [--photos 10000 100000] [--commands read again split audit explore tag]
                               [--bundle BUNDLE] [--results scale.jsonl]

Draws small JPEGs (96 × 96 pixels, 20 labels, one photo in a hundred is a copy of another) in FOLDER/N, unless they are
there. Each command runs in a process of its own and in the given order, with a cache of its own for each N, so that
later commands find what earlier ones stored. "again" is a second read. `--bundle` is needed for "tag".

Each result is appended to `--results` at once. The table at the end is made from this file, so commands can be measured
one by one. Seconds are CPU seconds (user and system), which other work on the machine hardly changes, and wall seconds.
Memory is the peak of the process; the growth per photo is the slope between the two largest N.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

COMMANDS = ("read", "again", "split", "audit", "explore", "tag")
SIDE, LABELS, COPIES = 96, 20, 100


def draw(folder: Path, photos: int) -> None:
    """Write `photos` JPEGs and their table: smooth random patches, which resemble no other photo."""
    if (folder / "labels.csv").exists():
        return
    rng = np.random.default_rng(0)
    rows = ["image,labels"]
    for i in range(photos):
        if i % 1000 == 0:
            (folder / "images" / f"{i // 1000:04}").mkdir(parents=True, exist_ok=True)
        name = f"{i // 1000:04}/{i:07}.jpg"
        if i % COPIES or not i:
            patches = rng.integers(0, 256, (12, 12, 3), np.uint8)
        small = Image.fromarray(patches).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        small.save(folder / "images" / name, quality=85 if i % COPIES else 60)
        labels = np.flatnonzero(rng.random(LABELS) < 0.5 / np.arange(1, LABELS + 1))
        rows.append(f"{name}," + "|".join(f"label{j}" for j in labels))
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def words(command: str, folder: Path, bundle: str) -> list[str]:
    """Return the arguments of Python for a command."""
    table, out = str(folder / "labels.csv"), folder / f"out-{command}"
    if command in ("read", "again"):
        return ["-c", "import polytag, sys; polytag.read(sys.argv[1])", table]
    chosen = {
        "split": ["split", table, "--out", f"{out}.csv"],
        "audit": ["audit", table, "--json", f"{out}.json"],
        "explore": ["explore", table, "--out", str(out)],
        "tag": ["tag", bundle, str(folder / "images"), "--out", f"{out}.jsonl"],
    }[command]
    return ["-m", "polytag", *chosen, "--overwrite", "--quiet"]


def measured(arguments: list[str], cache: Path) -> dict[str, float]:
    """Run Python with these arguments and return seconds, CPU seconds, peak memory in MB and the cache's size in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], env={**os.environ, "POLYTAG_CACHE": str(cache)}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{arguments} failed")
    disk = sum(file.stat().st_blocks * 512 for file in cache.rglob("*") if file.is_file())
    return {
        "seconds": round(seconds, 2),
        "cpu": round(usage.ru_utime + usage.ru_stime, 2),
        "memory": round(usage.ru_maxrss / 1024),
        "disk": round(disk / 2**20, 1),
    }


def table(results: list[dict]) -> str:
    """Return a Markdown table of the latest result of each command and number of photos, with fitted exponents."""
    latest = {(one["command"], one["photos"]): one for one in results}
    by_command = defaultdict(list)
    for (command, _), one in sorted(latest.items(), key=lambda item: item[0][1]):
        by_command[command].append(one)
    lines = [
        "| Command | Photos | Seconds | CPU seconds | Photos/h | Memory, MB | Cache, MB | Exponent | KB/photo |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for command in COMMANDS:
        before = None
        for one in by_command.get(command, []):
            exponent = growth = ""
            if before:
                ratio = one["photos"] / before["photos"]
                exponent = f"{np.log(one['cpu'] / before['cpu']) / np.log(ratio):.2f}"
                growth = f"{1024 * (one['memory'] - before['memory']) / (one['photos'] - before['photos']):.1f}"
            rate = f"{one['photos'] / one['seconds'] * 3600:,.0f}"
            lines.append(
                f"| {command} | {one['photos']:,} | {one['seconds']} | {one['cpu']} | {rate} | {one['memory']:,} | "
                f"{one['disk']:,} | {exponent} | {growth} |"
            )
            before = one
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--commands", nargs="*", choices=COMMANDS, default=COMMANDS)
    parser.add_argument("--bundle", default="")
    parser.add_argument("--results", type=Path, default=Path("scale.jsonl"))
    arguments = parser.parse_args()
    for photos in arguments.photos:
        folder = arguments.folder / str(photos)
        draw(folder, photos)
        for command in arguments.commands:
            found = measured(words(command, folder, arguments.bundle), arguments.folder / f"cache-{photos}")
            with arguments.results.open("a") as file:
                file.write(json.dumps({"command": command, "photos": photos, **found}) + "\n")
    if arguments.results.exists():
        print(table([json.loads(line) for line in arguments.results.read_text().splitlines()]))


if __name__ == "__main__":
    main()

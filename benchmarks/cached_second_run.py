"""How much a second comparison of the same photos repeats: decoding, embedding, minutes.

    python benchmarks/cached_second_run.py DATA [--image-size 224] [--json F]

Runs ``polytag compare`` twice: transfer on a frozen backbone, for 5 and then for 10 epochs, each in its own process,
sharing one cache that starts empty. Counts the rows that each run adds to the cache (photos decoded and embedded) and
the image files that it opens for any reason. Validation and test photos are always tagged from their files, as the
finished model will be used, and the report shows some photos.
"""

import argparse
import io
import json
import sqlite3
import sys
import tempfile
import time
from contextlib import closing, redirect_stdout
from itertools import count
from pathlib import Path

from processes import in_fresh_process

KINDS = {"decoded": "pixels-*", "embedded": "features-*"}
"""What is counted, and in which folders of the cache."""


def compare(data: str, out: str, epochs: int, image_size: int) -> int:
    """Run the command in a new process and return how many photos were opened."""
    from PIL import Image

    from polytag.cli import main as command

    opened = count()
    plain_open = Image.open

    def counted_open(*arguments, **settings):
        next(opened)
        return plain_open(*arguments, **settings)

    Image.open = counted_open
    options = {"--out": out, "--models": "transfer", "--fine-tune": 0, "--epochs": epochs, "--image-size": image_size}
    sys.argv = [
        "polytag",
        "compare",
        data,
        "--conflicts",
        "unknown",
        *(str(word) for o in options.items() for word in o),
    ]
    try:
        # Only this benchmark's tables belong on stdout; errors and progress go to stderr.
        with redirect_stdout(io.StringIO()):
            command()
    except SystemExit as end:
        if end.code:
            raise RuntimeError("polytag compare failed") from None
    return next(opened)


def rows(cache: Path, folders: str) -> int:
    """Number of arrays in these folders of a cache."""
    total = 0
    for index in cache.glob(f"{folders}/index.sqlite"):
        with closing(sqlite3.connect(index)) as connection:
            total += connection.execute("SELECT COUNT(*) FROM rows").fetchone()[0]
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        for run, epochs in (("first run", 5), ("second run", 10)):
            before = {kind: rows(cache, folders) for kind, folders in KINDS.items()}
            start = time.time()
            out = str(Path(folder) / run)
            opened = in_fresh_process(compare, arguments.data, out, epochs, arguments.image_size, cache=str(cache))
            results[run] = {
                "seconds": round(time.time() - start, 1),
                **{kind: rows(cache, folders) - before[kind] for kind, folders in KINDS.items()},
                "opened": opened,
            }
    first, second = results.values()
    results["first / second"] = {"seconds": round(first["seconds"] / second["seconds"], 2)}
    print(json.dumps(results, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

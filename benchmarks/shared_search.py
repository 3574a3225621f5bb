"""Several processes share one search through a database, and one of them is killed.

    python benchmarks/shared_search.py URL [--processes 4] [--trials 16] [--photos 300] [--json F]

URL is that of an empty PostgreSQL database, such as postgresql://me@localhost/searches. One is started by
`python tests/postgres.py`. Each process searches the tuned CNN's hyperparameters on the same synthetic scenes. After a
few trials, one process is killed in the middle of a trial. Prints JSON: the trials that count, whether any was lost or
counted twice, whether all remaining processes found the same best trial, and how many trials the dead process had
finished.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import polytag as pt


def worker(folder: Path, name: str, url: str, trials: int, photos: int) -> None:
    """Take part in the search, and write what was started, finished and found."""
    from polytag.models.recipe import Recipe
    from polytag.models.search.search import search
    from polytag.models.search.spaces import SPACES, cnn_score

    train, validation, _ = pt.split(pt.read(folder / "scenes" / "labels.csv"))
    recipe = Recipe.of("tuned", image_size=64)
    space, first = SPACES["tuned"]
    log = (folder / f"{name}.log").open("a", buffering=1)

    def score(*arguments: Any) -> float:
        log.write("started\n")
        try:
            return partial(cnn_score, photos=photos, epochs=3)(*arguments)
        finally:
            log.write("finished\n")

    found = search(train, validation, recipe, space, score, first=first, trials=trials, storage=url)
    (folder / f"{name}.json").write_text(json.dumps({"recipe": found.recipe.to_json(), "trials": found.trials}))


def lines(folder: Path, name: str) -> list[str]:
    log = folder / f"{name}.log"
    return log.read_text().splitlines() if log.exists() else []


def kill_one(folder: Path, names: list[str], processes: list[subprocess.Popen]) -> int:
    """Kill the first process that is in the middle of its second or later trial. Return its index."""
    while True:
        for index, name in enumerate(names):
            written = lines(folder, name)
            if len(written) >= 3 and written[-1] == "started":
                time.sleep(random.uniform(0, 0.5))
                processes[index].send_signal(signal.SIGKILL)
                processes[index].wait()
                if lines(folder, name)[-1] == "started":
                    return index
                raise SystemExit("the process finished its trial before it was killed; run again")
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        folder, name = arguments.worker
        worker(Path(folder), name, arguments.url, arguments.trials, arguments.photos)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # A seed of its own gives each run of this program a search of its own.
        pt.write_sample(folder / "scenes", arguments.photos, 64, seed=os.getpid())
        names = [f"process {number}" for number in range(1, arguments.processes + 1)]
        start = time.perf_counter()
        processes = [
            subprocess.Popen(
                [sys.executable, *sys.argv, "--worker", str(folder), name], stderr=(folder / f"{name}.err").open("w")
            )
            for name in names
        ]
        dead = kill_one(folder, names, processes)
        for index, process in enumerate(processes):
            if index != dead and process.wait():
                raise SystemExit(f"{names[index]} failed:\n{(folder / f'{names[index]}.err').read_text()}")
        seconds = time.perf_counter() - start
        found = [json.loads((folder / f"{name}.json").read_text()) for i, name in enumerate(names) if i != dead]
        finished = sum(line == "finished" for name in names for line in lines(folder, name))
        results = {
            "processes": arguments.processes,
            "killed in a trial": 1,
            "trials asked for": arguments.trials,
            "trials counted, on each surviving process": [len(one["trials"]) for one in found],
            "trainings that finished, on all processes": finished,
            "finished by the killed process": lines(folder, names[dead]).count("finished"),
            "same trials on all": all(one["trials"] == found[0]["trials"] for one in found),
            "same best on all": all(one["recipe"] == found[0]["recipe"] for one in found),
            "seconds": round(seconds),
        }
    print(json.dumps(results, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

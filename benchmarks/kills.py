"""Kill commands at random moments, continue them, and compare the results with those of unbroken runs.

    python benchmarks/kills.py [--commands compare,train,audit] [--kills 10] [--photos 400] [--size 96] [--interval 10]
                               [--seed 0] [--json F]

Each command first runs unbroken, with an empty cache. Then it runs again with an empty cache, and SIGKILL ends it at a
random moment, drawn from the shortest duration of an unbroken run. It is continued (compare and train with --resume,
audit with the same command) and killed again, until it finishes. This is repeated until there were enough kills.
`compare` trains the baseline and transfer with fine-tuning in two averaged runs, `train` searches and trains the
tuned CNN. The data are synthetic scenes.

With --interval, trainings write a checkpoint at this interval in seconds instead of every minute, because small
trainings are over before the first minute ends.

Prints JSON for each command: kills, finished runs, how many of them had results that differ from the unbroken run, the
seconds between the last saved work and the kill (mean, worst), and the seconds that each kill cost in total, starting
Python and Keras again included.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import polytag as pt

PROGRAM = """
import sys
if {interval} and sys.argv[1] in ("compare", "train"):
    from polytag.models.training import checkpoint
    checkpoint.SECONDS = {interval}
from polytag.cli import main
main()
"""

TIMES = ("fit_seconds", "tag_images_per_second", "files", "polytag")
"""Entries of results that time or the machine decides."""


def commands(data: Path, size: int) -> dict[str, list[str]]:
    shared = [str(data), "--image-size", str(size), "--quiet"]
    return {
        "compare": ["compare", *shared, "--models", "baseline,transfer", "--epochs", "6", "--fine-tune", "12"],
        "train": ["train", *shared, "--model", "tuned", "--trials", "6", "--epochs", "12"],
        "audit": ["audit", str(data), "--quiet"],
    }


class Trial:
    """A command, run in a folder of its own with a cache of its own."""

    def __init__(self, words: list[str], folder: Path, interval: float):
        self.words, self.folder, self.interval = words, folder, interval
        self.out = folder / "out"
        self.attempts = 0
        folder.mkdir()

    def start(self) -> subprocess.Popen:
        words = [*self.words, "--json" if self.words[0] == "audit" else "--out", str(self.out)]
        if self.attempts:
            # A kill may come after the findings have been written.
            words.append("--overwrite" if self.words[0] == "audit" else "--resume")
        self.attempts += 1
        environment = os.environ | {"POLYTAG_CACHE": str(self.folder / "cache")}
        program = PROGRAM.format(interval=self.interval)
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen([sys.executable, "-c", program, *words], env=environment, stdout=log, stderr=log)

    def is_finished(self) -> bool:
        """Whether a killed training had saved its bundle already and was about to end."""
        return self.words[0] == "train" and self.out.exists() and not self.out.with_name("out.part").exists()

    def last_saved(self) -> float:
        """When something was last written that the next attempt continues from."""
        times = [path.stat().st_mtime for path in existing(self.folder) if path.name != "log"]
        return max(times, default=0.0)

    def results(self, data: Path) -> Any:
        if self.words[0] == "audit":
            return json.loads(self.out.read_text())
        bundles = [self.out / model for model in ("baseline", "transfer")] if self.words[0] == "compare" else [self.out]
        paths = pt.read(data).paths
        probabilities = [np.asarray(pt.Bundle(bundle).predict(paths)[0]).tobytes().hex() for bundle in bundles]
        manifests = [json.loads((bundle / "bundle.json").read_text()) for bundle in bundles]
        report = json.loads((self.out / "results.json").read_text()) if self.words[0] == "compare" else None
        return [probabilities, without_times([manifests, report])]


def existing(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(root, name)).exists())


def without_times(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: without_times(value) for name, value in content.items() if name not in TIMES}
    return [without_times(one) for one in content] if isinstance(content, list) else content


def finish(process: subprocess.Popen, trial: Trial) -> None:
    if process.wait():
        raise SystemExit(f"{trial.words[0]} failed:\n{(trial.folder / 'log').read_text()[-2000:]}")


def measure(name: str, words: list[str], data: Path, folder: Path, kills: int, interval: float) -> dict[str, Any]:
    whole = Trial(words, folder / f"{name}-whole", interval)
    start = time.time()
    finish(whole.start(), whole)
    seconds, expected = time.time() - start, whole.results(data)
    lost: list[float] = []
    runs = different = 0
    spent = 0.0
    while len(lost) < kills:
        trial = Trial(words, folder / f"{name}-{runs}", interval)
        finished = False
        while not finished:
            begun, process = time.time(), trial.start()
            moment = random.uniform(0, seconds) if len(lost) < kills else float("inf")
            while process.poll() is None and time.time() - begun < moment:
                time.sleep(0.01)
            finished = process.poll() is not None
            if finished:
                finish(process, trial)
            else:
                saved = max(begun, trial.last_saved())
                process.send_signal(signal.SIGKILL)
                process.wait()
                lost.append(time.time() - saved)
                finished = trial.is_finished()
            spent += time.time() - begun
        if trial.attempts == 1:  # It was not killed, and the machine is less busy than before.
            seconds = min(seconds, time.time() - begun)
        runs += 1
        different += trial.results(data) != expected
        shutil.rmtree(trial.folder)
        print(f"{name}: {len(lost)} kills, {runs} runs, {different} with different results", file=sys.stderr)
    return {
        "seconds of an unbroken run": round(seconds),
        "kills": len(lost),
        "finished runs": runs,
        "runs with different results": different,
        "seconds since the last saved work": {"mean": round(np.mean(lost), 1), "worst": round(max(lost), 1)},
        "seconds lost per kill, with starting again": round((spent - runs * seconds) / len(lost), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", default="compare,train,audit")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--interval", type=float, default=0, help="seconds between checkpoints; 0: as usual")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pt.write_sample(folder / "scenes", arguments.photos, 96, seed=1)
        data = folder / "scenes" / "labels.csv"
        for name in arguments.commands.split(","):
            words = commands(data, arguments.size)[name]
            results[name] = measure(name, words, data, folder, arguments.kills, arguments.interval)
            print(json.dumps({name: results[name]}, indent=2), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

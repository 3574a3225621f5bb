"""Kill commands at random moments, continue them, and compare the results with those of unbroken runs.

    python benchmarks/kills.py [--commands compare,train,audit,explore,export,embed,tag] [--kills 10] [--photos 400]
                               [--size 96] [--interval 10] [--seed 0] [--json F]

Each command first runs unbroken, with an empty cache. Then it runs again with an empty cache, and SIGKILL ends it at a
random moment, drawn from the shortest duration of an unbroken run. It is continued (compare, train, embed and tag with
--resume, the others with the same command) and killed again, until it finishes. This is repeated until there were
enough kills. `compare` trains the baseline and transfer with fine-tuning in two averaged runs, `train` searches and
trains the tuned CNN. `embed` and `tag` go through the photos many times, and write Parquet and CSV. The data are
synthetic scenes.

With --interval, trainings write a checkpoint at this interval in seconds instead of every minute, because small
trainings are over before the first minute ends.

Prints JSON for each command: kills, finished runs, how many of them had results that differ from the unbroken run, how
many left hidden temporary files, the seconds between the last saved work and the kill (mean, worst), and the seconds
that each kill cost in total, starting Python and Keras again included.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import polytag as pt
from polytag.files import sha256_of

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


ROWS = 4000
"""Number of rows that `embed` and `tag` write."""


@dataclass(frozen=True)
class Command:
    """A command line, less the output.

    Attributes:
        words: the words before the output.
        out: name of the output.
        option: option that names the output; "" if it is an argument.
        again: option of all attempts but the first.
        is_whole: whether the output appears only when it is complete, so that a command that is killed later has
            nothing to continue.
    """

    words: list[str]
    out: str = "out"
    option: str = "--out"
    again: str = "--resume"
    is_whole: bool = True


def commands(folder: Path, size: int) -> dict[str, Command]:
    data, bundle, photos = (str(folder / name) for name in ("scenes/labels.csv", "bundle", "photos.txt"))
    shared = [data, "--image-size", str(size), "--quiet"]
    comparison = ["--models", "baseline,transfer", "--epochs", "6", "--fine-tune", "12"]
    # A kill may come after the output of audit and explore has been written.
    return {
        "compare": Command(["compare", *shared, *comparison], is_whole=False),
        "train": Command(["train", *shared, "--model", "tuned", "--trials", "6", "--epochs", "12"]),
        "audit": Command(["audit", data, "--quiet"], option="--json", again="--overwrite", is_whole=False),
        "explore": Command(["explore", data, "--quiet"], again="--overwrite", is_whole=False),
        "export": Command(["export", bundle, "--format", "litert", "--quiet"], option="", again=""),
        "embed": Command(["embed", bundle, photos, "--quiet"], "out.parquet"),
        "tag": Command(["tag", bundle, photos, "--quiet"], "out.csv"),
    }


def prepare(folder: Path, photos: int, size: int) -> None:
    """Draw the photos, train the bundle, and list the photos that `embed` and `tag` go through."""
    data = pt.write_sample(folder / "scenes", photos, 96, seed=1) / "labels.csv"
    paths = pt.read(data).paths
    (folder / "photos.txt").write_text("".join(f"{paths[i % len(paths)]}\n" for i in range(ROWS)))
    words = ["train", str(data), "--model", "transfer", "--fine-tune", "0", "--epochs", "2", "--image-size", str(size)]
    program = [sys.executable, "-m", "polytag", *words, "--out", str(folder / "bundle"), "--quiet"]
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)


class Trial:
    """A command, run in a folder of its own with a cache of its own."""

    def __init__(self, command: Command, folder: Path, interval: float):
        self.command, self.folder, self.interval = command, folder, interval
        self.out = folder / command.out
        self.attempts = 0
        folder.mkdir()

    def start(self) -> subprocess.Popen:
        words = [*self.command.words, self.command.option, str(self.out), self.command.again if self.attempts else ""]
        self.attempts += 1
        environment = os.environ | {"POLYTAG_CACHE": str(self.folder / "cache")}
        arguments = [sys.executable, "-c", PROGRAM.format(interval=self.interval), *filter(None, words)]
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)

    def is_finished(self) -> bool:
        """Whether a killed command had written its output already and was about to end."""
        part = self.out.with_name(f"{self.out.name}.part")
        return self.command.is_whole and self.out.exists() and not part.exists()

    def last_saved(self) -> float:
        """When something was last written that the next attempt continues from."""
        times = [path.stat().st_mtime for path in existing(self.folder) if path.name != "log"]
        return max(times, default=0.0)

    def left(self) -> bool:
        """Whether kills left temporary files beside the output."""
        return any(path.name.startswith(".") for path in self.folder.iterdir())

    def results(self, data: Path) -> Any:
        name = self.command.words[0]
        if name == "audit":
            return json.loads(self.out.read_text())
        if name not in ("compare", "train"):
            files = [self.out] if self.out.is_file() else sorted(path for path in existing(self.out))
            return {str(path.relative_to(self.folder)): sha256_of(path) for path in files}
        bundles = [self.out / model for model in ("baseline", "transfer")] if name == "compare" else [self.out]
        paths = pt.read(data).paths
        probabilities = [np.asarray(pt.Bundle(bundle).predict(paths)[0]).tobytes().hex() for bundle in bundles]
        manifests = [json.loads((bundle / "bundle.json").read_text()) for bundle in bundles]
        report = json.loads((self.out / "results.json").read_text()) if name == "compare" else None
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
        raise SystemExit(f"{trial.command.words[0]} failed:\n{(trial.folder / 'log').read_text()[-2000:]}")


def measure(name: str, command: Command, data: Path, folder: Path, kills: int, interval: float) -> dict[str, Any]:
    whole = Trial(command, folder / f"{name}-whole", interval)
    start = time.time()
    finish(whole.start(), whole)
    seconds, expected = time.time() - start, whole.results(data)
    lost: list[float] = []
    runs = different = left = 0
    spent = 0.0
    while len(lost) < kills:
        trial = Trial(command, folder / f"{name}-{runs}", interval)
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
        left += trial.left()
        shutil.rmtree(trial.folder)
        print(f"{name}: {len(lost)} kills, {runs} runs, {different} with different results", file=sys.stderr)
    return {
        "seconds of an unbroken run": round(seconds),
        "kills": len(lost),
        "finished runs": runs,
        "runs with different results": different,
        "runs that left temporary files": left,
        "seconds since the last saved work": {"mean": round(np.mean(lost), 1), "worst": round(max(lost), 1)},
        "seconds lost per kill, with starting again": round((spent - runs * seconds) / len(lost), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", default="compare,train,audit,explore,export,embed,tag")
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
        prepare(folder, arguments.photos, arguments.size)
        data = folder / "scenes" / "labels.csv"
        for name in arguments.commands.split(","):
            command = commands(folder, arguments.size)[name]
            results[name] = measure(name, command, data, folder, arguments.kills, arguments.interval)
            print(json.dumps({name: results[name]}, indent=2), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Tag photos on Ray: speed against a single process, memory, killed workers, runs and machines, and an object store.

    python benchmarks/ray_tagging.py BUNDLE [--photos 2000] [--many 10000] [--only CHECK ...] [--folder F] [--json F]

Needs `pip install 'polytag[scale]' 'moto[server]' psutil`, and Linux. Photos are synthetic JPEGs of 640×480. Checks:

- speed: photos per second of `polytag tag` with and without Ray. Both commands run twice, in turns. The speed excludes
  the start of Ray, but not of its workers; the seconds and CPU seconds are those of the whole command.
- memory: peak of the driver and of the largest worker for ``--photos`` and for ``--many`` photos (the same files,
  listed repeatedly).
- worker: one worker is killed (SIGKILL) after a quarter of the output.
- run: the command is killed after a third of the output and continued with --resume.
- nodes: a cluster of two nodes with one core each, of which both must work.
- lost: the same cluster, of which one node is removed after a quarter of the output.
- s3: the same photos in an S3 server that the benchmark starts.

Except for speed and memory, each check compares all rows with those of a single process. Prints JSON.
"""

import argparse
import contextlib
import json
import logging
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from PIL import Image

from polytag.files import write_json

WORKER = "ray::MapWorker"
"""Beginning of the process title of Ray Data's actors."""

Result = dict[str, Any]


def draw(folder: Path, n: int) -> None:
    """Write synthetic JPEGs, 1,000 to a folder."""
    rng = np.random.default_rng(0)
    for i in range(n):
        path = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        patches = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        patches.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=85)


def start(bundle: Path, source: object, out: Path, *options: object, **environment: str) -> subprocess.Popen[str]:
    """Start ``polytag tag``."""
    command = [sys.executable, "-m", "polytag", "tag", bundle, source, "--out", out, *options]
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a command to succeed, and return its output."""
    output, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"polytag tag failed: {errors[-2000:]}")
    return output


def photos_per_second(output: str) -> float:
    """Return the speed in the summary of ``polytag tag``, which excludes the start of Python and Ray."""
    return float(output.rsplit(" photos/s", 1)[0].split()[-1].replace(",", ""))


def descendants(process: subprocess.Popen[str]) -> Iterator[psutil.Process]:
    """Yield a command and its processes."""
    with contextlib.suppress(psutil.NoSuchProcess):
        command = psutil.Process(process.pid)
        yield command
        yield from command.children(recursive=True)


def is_worker(process: psutil.Process) -> bool:
    """Return whether a process is an actor that tags."""
    with contextlib.suppress(psutil.Error):
        return any(WORKER in word for word in process.cmdline()[:1])
    return False


class Watch:
    """Sample the private memory and the CPU time of a command and its workers twice a second, until it ends."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.peaks: dict[str, float] = defaultdict(float)
        self._cpu: dict[int, float] = {}
        self._process = process
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while self._process.poll() is None:
            for one in descendants(self._process):
                kind = "driver" if one.pid == self._process.pid else "worker" if is_worker(one) else "ray"
                with contextlib.suppress(psutil.Error):
                    self._cpu[one.pid] = sum(one.cpu_times()[:2])
                    self.peaks[kind] = max(self.peaks[kind], one.memory_full_info().uss / 1e6)
            time.sleep(0.5)

    def cpu_seconds(self) -> float:
        """Return the CPU time of all processes."""
        self._thread.join()
        return round(sum(self._cpu.values()), 1)

    def megabytes(self) -> dict[str, int]:
        """Return the peaks: driver, largest worker, and largest of Ray's own processes."""
        self._thread.join()
        return {kind: round(peak) for kind, peak in sorted(self.peaks.items())}


def parts(out: Path) -> list[Path]:
    """Return the finished files of a run."""
    return sorted(out.glob("part-*.parquet"))


def wait_for(number: int, out: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a run has written some files."""
    while len(parts(out)) < number:
        if process.poll() is not None:
            raise SystemExit(f"polytag tag ended early: {process.communicate()[1][-2000:]}")
        time.sleep(0.05)


def compared(out: Path, expected: pd.DataFrame, rename: Callable[[str], str] = str) -> Result:
    """Compare the rows of a run with those of a single process."""
    found = pd.read_parquet(out)
    found["image"] = found["image"].map(rename)
    both = [table.sort_values("image", ignore_index=True) for table in (found, expected)]
    probabilities = [np.array([list(row.values()) for row in table["probabilities"]]) for table in both]
    same = len(found) == len(expected) and bool((both[0]["image"] == both[1]["image"]).all())
    difference = float(np.abs(probabilities[0] - probabilities[1]).max()) if same else None
    return {
        "rows": len(found),
        "expected": len(expected),
        "duplicates": int(found["image"].duplicated().sum()),
        "same_names": same,
        "largest_difference": difference,
    }


class Checks:
    """The checks, which share the photos and the rows of a single process.

    Args:
        bundle: folder of the bundle.
        folder: folder for photos and output.
        n: number of photos.
        many: number of photos for the check of memory.
    """

    def __init__(self, bundle: Path, folder: Path, n: int, many: int) -> None:
        self.bundle, self.folder, self.n, self.many = bundle, folder, n, many
        self.photos, self.out = folder / "photos", folder / "out"
        if not self.photos.exists():
            draw(self.photos, n)
        self.single = folder / "single.parquet"
        finish(start(bundle, self.photos, self.single, "--overwrite"))
        self.expected = pd.read_parquet(self.single)

    def ray(self, source: object, *options: object, **environment: str) -> subprocess.Popen[str]:
        """Start the command on Ray with an empty output folder."""
        shutil.rmtree(self.out, ignore_errors=True)
        return start(self.bundle, source, self.out, "--engine", "ray", *options, **environment)

    def speed(self) -> Result:
        speeds: dict[str, list[float]] = {"single": [], "ray": []}
        seconds: dict[str, list[float]] = {"single": [], "ray": []}
        cpu: dict[str, list[float]] = {"single": [], "ray": []}
        for _ in range(2):
            for name in speeds:
                began = time.perf_counter()
                alone = name == "single"
                process = (
                    start(self.bundle, self.photos, self.single, "--overwrite") if alone else self.ray(self.photos)
                )
                watch = Watch(process)
                speeds[name].append(photos_per_second(finish(process)))
                cpu[name].append(watch.cpu_seconds())
                seconds[name].append(round(time.perf_counter() - began, 1))
        ratio = statistics.mean(speeds["ray"]) / statistics.mean(speeds["single"])
        return {
            "photos_per_second": speeds,
            "ratio": round(ratio, 3),
            "command_seconds": seconds,
            "command_cpu_seconds": cpu,
        }

    def memory(self) -> Result:
        names = [str(path) for path in sorted(self.photos.rglob("*.jpg"))]
        results: dict[int, dict[str, int]] = {}
        for n in (self.n, self.many):
            listed = self.folder / "list.txt"
            listed.write_text("".join(f"{names[i % len(names)]}\n" for i in range(n)))
            process = self.ray(listed)
            watch = Watch(process)
            finish(process)
            results[n] = watch.megabytes()
        few, many = results[self.n], results[self.many]
        growth = {kind: round(many[kind] / few[kind] - 1, 3) for kind in ("driver", "worker")}
        return {"peak_megabytes": results, "growth": growth}

    def worker(self) -> Result:
        process = self.ray(self.photos)
        wait_for(max(1, self.n // 2000), self.out, process)
        victim = next(one for one in descendants(process) if is_worker(one))
        victim.kill()
        finish(process)
        return {"killed": victim.pid, **compared(self.out, self.expected)}

    def run(self) -> Result:
        process = self.ray(self.photos)
        wait_for(max(1, self.n // 1500), self.out, process)
        processes = list(descendants(process))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        _, left = psutil.wait_procs(processes, timeout=60)  # Ray notices the death
        kept = {path.name: path.stat().st_mtime_ns for path in parts(self.out)}
        finish(start(self.bundle, self.photos, self.out, "--engine", "ray", "--resume"))
        untouched = all((self.out / name).stat().st_mtime_ns == changed for name, changed in kept.items())
        return {
            "files_before": len(kept),
            "files": len(parts(self.out)),
            "kept": untouched,
            "processes_left": len(left),
            **compared(self.out, self.expected),
        }

    def nodes(self) -> Result:
        return self._on_two_nodes(remove=False)

    def lost(self) -> Result:
        return self._on_two_nodes(remove=True)

    def _on_two_nodes(self, remove: bool) -> Result:
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            second = cluster.add_node(num_cpus=1)
            process = self.ray(self.photos, "--address", cluster.address)
            if remove:
                wait_for(max(1, self.n // 2000), self.out, process)
                cluster.remove_node(second)
            cpu: dict[int, dict[int, float]] = defaultdict(dict)  # by node, the parent of its workers
            while process.poll() is None:
                for one in psutil.process_iter():
                    if is_worker(one):
                        with contextlib.suppress(psutil.Error):
                            cpu[one.ppid()][one.pid] = sum(one.cpu_times()[:2])
                time.sleep(0.5)
            finish(process)
        finally:
            cluster.shutdown()
        seconds = [round(sum(workers.values()), 1) for workers in cpu.values()]
        return {"worker_cpu_seconds_by_node": seconds, **compared(self.out, self.expected)}

    def s3(self) -> Result:
        import fsspec
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # It prints every request.
        server = ThreadedMotoServer(port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        os.environ |= environment
        storage = fsspec.filesystem("s3")
        storage.mkdir("archive")
        storage.put(f"{self.photos}/", "archive/photos/", recursive=True)
        began = time.perf_counter()
        finish(self.ray("s3://archive/photos"))
        seconds = round(time.perf_counter() - began, 1)
        server.stop()
        rows = compared(self.out, self.expected, lambda name: name.replace("s3://archive/photos", str(self.photos)))
        return {"command_seconds": seconds, **rows}

    def all(self, only: list[str] | None) -> Mapping[str, Result]:
        """Run the checks and print the result of each."""
        results = {}
        for name in only or ("speed", "memory", "worker", "run", "nodes", "lost", "s3"):
            results[name] = getattr(self, name)()
            print(name, json.dumps(results[name]), flush=True)
        return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--folder", type=Path, help="folder for the photos, which is kept")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        results = Checks(arguments.bundle, folder, arguments.photos, arguments.many).all(arguments.only)
    if arguments.json:
        write_json(arguments.json, {"photos": arguments.photos, "many": arguments.many, **results})


if __name__ == "__main__":
    main()

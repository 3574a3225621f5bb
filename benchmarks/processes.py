"""What the benchmarks of whole trainings share: a fresh process for each, its clock and its memory."""

import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
"""Where Linux says how a process's memory is made up."""


def in_fresh_process(function: Callable[..., Any], *arguments: Any, cache: str | None = None) -> Any:
    """What a function of a module returns in an interpreter that is started for it.

    Args:
        function, arguments: what to call; all of them, and what is returned, must be picklable.
        cache: folder of polytag's cache in that process; ``None`` for an empty one that is removed afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="polytag-cache-") as empty:
        context = get_context("spawn")
        with ProcessPoolExecutor(1, context, _use_cache, (cache or empty,)) as pool:
            return pool.submit(function, *arguments).result()


def _use_cache(folder: str) -> None:
    os.environ["POLYTAG_CACHE"] = folder


class Clock:
    """Seconds since a process was started, without those that only its measuring takes.

    Args:
        started: `time.time` in the parent, just before it starts the process.
    """

    def __init__(self, started: float):
        self._started = started

    @property
    def seconds(self) -> float:
        """Until now."""
        return time.time() - self._started

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The clock stands still in the block."""
        start = time.time()
        try:
            yield
        finally:
            self._started += time.time() - start


def peak_megabytes() -> float:
    """The most memory that this process has held so far, mapped files included."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@contextmanager
def private_memory() -> Iterator[dict[str, float]]:
    """The most memory in megabytes, key "peak", that this process holds in the block without mapped files.

    The system takes pages of mapped files, as the cache's are, back whenever it needs them, while private memory has
    to be there. Linux alone tells them apart; elsewhere the peak stays 0. It is looked at fifty times a second.
    """
    memory = {"peak": 0.0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
            memory["peak"] = max(memory["peak"], int(line.split()[1]) * 1024 / 1e6)

    if not STATUS.exists():
        yield memory
        return
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield memory
    finally:
        over.set()
        watcher.join()

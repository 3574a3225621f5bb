"""Fresh processes for benchmarks of whole trainings, with their time and memory."""

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
"""Where Linux reports the parts of a process's memory."""


def in_fresh_process(function: Callable[..., Any], *arguments: Any, cache: str | None = None) -> Any:
    """Call a module's function in a new interpreter and return its result.

    Args:
        function, arguments: what to call; these and the result must be picklable.
        cache: the process's cache folder; ``None`` for an empty one that is removed afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="polytag-cache-") as empty:
        context = get_context("spawn")
        with ProcessPoolExecutor(1, context, _use_cache, (cache or empty,)) as pool:
            return pool.submit(function, *arguments).result()


def _use_cache(folder: str) -> None:
    os.environ["POLYTAG_CACHE"] = folder


class Clock:
    """Seconds since a process was started, without the time that measuring takes.

    Args:
        started: `time.time` in the parent, just before it starts the process.
    """

    def __init__(self, started: float):
        self._started = started

    @property
    def seconds(self) -> float:
        """Seconds until now."""
        return time.time() - self._started

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock during the block."""
        start = time.time()
        try:
            yield
        finally:
            self._started += time.time() - start


def peak_megabytes() -> float:
    """Peak memory of this process so far, including mapped files."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@contextmanager
def private_memory() -> Iterator[dict[str, float]]:
    """Peak memory of this process during the block in megabytes (key "peak"), without mapped files.

    The system can take back pages of mapped files, such as the cache's, but not private memory. Only Linux tells them
    apart; elsewhere the peak stays 0. Sampled fifty times a second.
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

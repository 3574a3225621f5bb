"""Run shards on a Ray cluster with Ray Data, whose actors load the model once and are restarted if they are killed."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from polytag.errors import MachineError, PolytagError, SettingsError, printable
from polytag.extras import require
from polytag.models.runtimes.quiet import quiet_stderr
from polytag.serving.scale.shards import Shard
from polytag.serving.scale.worker import Task

OBJECT_STORE = 256 << 20
"""Shared memory of a local cluster in bytes, besides the model. It holds names of photos and rows, but no photos."""


CONNECT_SECONDS = 10
"""Time that a cluster's head may take to answer."""


@contextmanager
def ray_cluster(address: str | None, task: Task) -> Iterator[None]:
    """Join a Ray cluster, or start one on all cores of this machine, and leave it at the end.

    Args:
        address: address of a running cluster, or "auto"; ``None`` to start one.
        task: what the cluster will run.

    Raises:
        SettingsError: Ray is not installed, or there is no cluster at the address.
    """
    require("ray", "scale", "--engine ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # polytag reports nothing to anyone
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    store = OBJECT_STORE + 2 * sum(map(len, task.files.values()))
    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": store}
    if address is not None and address != "auto":
        _check_address(address)
    failure: Exception | None = None
    on_stop = signal.getsignal(signal.SIGTERM)
    with quiet_stderr():  # Ray announces its log level.
        try:
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({} if address else local),
            )
        except (OSError, ValueError, RuntimeError) as error:
            failure = error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_stop)  # Ray has set its own handler, which says nothing about --resume.
    if failure is not None:
        ray.shutdown()
        reason = printable(" ".join(str(failure).split())[:200])
        if address is None:
            raise MachineError(f"Ray cannot start on this machine ({reason})")
        raise SettingsError(f"there is no Ray cluster at {printable(address)} ({reason}): check --address")
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Check that something answers at HOST:PORT, because Ray would try again for ten minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(
            f"there is no Ray cluster at {printable(address)} ({printable(reason)}): check --address, HOST:PORT or auto"
        ) from None


class Worker:
    """A Ray Data actor, which turns shards into the content of their output files."""

    def __init__(self, task: Any) -> None:
        import ray

        opened: Task = ray.get(task[0])
        self._folder = opened.folder
        self._model = opened.open()

    def __call__(self, batch: Any) -> Any:
        """Process shards: Arrow table with the column shard (JSON) → Arrow table with the columns name and content."""
        import io

        import pyarrow

        names, files = [], []
        for line in batch["shard"].to_pylist():
            shard = Shard.from_json(line)
            file = io.BytesIO()
            self._model.write(shard.read(self._folder), file)
            names.append(shard.file)
            files.append(file.getvalue())
        return pyarrow.table({"name": names, "content": pyarrow.array(files, pyarrow.binary())})


def run_on_ray(task: Task, shards: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each output file as soon as a worker has finished it.

    Args:
        task: what to do with the photos.
        shards: at least one shard as JSON.

    Raises:
        PolytagError: a worker raised it.
        MachineError: Ray failed.
    """
    import pyarrow
    import ray
    from ray.data import ActorPoolStrategy, DataContext, from_arrow_refs

    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    reference = ray.put(task)
    # Ray Data runs one task per block, so each shard is a block. The driver keeps only references to them.
    blocks = [ray.put(pyarrow.table({"shard": [line]})) for line in shards]
    # The pool may shrink to one actor, so that shards of a lost machine find room on the others.
    pool = ActorPoolStrategy(min_size=1, initial_size=min(cores, len(blocks)), max_size=None)
    finished = from_arrow_refs(blocks).map_batches(
        Worker,
        fn_constructor_args=([reference],),
        compute=pool,
        num_cpus=1,
        batch_size=None,
        batch_format="pyarrow",
    )
    try:
        for batch in finished.iter_batches(batch_size=None, batch_format="pyarrow"):
            for name, content in zip(batch["name"], batch["content"], strict=True):
                yield name.as_py(), content.as_py()
    except ray.exceptions.RayError as error:
        raise _cause(error) from None


def _cause(error: BaseException) -> PolytagError:
    """Return polytag's own error among the causes of a Ray error, or the last line of Ray's message."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, PolytagError):
            # Ray makes a class of its own that inherits from ours and has the traceback as its message.
            inner = getattr(seen, "cause", seen)
            return inner if isinstance(inner, PolytagError) else seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return MachineError(f"Ray failed: {lines[-1].strip()[:300]}")

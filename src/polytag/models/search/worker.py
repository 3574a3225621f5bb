"""Trials in processes of their own: a recipe goes in, the score of each epoch and of the whole comes out.

A worker is started as ``python -m polytag.models.search.worker`` and talks in pickles through its pipes. Unlike
multiprocessing's, it never runs the caller's script again; and since it ends when its input does, it outlives its
parent in no case.
"""

import os
import pickle
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from optuna import TrialPruned

from polytag.data.dataset import Dataset
from polytag.models.recipe import Recipe

Report = Callable[[int, float], None]
"""Called with an epoch, from 0, and its validation mAP; raises `optuna.TrialPruned` where going on is hopeless."""

Score = Callable[[Dataset, Dataset, Recipe, Report], float]
"""Trains a candidate on the first data and gives its mAP on the second."""


class LostWorkerError(Exception):
    """A worker died: killed, out of memory, or by an error that it has printed."""


@contextmanager
def crew(train: Dataset, validation: Dataset, score: Score, n: int) -> Iterator[list["Worker"]]:
    """Workers that share the processor's cores; all are ended, whatever they do, at the end of the block."""
    job = pickle.dumps((train, validation, score))
    threads = max(1, (os.cpu_count() or 1) // n)
    workers = [Worker(job, threads) for _ in range(n)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.end()


class Worker:
    """A process that trains candidates, one at a time.

    Args:
        job: pickled train and validation data and score.
        threads: on which it computes.
    """

    def __init__(self, job: bytes, threads: int):
        count = str(threads)
        self._job: bytes | None = job
        self._process = subprocess.Popen(
            [sys.executable, "-m", "polytag.models.search.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A terminal's Ctrl-C is the parent's alone, who then ends its workers.
            start_new_session=True,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "OMP_NUM_THREADS": count,
                "TF_NUM_INTRAOP_THREADS": count,
                "TF_NUM_INTEROP_THREADS": count,
                "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            },
        )

    def __call__(self, candidate: Recipe, report: Report) -> float:
        """The score of a candidate.

        Raises:
            TrialPruned: the report said so.
            LostWorkerError: the process died.
        """
        try:
            if self._job is not None:
                self._send(self._job)
                self._job = None
            self._send(pickle.dumps(candidate))
            while True:
                assert self._process.stdout is not None
                kind, *values = pickle.load(self._process.stdout)
                if kind == "score":
                    return values[0]
                if kind == "pruned":
                    raise TrialPruned
                try:
                    report(*values)
                except TrialPruned:
                    self._send(pickle.dumps("prune"))
                else:
                    self._send(pickle.dumps("go on"))
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise LostWorkerError from error

    def end(self) -> None:
        """Kill the process, be it at work or not."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what was still to be written has no reader
                pipe.close()

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(message)
        self._process.stdin.flush()


def main() -> None:
    """The worker's side."""
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not come between the pickles
    incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, incoming), daemon=True).start()

    def send(*message: Any) -> None:
        pickle.dump(message, outgoing)
        outgoing.flush()

    def report(epoch: int, validation_map: float) -> None:
        send("epoch", epoch, validation_map)
        if incoming.get() == "prune":
            raise TrialPruned

    train, validation, score = incoming.get()
    while True:
        candidate = incoming.get()
        try:
            value = score(train, validation, candidate, report)
        except TrialPruned:
            send("pruned")
        else:
            send("score", value)


def _listen(stream: BinaryIO, incoming: queue.SimpleQueue) -> None:
    """Pass on what the parent says, and end the process, be it at work or not, once there is no parent."""
    try:
        while True:
            incoming.put(pickle.load(stream))
    except EOFError:
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main()

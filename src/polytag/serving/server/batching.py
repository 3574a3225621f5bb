"""Dynamic batching: work of many requests, done a few pieces at a time on a fixed number of threads.

A thread takes what waits as soon as it is free and never waits for a batch to fill, so batching costs no latency:
under light load each piece runs at once and alone, and batches grow only while pieces wait anyway. How many wait is
bounded: work that could not be done soon is refused at once rather than kept.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


class _Waiting(NamedTuple, Generic[Key, Piece, Result]):
    key: Key
    piece: Piece
    future: "Future[Result]"


class Batcher(Generic[Key, Piece, Result]):
    """Runs ``work`` on pieces that share a key, in the order in which they came.

    Args:
        work: called as ``work(key, pieces)`` on one of the threads; one result for each piece.
        threads: calls of ``work`` at the same time.
        batch_size: pieces for one call, at most.
        room: pieces that may wait, at most.
        on_batch: told the number of pieces of each call.
    """

    def __init__(
        self,
        work: Callable[[Key, list[Piece]], Sequence[Result]],
        threads: int,
        batch_size: int,
        room: int,
        on_batch: Callable[[int], object] = lambda pieces: None,
    ) -> None:
        self._work, self._batch_size, self._room, self._on_batch = work, batch_size, room, on_batch
        self._waiting: deque[_Waiting[Key, Piece, Result]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._n_threads = threads
        self._threads: list[threading.Thread] = []

    def __len__(self) -> int:
        """Pieces that wait."""
        return len(self._waiting)

    def submit(self, key: Key, pieces: Sequence[Piece]) -> "list[Future[Result]]":
        """Let pieces wait for their turn; a future that is cancelled before it gives its place up.

        Raises:
            queue.Full: not all of them have room, so none was taken.
        """
        with self._changed:
            if self._closing or len(self._waiting) + len(pieces) > self._room:
                raise queue.Full
            taken = [_Waiting[Key, Piece, Result](key, piece, Future()) for piece in pieces]
            self._waiting += taken
            self._changed.notify(len(taken))
            while len(self._threads) < self._n_threads:
                # As daemons they cannot keep a process alive whose end somebody forces.
                self._threads.append(threading.Thread(target=self._run, daemon=True))
                self._threads[-1].start()
        return [waiting.future for waiting in taken]

    def close(self) -> None:
        """Finish what was taken, then end the threads; they start anew with the next work."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._threads, self._closing = [], False

    def _run(self) -> None:
        while self._run_batch():
            pass

    def _run_batch(self) -> bool:
        """Wait for a batch and run it, in a frame of its own, so that nothing of it is kept while waiting again."""
        batch = self._next()
        running = [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]
        if running:
            self._on_batch(len(running))
            try:
                results = self._work(running[0].key, [waiting.piece for waiting in running])
            except BaseException as error:
                for waiting in running:
                    waiting.future.set_exception(error)
            else:
                for waiting, result in zip(running, results, strict=True):
                    waiting.future.set_result(result)
        return bool(batch)

    def _next(self) -> "list[_Waiting[Key, Piece, Result]]":
        """The next batch; empty when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            batch: list[_Waiting[Key, Piece, Result]] = []
            # A few pieces are shared out among the threads instead of filling the first one's batch.
            size = min(self._batch_size, -(-len(self._waiting) // self._n_threads))
            while len(batch) < size and (not batch or self._waiting[0].key is batch[0].key):
                batch.append(self._waiting.popleft())
            return batch

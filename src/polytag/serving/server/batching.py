"""Dynamic batching, which runs pieces of work from many requests in small batches on a fixed number of threads.

A thread takes waiting pieces as soon as it is free and never waits for a batch to fill, so batching adds no latency.
Under light load, each piece runs alone. Batches grow only when pieces have to wait anyway. Sources take turns, so a
source with many pieces does not delay the others. The queue is bounded, and work that does not fit is refused.
"""

import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


class _Waiting(NamedTuple, Generic[Key, Piece, Result]):
    key: Key
    piece: Piece
    places: int
    future: "Future[Result]"


class Batcher(Generic[Key, Piece, Result]):
    """A queue that runs ``work`` on batches of pieces with the same key, taking one piece from each source in turn.

    Args:
        work: called as ``work(key, pieces)`` on one of the threads; returns one result per piece.
        threads: number of concurrent calls to ``work``.
        batch_size: number of slots in a batch. A piece takes one slot unless `submit` specifies another number.
        room: maximum number of waiting pieces.
        on_batch: called with the number of pieces in each batch.
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
        self._waiting: OrderedDict[Hashable, deque[_Waiting[Key, Piece, Result]]] = OrderedDict()
        self._n_waiting = 0
        self._changed = threading.Condition()
        self._closing = False
        self._n_threads = threads
        self._threads: list[threading.Thread] = []

    def __len__(self) -> int:
        """Return the number of waiting pieces."""
        return self._n_waiting

    def submit(
        self, key: Key, pieces: Sequence[Piece], source: Hashable = None, places: Sequence[int] | None = None
    ) -> "list[Future[Result]]":
        """Queue pieces of work.

        A caller may cancel a future before its piece runs. The piece is then removed from the queue.

        Args:
            key: only pieces with the same key run in the same batch.
            pieces: pieces of work to queue.
            source: sender of the pieces; sources take turns.
            places: number of batch slots that each piece takes; ``None`` for one slot each.

        Returns:
            One future per piece.

        Raises:
            queue.Full: the queue has no room for all pieces. No piece was queued.
        """
        with self._changed:
            self._forget_cancelled()
            if self._closing or self._n_waiting + len(pieces) > self._room:
                raise queue.Full
            taken = [
                _Waiting[Key, Piece, Result](key, piece, size, Future())
                for piece, size in zip(pieces, places or [1] * len(pieces), strict=True)
            ]
            if taken:
                self._waiting.setdefault(source, deque()).extend(taken)
                self._n_waiting += len(taken)
            self._changed.notify(len(taken))
            while len(self._threads) < self._n_threads:
                # Daemon threads do not keep the process alive when it is forced to exit.
                self._threads.append(threading.Thread(target=self._run, daemon=True))
                self._threads[-1].start()
        return [waiting.future for waiting in taken]

    def close(self) -> None:
        """Finish the queued work, then stop the threads. The next call to `submit` starts new threads."""
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
        """Wait for a batch and run it; return whether there was one.

        This is a separate function so that the batch is freed before the next wait.
        """
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
        """Return the next batch; an empty batch means that the queue was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            batch: list[_Waiting[Key, Piece, Result]] = []
            # If only a few pieces wait, they are spread over the threads instead of filling one batch.
            places = min(self._batch_size, -(-self._n_waiting // self._n_threads))
            while self._waiting:
                source, pieces = next(iter(self._waiting.items()))
                if batch and (pieces[0].key is not batch[0].key or pieces[0].places > places):
                    break
                batch.append(pieces.popleft())
                self._n_waiting -= 1
                places -= batch[-1].places
                self._waiting.move_to_end(source)
                if not pieces:
                    del self._waiting[source]
                if places <= 0:
                    break
            return batch

    def _forget_cancelled(self) -> None:
        """Remove cancelled pieces, so that they take no room in the queue."""
        for source, pieces in list(self._waiting.items()):
            kept = deque(waiting for waiting in pieces if not waiting.future.cancelled())
            self._n_waiting -= len(pieces) - len(kept)
            if kept:
                self._waiting[source] = kept
            else:
                del self._waiting[source]

"""Dynamic batching: pieces of work from many requests run in small batches on a fixed number of threads.

A thread takes waiting pieces as soon as it is free and never waits for a batch to fill, so batching adds no latency.
Under light load each piece runs alone; batches grow only while pieces wait anyway. Sources take turns: a source with
many pieces waits for itself, not the others for it. The queue is bounded: work that cannot start soon is refused.
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
    """Run ``work`` on batches of pieces that share a key, one piece from each source in turn.

    Args:
        work: called as ``work(key, pieces)`` on one of the threads; returns one result per piece.
        threads: number of concurrent calls of ``work``.
        batch_size: number of places in a batch. A piece takes one place unless `submit` says otherwise.
        room: maximum number of waiting pieces.
        on_batch: called with the number of pieces of each batch.
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
        """Number of waiting pieces."""
        return self._n_waiting

    def submit(
        self, key: Key, pieces: Sequence[Piece], source: Hashable = None, places: Sequence[int] | None = None
    ) -> "list[Future[Result]]":
        """Queue pieces. A future that is cancelled before its piece runs frees the piece's place.

        Args:
            key: pieces of a batch share it.
            pieces: the work.
            source: who sent the pieces; sources take turns.
            places: places of a batch that each piece takes; ``None`` for one each.

        Returns:
            One future per piece.

        Raises:
            queue.Full: there is not enough room for all pieces; none was queued.
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
                # Daemon threads do not keep alive a process that is being forced to end.
                self._threads.append(threading.Thread(target=self._run, daemon=True))
                self._threads[-1].start()
        return [waiting.future for waiting in taken]

    def close(self) -> None:
        """Finish queued work, then stop the threads. The next `submit` starts new ones."""
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
        """Wait for a batch and run it. Its own frame frees the batch before the next wait."""
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
        """The next batch; empty if there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            batch: list[_Waiting[Key, Piece, Result]] = []
            # A few pieces are spread over the threads instead of filling one batch.
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
        """Remove pieces nobody waits for any more, so that they take no room."""
        for source, pieces in list(self._waiting.items()):
            kept = deque(waiting for waiting in pieces if not waiting.future.cancelled())
            self._n_waiting -= len(pieces) - len(kept)
            if kept:
                self._waiting[source] = kept
            else:
                del self._waiting[source]

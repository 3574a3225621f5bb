"""Batching: every piece is done once, in batches of one key, and what was taken is finished."""

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from polytag.serving.server.batching import Batcher


class Gate:
    """Work that doubles numbers, remembers its batches, and waits at a gate."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.started = threading.Semaphore(0)
        self.batches: list[tuple[str, list[int]]] = []

    def __call__(self, key: str, pieces: list[int]) -> list[int]:
        self.batches.append((key, pieces))
        self.started.release()
        assert self.open.wait(20)
        if -1 in pieces:
            raise ValueError("minus one")
        return [2 * piece for piece in pieces]


@pytest.fixture
def gate() -> Gate:
    return Gate()


A, B = "a", "b"


def test_what_waits_is_done_in_batches_of_one_key(gate: Gate) -> None:
    batcher = Batcher(gate, threads=1, batch_size=3, room=20)
    futures = batcher.submit(A, [0])
    gate.started.acquire()  # the thread is busy, so that the others have to wait
    futures += batcher.submit(A, [1, 2]) + batcher.submit(A, [3, 4]) + batcher.submit(B, [5]) + batcher.submit(A, [6])
    assert len(batcher) == 6
    gate.open.set()
    assert [future.result(20) for future in futures] == [0, 2, 4, 6, 8, 10, 12]
    assert gate.batches == [(A, [0]), (A, [1, 2, 3]), (A, [4]), (B, [5]), (A, [6])]
    batcher.close()


def test_a_few_pieces_are_shared_out_among_threads(gate: Gate) -> None:
    batcher = Batcher(gate, threads=2, batch_size=2, room=20)
    futures = batcher.submit(A, [1, 2])
    for _ in range(2):
        assert gate.started.acquire(timeout=20)  # both threads work
    gate.open.set()
    assert [future.result(20) for future in futures] == [2, 4]
    batcher.close()


def test_nothing_is_taken_beyond_the_room(gate: Gate) -> None:
    batcher = Batcher(gate, threads=1, batch_size=2, room=3)
    futures = batcher.submit(A, [0])
    gate.started.acquire()
    futures += batcher.submit(A, [1, 2])
    with pytest.raises(queue.Full):
        batcher.submit(A, [3, 4])
    assert len(batcher) == 2
    futures += batcher.submit(A, [5])
    gate.open.set()
    assert [future.result(20) for future in futures] == [0, 2, 4, 10]
    batcher.close()


def test_what_was_given_up_is_not_done(gate: Gate) -> None:
    batcher = Batcher(gate, threads=1, batch_size=2, room=9)
    batcher.submit(A, [0])
    gate.started.acquire()
    given_up, kept = batcher.submit(A, [1, 2])
    alone = batcher.submit(A, [3])[0]
    assert given_up.cancel() and alone.cancel()
    gate.open.set()
    assert kept.result(20) == 4
    batcher.close()
    assert [pieces for _, pieces in gate.batches] == [[0], [2]]


def test_a_failure_is_told_to_those_of_its_batch_and_work_goes_on(gate: Gate) -> None:
    batcher = Batcher(gate, threads=1, batch_size=1, room=9)
    gate.open.set()
    bad, good = batcher.submit(A, [-1, 4])
    with pytest.raises(ValueError, match="minus one"):
        bad.result(20)
    assert good.result(20) == 8
    batcher.close()


def test_closing_finishes_what_was_taken_and_takes_no_more(gate: Gate) -> None:
    batcher = Batcher(gate, threads=2, batch_size=2, room=20)
    futures = batcher.submit(A, list(range(10)))
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(batcher.close)
        with pytest.raises(queue.Full):
            while batcher.submit(A, []) == []:
                time.sleep(0.01)
        assert not closing.done()
        gate.open.set()
        closing.result(20)
    assert [future.result(0) for future in futures] == [2 * i for i in range(10)]
    assert batcher.submit(A, [11])[0].result(20) == 22
    batcher.close()


def test_batches_are_counted(gate: Gate) -> None:
    sizes: list[int] = []
    batcher = Batcher(gate, threads=1, batch_size=2, room=9, on_batch=sizes.append)
    gate.open.set()
    for future in batcher.submit(A, [1, 2, 3]):
        future.result(20)
    batcher.close()
    assert sum(sizes) == 3 and max(sizes) <= 2


def test_sources_take_turns(gate: Gate) -> None:
    batcher = Batcher(gate, threads=1, batch_size=2, room=20)
    futures = batcher.submit(A, [0])
    gate.started.acquire()
    futures += batcher.submit(A, [1, 2, 3, 4, 5], source="many") + batcher.submit(A, [6], source="one")
    gate.open.set()
    assert [future.result(20) for future in futures] == [0, 2, 4, 6, 8, 10, 12]
    assert gate.batches == [(A, [0]), (A, [1, 6]), (A, [2, 3]), (A, [4, 5])]
    batcher.close()


def test_large_pieces_fill_a_batch(gate: Gate) -> None:
    batcher = Batcher(gate, threads=1, batch_size=4, room=20)
    futures = batcher.submit(A, [0])
    gate.started.acquire()
    futures += batcher.submit(A, [1, 2, 3, 4, 5], places=[9, 2, 1, 2, 1])
    gate.open.set()
    for future in futures:
        future.result(20)
    assert gate.batches == [(A, [0]), (A, [1]), (A, [2, 3]), (A, [4]), (A, [5])]
    batcher.close()


def test_what_was_given_up_takes_no_room(gate: Gate) -> None:
    batcher = Batcher(gate, threads=1, batch_size=2, room=2)
    batcher.submit(A, [0])
    gate.started.acquire()
    for given_up in batcher.submit(A, [1, 2], source="gone"):
        assert given_up.cancel()
    kept = batcher.submit(A, [3, 4])
    gate.open.set()
    assert [future.result(20) for future in kept] == [6, 8]
    batcher.close()

"""A time limit: training ends in time, schedules are completed, and what was cut short is said."""

import time

import numpy as np
import pytest

import polytag as pt
from polytag.models.backend import keras
from polytag.models.training import loop, time_limit
from polytag.models.training.loop import warm_up_and_cosine
from polytag.models.training.time_limit import InTime, end_of_training, ending_at, share_of_time, time_is_over


class Clock:
    """Stands for the time: it advances by a second when it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time_limit, "time", made)
    return made


def trained(end: float, steps: int, epochs: int) -> tuple[InTime, keras.Model]:
    network = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    network.compile(keras.optimizers.SGD(warm_up_and_cosine(0.1, steps * epochs, 2)), "mse")
    callback = InTime(end, steps * epochs, 4)
    x = np.ones((steps, 2), np.float32)
    network.fit(x, x[:, 0], batch_size=1, epochs=epochs, verbose=0, callbacks=[callback])
    return callback, network


def test_training_stops_in_time_and_its_schedule_is_completed(clock) -> None:
    callback, network = trained(end=30, steps=10, epochs=100)
    assert callback.stopped and 20 < clock.now <= 30
    assert float(network.optimizer.learning_rate) == pytest.approx(0, abs=1e-3)


def test_training_that_is_fast_enough_is_not_changed(clock) -> None:
    callback, network = trained(end=1e6, steps=10, epochs=3)
    assert not callback.stopped
    assert int(network.optimizer.iterations) == 30


def test_limits_nest_and_end_with_their_block(clock) -> None:
    assert end_of_training() == float("inf")
    with ending_at(100):
        with ending_at(1000):
            assert end_of_training() == 100
        with ending_at(share_of_time(9)):
            assert end_of_training() == 1 + 99 / 9
        assert end_of_training() == 100 and not time_is_over()
        clock.now = 100
        assert time_is_over()
    assert end_of_training() == float("inf") and not time_is_over()


def test_a_network_that_is_cut_short_says_so_and_keeps_its_best_epoch(squares, monkeypatch) -> None:
    train, validation, _ = squares
    monkeypatch.setattr(loop, "PATIENCE", 5000)
    monkeypatch.setattr(loop, "MIN_RATE", 0)
    said: list[str] = []
    start = time.monotonic()
    bundle = pt.fit(
        train, validation, "baseline", minutes=0.1, image_size=48, epochs=5000, show_progress=False, say=said.append
    )
    assert time.monotonic() - start < 60  # without a limit, 5,000 epochs take many minutes
    facts = bundle.manifest
    assert facts["cut_short"] and 0 <= facts["kept_epoch"] < len(facts["history"]) < 5000
    assert said == [facts["budget"]] and "training ends in time" in said[0]

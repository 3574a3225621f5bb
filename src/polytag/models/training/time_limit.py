"""A time limit for training. Networks that are trained within the limit end in time, with a complete schedule."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from polytag.models.backend import keras

_END: ContextVar[float] = ContextVar("end", default=float("inf"))

VALIDATION_COST = 0.4
"""Expected time of a validation step relative to a training step, before the first validation is timed."""


@contextmanager
def ending_at(end: float) -> Iterator[None]:
    """Let training in the block end at this value of `time.monotonic`, or earlier if an outer block says so."""
    token = _END.set(min(end, _END.get()))
    try:
        yield
    finally:
        _END.reset(token)


def end_of_training() -> float:
    """Return the value of `time.monotonic` at which training must end, infinity without a limit."""
    return _END.get()


def time_is_over() -> bool:
    """Return whether there is a limit and its time has passed."""
    return time.monotonic() >= _END.get()


def share_of_time(runs: int) -> float:
    """Return the end of the next training run if the remaining time is divided evenly among ``runs``."""
    now = time.monotonic()
    return now + (_END.get() - now) / runs


class InTime(keras.callbacks.Callback):
    """Callback that ends a training run in time, including the validation of its last epoch.

    A learning rate schedule is completed nevertheless: it advances by the share of the time that has passed, if this
    is more than the share of the steps (Li et al. 2020, "Budgeted training: rethinking deep neural network training
    under resource constraints"). The callback must be the first in its list.

    Args:
        end: value of `time.monotonic` at which training must have ended.
        steps: number of training steps without a limit.
        validation_steps: number of steps of one validation.
    """

    def __init__(self, end: float, steps: int, validation_steps: int):
        super().__init__()
        self._end, self._steps, self._validation_steps = end, steps, validation_steps
        self._start = self._epoch_end = self._validation_seconds = 0.0
        self._done = 0
        self.skipped = 0
        """Number of steps that do not count, because an earlier process did them."""
        self.stopped = False

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        if self._epoch_end:
            self._validation_seconds = time.monotonic() - self._epoch_end

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self._epoch_end = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if self.skipped:
            self.skipped -= 1
            return
        now = time.monotonic()
        self._done += 1
        if self._done == 1:
            self._start = now  # the first step also compiles the network
        reserve = self._validation_seconds
        if not reserve and self._done > 1:
            reserve = VALIDATION_COST * self._validation_steps * (now - self._start) / (self._done - 1)
        self._advance(now, reserve)

    def _advance(self, now: float, reserve: float) -> None:
        """Advance the schedule to the present time, and stop the training run if its time is over."""
        left = self._end - reserve - self._start
        passed = (now - self._start) / left if left > 0 else 1.0
        if passed >= 1:
            self.stopped = self._done < self._steps
            self.model.stop_training = True
        optimizer = self.model.optimizer
        due = int(min(passed, 1.0) * self._steps)
        if due > int(keras.ops.convert_to_numpy(optimizer.iterations)):
            optimizer.iterations.assign(due)

"""Progress bar for training. It shows the epoch, the latest validation score and the remaining time."""

from typing import Any

from tqdm import tqdm

from polytag.evaluation.selection import VALIDATION_SCORE
from polytag.models.backend import keras


class TrainingBar(keras.callbacks.Callback):
    """Callback that advances a progress bar by one per training step.

    If training stops early, the bar advances by the remaining steps of this training run.

    Args:
        bar: progress bar to advance.
        title: text before the epoch.
        steps: number of steps per epoch.
        epochs: maximum number of epochs in this training run.
    """

    def __init__(self, bar: tqdm, title: str, steps: int, epochs: int):
        super().__init__()
        self._bar, self._title, self._steps, self._epochs = bar, title, steps, epochs
        self._done = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._bar.set_description(f"{self._title} · epoch {epoch + 1}/{self._epochs}")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._done += 1
        self._bar.update(1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs and VALIDATION_SCORE in logs:
            self._bar.set_postfix_str(f"weighted mAP {logs[VALIDATION_SCORE]:.3f}")

    def on_train_end(self, logs: Any = None) -> None:
        self._bar.update(self._steps * self._epochs - self._done)

"""Checkpoints of training runs, so that a killed run continues within a minute of where it was, to the same result.

A checkpoint is one NumPy archive without pickled objects. It holds the weights, the states of the optimizer and of the
random number generators, and what the callbacks remember. Order and augmentation of the photos depend only on the seed,
the epoch and the batch, so the position in the epoch is enough to continue them.
"""

import json
import time
import weakref
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import SettingsError
from polytag.files import LOCK_FILE, TRAINING_FILE, lock, write_bytes_atomically, write_json
from polytag.models.backend import keras
from polytag.models.training.batches import Batches

SECONDS = 60.0
"""Interval between two checkpoints of a training run. Writing one takes about a second for the largest network."""


class Checkpoints:
    """Folder with the progress of one training: its search and the checkpoints of its training runs.

    Args:
        folder: folder of an interrupted training, or a new one. While this object exists, other processes are refused.
        request: everything that the training depends on, for JSON.

    Attributes:
        search_log: file that records the trials of a search.
        seconds: time that earlier processes spent on the training runs that were restored.

    Raises:
        SettingsError: the folder cannot be written, is in use, or belongs to a training with another request.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any]):
        self._folder, self.search_log, self.seconds = folder, folder / "search.log", 0.0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            weakref.finalize(self, lock(folder / LOCK_FILE).close)
        except OSError as error:
            raise SettingsError(f"{folder} cannot be written ({error.strerror}). Choose another place.") from None
        request = json.loads(json.dumps(request))
        before = _recorded(folder) or request
        if changed := [name for name in request if before.get(name) != request[name]]:
            raise SettingsError(
                f"{folder} was started with other {', '.join(changed)}. Repeat its settings and data, or delete it."
            )
        write_json(folder / TRAINING_FILE, request)

    def load(self, name: str, key: str) -> "Saved | None":
        """Return the checkpoint of a training run, or ``None`` if there is no usable one.

        Args:
            name: name of the training run.
            key: everything that the run depends on. A checkpoint with another key is not used.
        """
        try:
            # NumPy would leave a damaged file open.
            with (self._folder / f"{name}.npz").open("rb") as content, np.load(content, allow_pickle=False) as file:
                facts = json.loads(file["facts"].tobytes())
                arrays = {part: file[part] for part in file.files}
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None  # There is none, or a power failure has damaged it.
        if facts["key"] != key:
            return None
        self.seconds += facts["seconds"]
        return Saved(facts, arrays)

    def save(self, name: str, facts: Mapping[str, Any], lists: Mapping[str, Any]) -> None:
        """Write a checkpoint, which replaces the previous one.

        Args:
            name: name of the training run.
            facts: "key", "seconds" and others, for JSON.
            lists: arrays and lists of arrays by name.
        """
        arrays: dict[str, NDArray] = {}
        for part, some in lists.items():
            arrays |= {part: some} if isinstance(some, np.ndarray) else {f"{part}.{i}": a for i, a in enumerate(some)}
        encoded = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        with write_bytes_atomically(self._folder / f"{name}.npz") as file:
            np.savez(file, facts=encoded, **arrays)  # type: ignore[arg-type]


def recorded_budget(folder: Path) -> dict[str, Any] | None:
    """Return what an interrupted training had chosen for its time budget, because speeds would be measured anew."""
    return _recorded(folder).get("budget")


def _recorded(folder: Path) -> dict[str, Any]:
    """Return everything that an interrupted training depends on, {} if the folder is new.

    Raises:
        SettingsError: the file is damaged.
    """
    file = folder / TRAINING_FILE
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise SettingsError(f"{file} is damaged ({error}). Delete {folder} to start again.") from None


@dataclass
class Saved:
    """Content of a checkpoint."""

    facts: dict[str, Any]
    arrays: dict[str, NDArray]

    def list(self, part: str) -> list[NDArray]:
        """Return a list of arrays by its name."""
        count = sum(name.startswith(f"{part}.") for name in self.arrays)
        return [self.arrays[f"{part}.{i}"] for i in range(count)]


class SaveProgress(keras.callbacks.Callback):
    """Callback that saves the state of a training run every minute, and restores it. It must be the last callback.

    Args:
        checkpoints: where to save.
        name: name of the training run.
        key: everything that the run depends on.
        train: training batches.
        remembering: other callbacks, each with the names of the attributes in which it remembers something. Attributes
            are numbers, ``None``, arrays or lists of arrays.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        name: str,
        key: str,
        train: Batches,
        remembering: Sequence[tuple[keras.callbacks.Callback, Sequence[str]]],
    ):
        super().__init__()
        self._checkpoints, self._name, self._key = checkpoints, name, key
        self._train, self._remembering = train, remembering
        self._epoch = 0
        self._earlier: dict[str, list[float]] = {}
        self._begin = self._last = time.monotonic()
        self._saved = checkpoints.load(name, key)
        self._before = self._saved.facts["seconds"] if self._saved else 0.0

    @property
    def finished(self) -> dict[str, Any] | None:
        """What `finish` recorded, if an earlier process finished the training run."""
        return self._saved.facts.get("result") if self._saved else None

    @property
    def initial_epoch(self) -> int:
        """Epoch in which training starts or continues."""
        return self._saved.facts["epoch"] if self._saved else 0

    @property
    def skipped(self) -> int:
        """Number of steps in the first epoch that an earlier process did."""
        return self._saved.facts["step"] if self._saved else 0

    def restore_result(self, network: keras.Model) -> NDArray[np.float32]:
        """Give the network the weights of the finished training run, and return the validation predictions."""
        assert self._saved is not None
        for variable, value in zip(network.variables, self._saved.list("network"), strict=True):
            variable.assign(value)
        self._train.continue_at(self._saved.facts["batches"], 0)
        return self._saved.arrays["predictions"]

    def history(self, new: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """Join the scores of the epochs before and after the interruption."""
        names = [*self._earlier, *(name for name in new if name not in self._earlier)]
        return {name: [*self._earlier.get(name, ()), *map(float, new.get(name, ()))] for name in names}

    def finish(self, result: Mapping[str, Any], predictions: NDArray[np.float32], network: keras.Model) -> None:
        """Record that the training run is finished."""
        facts = self._facts() | {"batches": self._train.epoch, "result": result}
        lists = {"network": _values(network.variables), "predictions": predictions}
        self._checkpoints.save(self._name, facts, lists)

    def on_train_begin(self, logs: Any = None) -> None:
        if self._saved is not None:
            self._train.continue_at(self._saved.facts["batches"], self._saved.facts["step"])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._saved is not None:
            if batch == self._saved.facts["step"]:
                self._restore(self._saved)
                self._saved, self._last = None, time.monotonic()
        elif time.monotonic() - self._last >= SECONDS:
            self._save(batch)
            self._last = time.monotonic()

    def _restore(self, saved: Saved) -> None:
        """Go back to the state of the checkpoint.

        Keras cannot start in the middle of an epoch. The batches before the checkpoint are therefore trained with one
        photo each, which takes seconds, and what they did is undone here.
        """
        self._synchronise()
        for part, variables in self._variables().items():
            for variable, value in zip(variables, saved.list(part), strict=True):
                variable.assign(value)
        self._earlier = saved.facts["history"]
        for part, callback, name in self._remembered():
            arrays = saved.list(part)
            setattr(callback, name, saved.facts[part] if part in saved.facts else arrays or saved.arrays[part])

    def _save(self, step: int) -> None:
        self._synchronise()
        history = self.history(self.model.history.history)
        facts = self._facts() | {"epoch": self._epoch, "step": step, "batches": self._train.epoch, "history": history}
        lists: dict[str, Any] = {part: _values(variables) for part, variables in self._variables().items()}
        for part, callback, name in self._remembered():
            value = getattr(callback, name)
            if value is None or np.isscalar(value):
                facts[part] = value if value is None else float(value)  # type: ignore[arg-type]
            else:
                lists[part] = value
        self._checkpoints.save(self._name, facts, lists)

    def _variables(self) -> dict[str, Sequence[Any]]:
        """Return all variables that training changes, including the states of random number generators."""
        return {
            "network": self.model.variables,
            "optimizer": self.model.optimizer.variables,
            "metrics": self.model.metrics_variables,
        }

    def _synchronise(self) -> None:
        """Let variables have their current values. On JAX, Keras updates them only when asked."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()

    def _remembered(self) -> Iterator[tuple[str, keras.callbacks.Callback, str]]:
        """Yield what callbacks remember: its name in the checkpoint, the callback and the attribute."""
        for number, (callback, names) in enumerate(self._remembering):
            for name in names:
                yield f"callback {number} {name}", callback, name

    def _facts(self) -> dict[str, Any]:
        return {"key": self._key, "seconds": self._before + time.monotonic() - self._begin}


def _values(variables: Sequence[Any]) -> list[NDArray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]

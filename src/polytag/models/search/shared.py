"""Share a search among processes and machines through a database.

Every process runs the same command. A trial belongs to one process, whose heartbeat shows the others that it is alive.
The trial of a dead process is repeated once, with the same hyperparameters.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.trial import TrialState

from polytag.errors import MachineError, SettingsError
from polytag.models.options import EXAMPLE_STORAGE
from polytag.models.recipe import Recipe
from polytag.models.search.trials import STARTUP_TRIALS, Trials

HEARTBEAT_SECONDS = 15
"""Interval between two heartbeats of a process that trains."""

GRACE_SECONDS = 90
"""Time without a heartbeat after which a process counts as dead. Short enough that a search with a dead process ends in
minutes, and long enough for a machine that swaps or a network that stalls."""

POLL_SECONDS = 2
"""Interval at which a process without a trial looks whether the others have finished."""


def open_shared(
    url: str,
    model: str,
    searched: Mapping[str, Any],
    pruner: optuna.pruners.BasePruner,
    first: Sequence[Mapping[str, Any]],
) -> tuple[optuna.Study, optuna.storages.RDBStorage]:
    """Join the search for this recipe and data, or start it.

    The name of the study is a digest of everything that the search depends on. Different searches can therefore share
    one database.

    Args:
        url: URL of the database.
        model: name of the model.
        searched: recipe, settings and fingerprints of the data.
        pruner: pruner of the study.
        first: hyperparameters of the first trials.
    """
    name = f"{model}-{hashlib.sha256(json.dumps(searched, sort_keys=True).encode()).hexdigest()[:16]}"
    storage = _connected(_with_driver(url))
    settings: dict[str, Any] = {"study_name": name, "storage": storage, "pruner": pruner}
    try:
        study = optuna.create_study(direction="maximize", **settings)
    except optuna.exceptions.DuplicatedStudyError:
        return optuna.load_study(**settings), storage
    for point in first:
        study.enqueue_trial(dict(point))
    return study, storage


def _connected(url: str, pause: float = 1.0) -> "_Storage":
    """Connect to the database, and create its tables if it is empty. Try again if another process is creating them."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    try:
        return _Storage(
            url,
            engine_kwargs={"pool_pre_ping": True},
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=1),
        )
    except (IntegrityError, ProgrammingError):
        if pause > 10:
            raise
        time.sleep(pause)
        return _connected(url, 2 * pause)


@contextmanager
def reporting_outages(url: str | None) -> Iterator[None]:
    """Report an unreachable database in one line.

    Raises:
        MachineError: the database cannot be reached.
        SettingsError: the URL cannot be used.
    """
    if url is None:
        yield
        return
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        yield
    except (ArgumentError, NoSuchModuleError) as error:
        raise SettingsError(f"--storage cannot be used ({error}): name a database such as {EXAMPLE_STORAGE}") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", None) or cause).strip().partition("\n")[0]
        raise MachineError(
            f"the database of the search cannot be used ({reason}): run the command again when it can"
        ) from error


def _with_driver(url: str) -> str:
    """Name the PostgreSQL driver that polytag installs. By default, SQLAlchemy 2.0 would look for an older one."""
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return f"postgresql+psycopg://{url.removeprefix(scheme)}"
    return url


class _Storage(optuna.storages.RDBStorage):
    """Database in which a missed heartbeat is no error. The training thread reports that the database is gone."""

    def record_heartbeat(self, trial_id: int) -> None:
        try:
            super().record_heartbeat(trial_id)
        except Exception:
            self.remove_session()


class SharedTrials(Trials):
    """The trials of a search that processes share.

    Trials are numbered by the database. A process keeps a trial only if fewer than ``trials`` earlier trials are
    finished or in progress, so the total is exact however many processes there are. All processes stay until the search
    is over, and then see the same trials.

    Args:
        study, recipe, first, trials, timeout, bar: see `Trials`.
        storage: database of the study.
    """

    def __init__(
        self,
        study: optuna.Study,
        recipe: Recipe,
        first: Sequence[Mapping[str, Any]],
        trials: int | None,
        timeout: float | None,
        bar: Any,
        storage: optuna.storages.RDBStorage,
    ):
        super().__init__(study, recipe, first, trials, timeout, bar)
        self._storage = storage
        self._silent: dict[int, float] = {}
        # Processes must not propose the same hyperparameters, so each draws its own random numbers.
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True
        )

    def _over(self) -> bool:
        self._give_up_dead_trials()
        if self._late():
            # All processes stop together, although their clocks differ slightly.
            self._study.set_user_attr("closed after", self._timeout)
        if self._closed() and self._count(TrialState.COMPLETE, TrialState.PRUNED):
            return not self._count(TrialState.RUNNING)
        return self._trials is not None and self._count(TrialState.COMPLETE, TrialState.PRUNED) >= self._trials

    def _closed(self) -> bool:
        return self._timeout is not None and self._study.user_attrs.get("closed after", 0) >= self._timeout

    def _count(self, *states: TrialState) -> int:
        return len(self._study.get_trials(False, states))

    def _next(self) -> optuna.Trial | None:
        if self._room():
            trial = self._study.ask()
            if self._keeps(trial.number):
                return trial
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        else:
            time.sleep(POLL_SECONDS)
        return None

    def _room(self) -> bool:
        """Return whether another trial is needed, as far as this process can see."""
        finished, running = self._count(TrialState.COMPLETE, TrialState.PRUNED), self._count(TrialState.RUNNING)
        if self._closed():
            return finished + running == 0
        return self._trials is None or finished + running < self._trials

    def _keeps(self, number: int) -> bool:
        """Return whether a trial is needed, now that the database has numbered it."""
        earlier = sum(
            trial.number < number and trial.state != TrialState.FAIL for trial in self._study.get_trials(False)
        )
        if self._closed():
            return earlier == 0
        return self._trials is None or earlier < self._trials

    @contextmanager
    def _at_work(self, trial: optuna.Trial) -> Iterator[None]:
        """Send heartbeats while a trial is trained."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                self._storage.record_heartbeat(trial._trial_id)

        self._storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr("beating", True)
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _give_up_dead_trials(self) -> None:
        """Mark the trials of dead processes as failed. Optuna adds a copy of each, once."""
        optuna.storages.fail_stale_trials(self._study)
        # Optuna misses processes that died before their first heartbeat.
        silent = [
            trial.number for trial in self._study.get_trials(False, (TrialState.RUNNING,)) if not trial.user_attrs
        ]
        now = time.monotonic()
        self._silent = {number: self._silent.get(number, now) for number in silent}
        for number, since in self._silent.items():
            if now - since > GRACE_SECONDS:
                self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

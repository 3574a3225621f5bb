"""Run the trials of a search in one process: what to try next, and when to stop."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from polytag.models.recipe import Recipe

Report = Callable[[int, float], None]
"""Function that takes an epoch, counted from 0, and its score. It raises `optuna.TrialPruned` to stop a poor trial."""

STARTUP_TRIALS = 6
"""Number of trials before TPE starts. They are random, except for predefined first trials."""


class Trials:
    """The trials of a search in progress.

    Args:
        study: the trials so far.
        recipe: recipe that candidates are based on.
        first: hyperparameters of the first trials.
        trials: number of trials, or ``None`` for no limit.
        timeout: time limit in seconds, or ``None`` for no limit.
        bar: progress bar that counts finished trials.

    Attributes:
        earlier: seconds that the search took before this process.
    """

    def __init__(
        self,
        study: optuna.Study,
        recipe: Recipe,
        first: Sequence[Mapping[str, Any]],
        trials: int | None,
        timeout: float | None,
        bar: Any,
    ):
        self._study, self._recipe, self._first = study, recipe, first
        self._trials, self._timeout, self._bar = trials, timeout, bar
        self.earlier = float(study.user_attrs.get("seconds", 0))
        self._start = time.monotonic()

    def run(
        self, candidate: Callable[[optuna.trial.BaseTrial], Recipe], train: Callable[[Recipe, Report], float]
    ) -> None:
        """Run trials until the search is over."""
        self._show_finished()
        while not self._over():
            trial = self._next()
            if trial is not None:
                with self._at_work(trial):
                    try:
                        value, state = train(candidate(trial), partial(self._report, trial)), None
                    except optuna.TrialPruned:
                        value, state = None, TrialState.PRUNED
                    # A trial that another process has given up for dead is finished already, and does not count twice.
                    self._study.tell(trial, value, state, skip_if_finished=True)
                self._record_time()
            self._show_finished()

    def _over(self) -> bool:
        finished = len(finished_trials(self._study))
        enough = self._trials is not None and finished >= self._trials
        return enough or (self._late() and finished > 0)

    def _next(self) -> optuna.Trial | None:
        """Return the next trial. ``None`` means to look again whether the search is over."""
        finished = finished_trials(self._study)
        # The seed depends only on the finished trials, so a search gives the same result even if it is interrupted.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=(self._recipe.seed + len(finished)) % 2**32, n_startup_trials=STARTUP_TRIALS, multivariate=True
        )
        untried = [point for point in self._first if not any(_tries(trial, point) for trial in finished)]
        if untried and not self._study.get_trials(False, (TrialState.WAITING,)):
            self._study.enqueue_trial(dict(untried[0]))
        return self._study.ask()

    @contextmanager
    def _at_work(self, trial: optuna.Trial) -> Iterator[None]:
        """Surround the training of a trial."""
        yield

    def _report(self, trial: optuna.Trial, epoch: int, score: float) -> None:
        try:
            trial.report(score, epoch)
        except optuna.exceptions.UpdateFinishedTrialError:
            raise optuna.TrialPruned from None
        self._record_time()
        self._bar.set_description(f"{self._recipe.model} · trial {trial.number + 1} · epoch {epoch + 1}", refresh=False)
        if trial.should_prune():
            raise optuna.TrialPruned

    def _late(self) -> bool:
        return self._timeout is not None and self._seconds() >= self._timeout

    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self._start

    def _record_time(self) -> None:
        self._study.set_user_attr("seconds", round(self._seconds(), 1))

    def _show_finished(self) -> None:
        finished = finished_trials(self._study)
        scores = [trial.value or 0 for trial in finished if trial.state == TrialState.COMPLETE]
        if scores:
            self._bar.set_postfix_str(f"best weighted mAP {max(scores):.3f}", refresh=False)
        self._bar.update(len(finished) - self._bar.n)


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete and pruned trials. Interrupted trials do not count."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _tries(trial: FrozenTrial, point: Mapping[str, Any]) -> bool:
    """Return whether a trial has the hyperparameters of a point. Hyperparameters that are not searched are ignored."""
    return all(trial.params.get(name, value) == value for name, value in point.items())

"""Hyperparameter search for any model. Optuna proposes trials, and a file records them.

A trial is a short training run. Its score is validation mAP, and a trial with a poor score may be pruned.
"""

import os
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import journal
from optuna.trial import FrozenTrial, TrialState

from polytag.data.dataset import Dataset
from polytag.errors import SettingsError
from polytag.models.options import DEFAULT_TRIALS, check_effort
from polytag.models.recipe import Recipe
from polytag.progress import progress_bar

Report = Callable[[int, float], None]
"""Function that takes an epoch, counted from 0, and its validation mAP. It raises `optuna.TrialPruned` to stop a poor
trial."""

Score = Callable[[Dataset, Dataset, Recipe, Report], float]
"""Function that trains a candidate on the first data set and returns its mAP on the second, 0 to 1."""

Space = Callable[[optuna.trial.BaseTrial, Recipe, Collection[str]], Recipe]
"""Function that proposes a candidate recipe.

Its arguments are a trial, whose `suggest_…` methods it calls, the recipe to start from, and the names of the recipe
fields that the user has set. These fields are not searched.
"""

STARTUP_TRIALS = 6
"""Number of trials before TPE starts. They are random, except for predefined first trials."""

WARM_UP = 3
"""Number of epochs before a trial may be pruned. The scores of earlier epochs are poor predictors of later scores."""


@dataclass(frozen=True)
class Found:
    """Result of a search.

    Attributes:
        recipe: recipe of the best trial, for the full training.
        trials: trials in the order in which they started, each with its score (or ``None``), state ("complete" or
            "pruned") and hyperparameters.
        importance: fraction of the variance of the completed trials' scores that each hyperparameter explains, in
            descending order (fANOVA, Hutter et al. 2014). The fractions add up to 1. Empty if there are too few trials
            or all scores are equal.
        earlier_seconds: time that the search took before it was interrupted, in seconds.
    """

    recipe: Recipe
    trials: list[dict[str, Any]]
    importance: dict[str, float]
    earlier_seconds: float


def search(
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    space: Space,
    score: Score,
    *,
    first: Sequence[Mapping[str, Any]] = (),
    asked: Collection[str] = (),
    trials: int | None = None,
    timeout: float | None = None,
    storage: str | Path | None = None,
    show_progress: bool = True,
) -> Found:
    """Search hyperparameters with TPE (Bergstra et al. 2011) and median pruning.

    The same recipe and data always give the same search, even after an interruption.

    Args:
        train, validation: readable photos.
        recipe: recipe that candidates are based on. Its seed is also the seed of the search.
        space: function that proposes a candidate.
        score: function that trains and scores a candidate. It reports each epoch and does not catch
            `optuna.TrialPruned`.
        first: hyperparameters of the first trials.
        asked: names of the recipe fields that are not searched.
        trials: number of trials. ``None`` means no limit if there is a timeout, and `DEFAULT_TRIALS` otherwise.
        timeout: time limit in seconds, after which no new trial starts. Time used before an interruption counts. At
            least one trial is completed.
        storage: file that records the trials, so that an interrupted search can continue. ``None`` records nothing.
        show_progress: whether to draw a progress bar on stderr.

    Raises:
        SettingsError: a setting is out of range, the file is damaged or belongs to another search, or all trials
            failed.
    """
    check_effort(trials, timeout)
    if trials is None and timeout is None:
        trials = DEFAULT_TRIALS
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = _opened(storage, recipe, asked, train, validation)
        with progress_bar(trials, f"{recipe.model} · search", "trial", show_progress) as bar:
            progress = _Progress(study, recipe, lambda trial: space(trial, recipe, asked), first, trials, timeout, bar)
            progress.run(partial(score, train, validation))
        finished = _finished(study)
        if not any(trial.state == TrialState.COMPLETE for trial in finished):
            raise SettingsError("all trials of the search diverged: check the photos, or allow more trials")
        return Found(
            space(optuna.trial.FixedTrial(study.best_params), recipe, asked),
            [_summary(trial) for trial in finished],
            _importance(study, recipe.seed),
            progress.earlier,
        )


class _Progress:
    """A search in progress, which decides what to try next and when to stop."""

    def __init__(
        self,
        study: optuna.Study,
        recipe: Recipe,
        candidate: Callable[[optuna.Trial], Recipe],
        first: Sequence[Mapping[str, Any]],
        trials: int | None,
        timeout: float | None,
        bar: Any,
    ):
        self._study, self._recipe, self._candidate, self._first = study, recipe, candidate, first
        self._trials, self._timeout, self._bar = trials, timeout, bar
        self.earlier = float(study.user_attrs.get("seconds", 0))
        self._start = time.monotonic()
        bar.update(len(_finished(study)))

    def run(self, train: Callable[[Recipe, Report], float]) -> None:
        """Run trials until the search is over."""
        while not self._over():
            trial = self._next()
            try:
                self._study.tell(trial, train(self._candidate(trial), partial(self._report, trial)))
            except optuna.TrialPruned:
                self._study.tell(trial, state=TrialState.PRUNED)
            self._record_time()
            self._bar.update(1)

    def _over(self) -> bool:
        finished = len(_finished(self._study))
        enough = self._trials is not None and finished >= self._trials
        late = self._timeout is not None and self._seconds() >= self._timeout
        return enough or (late and finished > 0)

    def _next(self) -> optuna.Trial:
        finished = _finished(self._study)
        # The seed depends only on the finished trials, so a search gives the same result even if it is interrupted.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=(self._recipe.seed + len(finished)) % 2**32, n_startup_trials=STARTUP_TRIALS, multivariate=True
        )
        untried = [point for point in self._first if not any(_tries(trial, point) for trial in finished)]
        if untried and not self._study.get_trials(False, (TrialState.WAITING,)):
            self._study.enqueue_trial(dict(untried[0]))
        return self._study.ask()

    def _report(self, trial: optuna.Trial, epoch: int, validation_map: float) -> None:
        trial.report(validation_map, epoch)
        self._record_time()
        self._bar.set_description(f"{self._recipe.model} · trial {trial.number + 1} · epoch {epoch + 1}", refresh=False)
        if trial.should_prune():
            raise optuna.TrialPruned

    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self._start

    def _record_time(self) -> None:
        self._study.set_user_attr("seconds", round(self._seconds(), 1))
        complete = self._study.get_trials(False, (TrialState.COMPLETE,))
        if complete:
            self._bar.set_postfix_str(f"best validation mAP {max(t.value or 0 for t in complete):.3f}", refresh=False)


def _opened(
    storage: str | Path | None, recipe: Recipe, asked: Collection[str], train: Dataset, validation: Dataset
) -> optuna.Study:
    """Open the study for this recipe and data, or create a new one."""
    if storage is not None:
        _drop_incomplete_line(Path(storage))
    try:
        kept = None if storage is None else optuna.storages.JournalStorage(journal.JournalFileBackend(str(storage)))
        study = optuna.create_study(
            storage=kept,
            study_name=recipe.model,
            load_if_exists=True,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARM_UP),
        )
    except (ValueError, KeyError) as error:
        raise SettingsError(f"{storage} is damaged ({error}): delete it to start a new search") from None
    searched = {
        "recipe": recipe.to_json(),
        "settings": sorted(asked),
        "train": train.fingerprint,
        "validation": validation.fingerprint,
    }
    before = study.user_attrs.get("searched", searched)
    if before != searched:
        other = [name for name in searched if searched[name] != before.get(name)]
        raise SettingsError(
            f"{storage} belongs to a search with different {', '.join(other)}: "
            "repeat its settings and data, or delete the file"
        )
    study.set_user_attr("searched", searched)
    # Only this process writes to the file, so trials that are still marked as running were interrupted.
    for trial in study.get_trials(False, (TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _drop_incomplete_line(path: Path) -> None:
    """Remove an incomplete last line, which a killed process may leave.

    Optuna would append its next line to the incomplete one.
    """
    if path.exists():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)


def _tries(trial: FrozenTrial, point: Mapping[str, Any]) -> bool:
    """Return whether a trial has the hyperparameters of a point. Hyperparameters that are not searched are ignored."""
    return all(trial.params.get(name, value) == value for name, value in point.items())


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete and pruned trials. Interrupted trials do not count."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _summary(trial: FrozenTrial) -> dict[str, Any]:
    """Return the score, state and hyperparameters of a trial. A pruned trial has the score of its best epoch."""
    score = trial.value if trial.state == TrialState.COMPLETE else max(trial.intermediate_values.values(), default=None)
    return {"score": score, "state": trial.state.name.lower(), **trial.params}


def _importance(study: optuna.Study, seed: int) -> dict[str, float]:
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    try:
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (RuntimeError, ValueError):  # fewer than two trials, or equal scores
        return {}
    return {name: round(float(share), 4) for name, share in shares.items()}

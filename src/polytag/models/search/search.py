"""A search for hyperparameters, whatever the model: Optuna proposes, processes try, one file remembers.

A trial is a cheap stand-in for the full training, judged, and pruned, by validation mAP.
"""

import os
import threading
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import journal
from optuna.trial import FrozenTrial, TrialState

from polytag.data.dataset import Dataset
from polytag.errors import SettingsError
from polytag.models.options import DEFAULT_TRIALS, check_effort
from polytag.models.recipe import Recipe
from polytag.models.search.worker import LostWorkerError, Report, Score, crew
from polytag.progress import progress_bar

Space = Callable[[optuna.trial.BaseTrial, Recipe, Collection[str]], Recipe]
"""From a trial, whose `suggest_…` it calls, the recipe to start from, and the names of its fields that were asked for
and are not up for choice, to the recipe to try."""

STARTUP_TRIALS = 6
"""Trials that are drawn at random before TPE has seen enough, counting those that are given."""


WARM_UP = 3
"""Epochs, from 0, in which no trial is pruned yet: they say little about the later ones."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        recipe: the best trial's, for the full training.
        trials: in the order in which they began, each with score (or ``None``), state ("complete" or "pruned")
            and what was suggested.
        importance: share of each hyperparameter in the variance of the completed trials' scores, most important
            first, 1 in all (fANOVA, Hutter et al. 2014); empty where they are too few or all alike.
        earlier_seconds: what this search took in processes before this one.
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
    workers: int = 1,
    storage: str | Path | None = None,
    show_progress: bool = True,
) -> Found:
    """Search with TPE (Bergstra et al. 2011) and median pruning.

    With one worker the same recipe and data give the same search, be it interrupted or not.

    Args:
        train, validation: readable photos.
        recipe: what candidates start from; its seed counts.
        space: proposes a candidate.
        score: trains a candidate cheaply and gives its validation mAP, 0 to 1; it calls the last of its arguments
            with each epoch and its mAP, and lets `optuna.TrialPruned`, which that may raise, pass. For several
            workers it must be a function of a module.
        first: what is suggested in the first trials.
        asked: the recipe's fields that are not searched.
        trials: how many; ``None`` for as many as the time allows or, without a timeout, `DEFAULT_TRIALS`.
        timeout: seconds, those of earlier processes included, after which no trial is begun; at least one is.
        workers: processes that try at the same time, with the processor's cores shared among them. One that dies
            costs its trial; the others, and in the end this process, do the rest.
        storage: file that keeps the trials, so that a search that was stopped goes on; ``None`` for none.
        show_progress: draw a bar.

    Raises:
        SettingsError: a setting is out of its range, the file is damaged or of another search, or all trials failed.
    """
    check_effort(trials, timeout, workers)
    if trials is None and timeout is None:
        trials = DEFAULT_TRIALS
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = _opened(storage, recipe, asked, train, validation)
        with progress_bar(trials, f"{recipe.model} · search", "trial", show_progress) as bar:
            course = _Course(study, recipe, lambda trial: space(trial, recipe, asked), first, trials, timeout, bar)
            if workers > 1 and not course.over():
                # Left in this order, an interruption first ends the processes, then the threads that wait for them.
                with ThreadPoolExecutor(workers) as threads, crew(train, validation, score, workers) as processes:
                    list(threads.map(course.run, processes))
            course.run(partial(score, train, validation))
        finished = _finished(study)
        if not any(trial.state == TrialState.COMPLETE for trial in finished):
            raise SettingsError("every trial of the search diverged: look at the photos, or allow more trials")
        return Found(
            space(optuna.trial.FixedTrial(study.best_params), recipe, asked),
            [_told(trial) for trial in finished],
            _importance(study, recipe.seed),
            course.earlier,
        )


class _Course:
    """The course of a search, from as many threads as there are workers: what is tried next, and when it is over."""

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
        self._lock = threading.Lock()
        self.earlier = float(study.user_attrs.get("seconds", 0))
        self._start = time.monotonic()
        bar.update(len(_finished(study)))

    def over(self) -> bool:
        """Whether no other trial is to begin."""
        begun = self._begun()
        enough = self._trials is not None and len(begun) >= self._trials
        late = self._timeout is not None and self._seconds() >= self._timeout
        return enough or (late and len(begun) > 0)

    def run(self, trainer: Callable[[Recipe, Report], float]) -> None:
        """Try one candidate after the other until the search is over or the trainer is lost."""
        while (proposed := self._next()) is not None:
            trial, candidate = proposed
            try:
                self._study.tell(trial, trainer(candidate, partial(self._report, trial)))
            except optuna.TrialPruned:
                self._study.tell(trial, state=TrialState.PRUNED)
            except LostWorkerError:
                self._study.tell(trial, state=TrialState.FAIL)
                return
            self._keep_time()
            self._bar.update(1)

    def _next(self) -> tuple[optuna.Trial, Recipe] | None:
        with self._lock:
            if self.over():
                return None
            begun = self._begun()
            # What is drawn depends on what has been tried alone, so that after a stop the search takes the same course:
            # a trial that was lost is drawn again, and no two that count are drawn alike.
            draws = {trial.user_attrs.get("draw") for trial in begun}
            draw = next(number for number in count() if number not in draws)
            self._study.sampler = optuna.samplers.TPESampler(
                seed=(self._recipe.seed + draw) % 2**32,
                n_startup_trials=STARTUP_TRIALS,
                multivariate=True,
                constant_liar=True,
            )
            untried = [point for point in self._first if not any(_is_at(trial, point) for trial in begun)]
            if untried and not self._study.get_trials(False, (TrialState.WAITING,)):
                self._study.enqueue_trial(dict(untried[0]))
            trial = self._study.ask()
            trial.set_user_attr("draw", draw)
            return trial, self._candidate(trial)

    def _report(self, trial: optuna.Trial, epoch: int, validation_map: float) -> None:
        trial.report(validation_map, epoch)
        self._keep_time()
        self._bar.set_description(f"{self._recipe.model} · trial {trial.number + 1} · epoch {epoch + 1}", refresh=False)
        if trial.should_prune():
            raise optuna.TrialPruned

    def _begun(self) -> list[FrozenTrial]:
        return self._study.get_trials(False, (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING))

    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self._start

    def _keep_time(self) -> None:
        self._study.set_user_attr("seconds", round(self._seconds(), 1))
        complete = self._study.get_trials(False, (TrialState.COMPLETE,))
        if complete:
            self._bar.set_postfix_str(f"best validation mAP {max(t.value or 0 for t in complete):.3f}", refresh=False)


def _opened(
    storage: str | Path | None, recipe: Recipe, asked: Collection[str], train: Dataset, validation: Dataset
) -> optuna.Study:
    """The study of this recipe and these data in the file, a new one where there is none."""
    if storage is not None:
        _drop_torn_line(Path(storage))
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
        raise SettingsError(f"{storage} is damaged ({error}): delete it, and the search starts anew") from None
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
            f"{storage} holds a search with other {', '.join(other)}: repeat them, or delete it to search anew"
        )
    study.set_user_attr("searched", searched)
    # This process alone tells the file, so what it says is running was interrupted.
    for trial in study.get_trials(False, (TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _drop_torn_line(path: Path) -> None:
    """Cut off the last line of the file where a kill left half of one: Optuna would write its next line behind it."""
    if path.exists():
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)


def _is_at(trial: FrozenTrial, point: Mapping[str, Any]) -> bool:
    """Whether a trial tries a point; of what is not searched it may say anything."""
    return all(trial.params.get(name, value) == value for name, value in point.items())


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that ran to their end or were pruned; one that was interrupted does not count."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _told(trial: FrozenTrial) -> dict[str, Any]:
    """A trial in words and figures; a pruned one's score is the best that it had reached."""
    score = trial.value if trial.state == TrialState.COMPLETE else max(trial.intermediate_values.values(), default=None)
    return {"score": score, "state": trial.state.name.lower(), **trial.params}


def _importance(study: optuna.Study, seed: int) -> dict[str, float]:
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    try:
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (RuntimeError, ValueError):  # fewer than two trials, or all of the same score
        return {}
    return {name: round(float(share), 4) for name, share in shares.items()}

"""Hyperparameter search for any model. Optuna proposes trials, and a file records them.

A trial is a short training run. Its score is support-weighted validation mAP. Poor trials may be pruned.
With a database, any number of processes share one search (see `polytag.models.search.shared`).
"""

import os
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
from polytag.evaluation.selection import VALIDATION_SCORE
from polytag.models.options import DEFAULT_TRIALS, check_effort
from polytag.models.recipe import Recipe
from polytag.models.search.shared import SharedTrials, open_shared, reporting_outages
from polytag.models.search.trials import STARTUP_TRIALS, Report, Trials, finished_trials
from polytag.progress import progress_bar

Score = Callable[[Dataset, Dataset, Recipe, Report], float]
"""Function that trains a candidate on the first data set and returns its support-weighted mAP on the second, 0 to 1."""

Space = Callable[[optuna.trial.BaseTrial, Recipe, Collection[str]], Recipe]
"""Function that proposes a candidate recipe.

Its arguments are a trial, whose `suggest_…` methods it calls, the recipe to start from, and the names of the recipe
fields that the user has set. These fields are not searched.
"""

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

    The same recipe and data always give the same search, even after an interruption. A search that processes share
    depends on their speed, but all of them return the same result.

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
        storage: file that records the trials, so that an interrupted search can continue, or URL of a database, so that
            several processes share the search. ``None`` records nothing.
        show_progress: whether to draw a progress bar on stderr.

    Raises:
        SettingsError: a setting is out of range, the file is damaged or belongs to another search, or all trials
            failed.
        MachineError: the database cannot be reached.
    """
    check_effort(trials, timeout)
    if trials is None and timeout is None:
        trials = DEFAULT_TRIALS
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = storage if isinstance(storage, str) and "://" in storage else None
    with warnings.catch_warnings(), reporting_outages(url):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        searched = {
            "recipe": recipe.to_json(),
            "settings": sorted(asked),
            "train": train.fingerprint,
            "validation": validation.fingerprint,
            "score": VALIDATION_SCORE,
        }
        pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARM_UP)
        with progress_bar(trials, f"{recipe.model} · search", "trial", show_progress) as bar:
            progress: Trials
            if url is None:
                study = _opened(storage, recipe.model, searched, pruner)
                progress = Trials(study, recipe, first, trials, timeout, bar)
            else:
                study, kept = open_shared(url, recipe.model, searched, pruner, first)
                progress = SharedTrials(study, recipe, first, trials, timeout, bar, kept)
            progress.run(lambda trial: space(trial, recipe, asked), partial(score, train, validation))
        finished = finished_trials(study)
        complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
        if not complete:
            raise SettingsError("all trials of the search diverged: check the photos, or allow more trials")
        # Of equal trials, databases return any as the best. All processes must choose the same.
        best = max(complete, key=lambda trial: (trial.value, -trial.number))
        return Found(
            space(optuna.trial.FixedTrial(best.params), recipe, asked),
            [_summary(trial) for trial in finished],
            _importance(study, recipe.seed),
            progress.earlier,
        )


def _opened(
    storage: str | Path | None, model: str, searched: dict[str, Any], pruner: optuna.pruners.BasePruner
) -> optuna.Study:
    """Open the study in a file, or create a new one."""
    if storage is not None:
        _drop_incomplete_line(Path(storage))
    try:
        kept = None if storage is None else optuna.storages.JournalStorage(journal.JournalFileBackend(str(storage)))
        study = optuna.create_study(
            storage=kept, study_name=model, load_if_exists=True, direction="maximize", pruner=pruner
        )
    except (ValueError, KeyError) as error:
        raise SettingsError(f"{storage} is damaged ({error}): delete it to start a new search") from None
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

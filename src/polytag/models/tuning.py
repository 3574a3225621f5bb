"""The search for hyperparameters of the tuned CNN, with Optuna.

Trials are a cheap stand-in for the full training: fewer photos and few epochs. The best trial's
hyperparameters are then trained in full. Trials are judged by validation mAP, and pruned by it.
"""

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import journal

from polytag.data.dataset import Dataset
from polytag.data.progress import progress_bar
from polytag.errors import SettingsError
from polytag.evaluation.contest import VALIDATION_SCORE
from polytag.models.architectures import MODELS
from polytag.models.backend import keras
from polytag.models.fitting import photo_batches, run
from polytag.models.recipe import Recipe

SEARCH_PHOTOS = 2000
"""Most training photos in a trial."""

SPACE: dict[str, tuple] = {
    "filters1": (32, 16, 64),
    "filters2": (64, 32, 128),
    "filters3": (128, 64, 256),
    "pooling": ("flatten", "average", "max"),
    "dense": (256, 128, 512),
    "dropout": (0.5, 0.3, 0.7),
    "learning_rate": (1e-4, 5e-4, 1e-3),
    "weight_decay": (0.0, 1e-3, 1e-2),
    "augmentation": ("none", "flip", "crop"),
}
"""What is searched, besides `reductions`. The first values are the baseline's, and make the first trial."""


def reductions(image_size: int) -> tuple[int, ...]:
    """By how much photos may be reduced before the first block: to a side of 48 to 128 pixels.

    A small network trained from scratch on some thousand photos gains nothing from more, and a trial costs
    a quarter or a sixteenth.
    """
    return tuple(r for r in (1, 2, 4, 8) if 48 <= image_size // r <= 128) or (1,)


def search(
    train: Dataset, validation: Dataset, recipe: Recipe, n_trials: int, log: str | Path | None, show_progress: bool
) -> tuple[Recipe, list[dict[str, Any]], float]:
    """Search with TPE (Bergstra et al. 2011) and median pruning.

    Args:
        train, validation: readable photos.
        recipe: of the model; its seed and epochs count.
        n_trials: how many.
        log: file that keeps the trials, so that a search that was stopped goes on; ``None`` for none.
        show_progress: draw a bar.

    Returns:
        The recipe with the best trial's hyperparameters, for the full training; all trials in words and
        figures; and the seconds that trials from before a stop had taken.

    Raises:
        SettingsError: the log is damaged, or all trials failed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = SPACE | {"reduce": reductions(recipe.image_size)}
    epochs = min(recipe.epochs, max(2, -(-recipe.epochs // 3)))
    rows = np.sort(np.random.default_rng(recipe.seed).permutation(len(train))[:SEARCH_PHOTOS])
    small = train.take(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        _drop_torn_line(log)
        try:
            storage = None if log is None else optuna.storages.JournalStorage(journal.JournalFileBackend(str(log)))
            study = optuna.create_study(
                storage=storage,
                study_name="tuned",
                load_if_exists=True,
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1),
            )
        except (ValueError, KeyError) as error:
            raise SettingsError(f"{log} is damaged ({error}): delete it, and the search starts anew") from None
    before = _finished(study)
    # After a stop the sampler must not draw again what it drew at first.
    study.sampler = optuna.samplers.TPESampler(seed=recipe.seed + len(before), n_startup_trials=4)
    first = {name: values[0] for name, values in space.items()}
    if not any(trial.params == first for trial in before):
        study.enqueue_trial(first)
    steps = -(-len(small) // recipe.batch_size) * epochs

    with progress_bar(n_trials * steps, "tuned", "step", show_progress) as bar:
        bar.update(len(before) * steps)

        def objective(trial: optuna.Trial) -> float:
            chosen = {name: trial.suggest_categorical(name, values) for name, values in space.items()}
            candidate = replace(_with(recipe, chosen), epochs=epochs)
            return _score(small, validation, candidate, trial, bar, f"tuned · trial {trial.number + 1}/{n_trials}")

        study.optimize(objective, n_trials=max(0, n_trials - len(before)))
    trials = [
        {"score": t.value if t.value is not None else max(t.intermediate_values.values(), default=None)}
        | {"state": t.state.name.lower(), **t.params}
        for t in _finished(study)
    ]
    if all(trial["state"] != "complete" for trial in trials):
        raise SettingsError("every trial of the search diverged: look at the photos, or add --trials")
    earlier = sum(t.duration.total_seconds() for t in before if t.duration is not None)
    return _with(recipe, study.best_params), trials, earlier


def _drop_torn_line(log: str | Path | None) -> None:
    """Cut off the last line of the log where a kill left half of one: Optuna would write its next line behind it."""
    if log is not None and Path(log).exists():
        content = Path(log).read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(log, content.rfind(b"\n") + 1)


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that ran to their end or were pruned; one that was interrupted does not count."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return study.get_trials(deepcopy=False, states=states)


def _with(recipe: Recipe, chosen: dict[str, Any]) -> Recipe:
    """The recipe with what a trial chose: some are its own fields, the rest goes to the architecture."""
    own = ("learning_rate", "weight_decay", "augmentation")
    hyperparameters = {name: value for name, value in chosen.items() if name not in own}
    return replace(recipe, hyperparameters=hyperparameters, **{name: chosen[name] for name in own})


def _score(train: Dataset, validation: Dataset, recipe: Recipe, trial: optuna.Trial, bar: Any, title: str) -> float:
    """Validation mAP of one trial, its best epoch's."""

    class Prune(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            trial.report(logs[VALIDATION_SCORE], epoch)
            self.model.stop_training |= trial.should_prune()

    keras.utils.set_random_seed(recipe.seed)
    network = MODELS[recipe.model](len(train.labels), recipe.image_size, **recipe.hyperparameters)
    batches, judged = photo_batches(train, recipe, True), photo_batches(validation, recipe, False)
    try:
        history = run(network, batches, judged, recipe, bar, title, callbacks=[Prune()])
    except SettingsError:
        # Its learning rate was too high: a bad trial, not the end of the search.
        raise optuna.TrialPruned from None
    keras.backend.clear_session()
    if len(history) < recipe.epochs and trial.should_prune():
        raise optuna.TrialPruned
    return max(epoch[VALIDATION_SCORE] for epoch in history)

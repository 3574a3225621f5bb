"""The recipe: everything that training a model depends on besides the data. Flat and frozen."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from polytag.errors import SettingsError

AUGMENTATIONS = ("none", "flip", "crop", "colour")
"""Random changes to training photos, each with those before it: nothing; mirrored left to right, for half of the
photos; cropped to a random region; brightness, contrast and tint shifted by up to 20 %."""

LOSS_NAMES = ("bce", "weighted_bce", "focal", "asymmetric")
"""Names of the losses in `polytag.models.training.losses`, which needs Keras."""

MODEL_NAMES = ("baseline", "tuned", "transfer")
"""The models compared by default, in the order of the tables."""

CLASSICAL = ("binary_relevance", "chains", "powerset", "rakel", "mlknn")
"""Methods on frozen embeddings, trained without epochs: `polytag.models.classical.methods`."""

ALL_MODELS = (*MODEL_NAMES, *CLASSICAL)
"""Every model that can be trained."""

_ONLY_NETWORKS = ("epochs", "batch_size", "learning_rate", "weight_decay", "augmentation", "loss", "fine_tune")

SEARCHED = ("tuned", "transfer")
"""Models with a hyperparameter search; `polytag.models.search.spaces.SPACES` defines what is searched."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "baseline": {"epochs": 15, "batch_size": 32, "learning_rate": 1e-4},
    "tuned": {"epochs": 60, "batch_size": 32, "augmentation": "crop"},
    "transfer": {
        "epochs": 60,
        "batch_size": 128,
        "learning_rate": 7e-4,
        "weight_decay": 1e-2,
        "augmentation": "colour",
    },
    **{name: {} for name in CLASSICAL},
}
"""Settings of each model that differ from the defaults of `Recipe`.

- ``baseline``: with Adam's usual learning rate of 1e-3, its dense layer (86,528 inputs at 224 px) dies in the first
  steps, which would flatter every other model.
- ``tuned``: many epochs on smaller photos, cropped anew in each epoch, gain more than any layer size. The gain
  appears too late for short trials to find it.
- ``transfer``: an epoch of the head takes about a second on cached embeddings, so many are allowed. Early stopping
  ends training when validation mAP no longer rises.
"""


def takes(model: str, setting: str) -> bool:
    """Whether a model uses a setting."""
    if model in CLASSICAL:
        return setting not in _ONLY_NETWORKS
    return model == "transfer" or setting not in ("fine_tune", "backbone")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Make one with `Recipe.of`, which knows each model's defaults.

    Attributes:
        model: one of `ALL_MODELS`.
        image_size: width and height of the photos for the model, in pixels, 32 to 1024. Above 224, fine-tuning uses
            smaller photos.
        epochs: maximum number of passes over the training photos.
        batch_size: photos per step. Fine-tuning uses at most 32.
        learning_rate: initial learning rate of Adam. For transfer, that of the head: fine-tuning has its own.
        weight_decay: decoupled weight decay (AdamW). For transfer, that of the head.
        augmentation: one of `AUGMENTATIONS`. For transfer, that of fine-tuning: its head is trained on embeddings of
            unaugmented photos.
        loss: one of `LOSS_NAMES`.
        backbone: "mobilenet_v2", "efficientnet_lite0", or a network of ``keras.applications`` (transfer and the
            classical methods).
        fine_tune: epochs that also train the backbone, after the head (transfer). ``None``: enough to process about
            12,000 photos, 1 to 8, which takes minutes and helps small data sets most. From 12 epochs on, several
            trainings share them and their weights are averaged.
        seed: seed of every random choice, 0 to 2³² − 1.
        hyperparameters: keyword arguments of the network, or the choices of a classical method.
    """

    model: str
    image_size: int = 224
    epochs: int = 15
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    augmentation: str = "none"
    loss: str = "bce"
    backbone: str = "mobilenet_v2"
    fine_tune: int | None = None
    seed: int = 0
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: str, **settings: Any) -> "Recipe":
        """Make a recipe from the model's defaults and the settings that are not ``None``.

        Raises:
            SettingsError: an unknown model or setting, or a value out of its range.
        """
        if model not in ALL_MODELS:
            raise SettingsError(f"the model must be one of {', '.join(ALL_MODELS)}, not '{model}'")
        known = {one.name for one in fields(cls)} - {"model"}
        for name in settings:
            if name not in known:
                raise SettingsError(f"there is no setting '{name}'. Choose from {', '.join(sorted(known))}.")
            if settings[name] is not None and not takes(model, name):
                raise SettingsError(f"{name.replace('_', ' ')} means nothing to {model}. Leave it out.")
        return cls(model=model, **(DEFAULTS[model] | {k: v for k, v in settings.items() if v is not None}))

    def __post_init__(self) -> None:
        for name, low, high in (
            ("image_size", 32, 1024),
            ("epochs", 1, 10_000),
            ("batch_size", 1, 4096),
            ("learning_rate", 1e-8, 10),
            ("weight_decay", 0, 10),
            ("fine_tune", 0, 10_000),
            ("seed", 0, 2**32 - 1),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise SettingsError(f"{name.replace('_', ' ')} must be from {low:g} to {high:g}, not {value}")
        for name, known in (("augmentation", AUGMENTATIONS), ("loss", LOSS_NAMES)):
            if getattr(self, name) not in known:
                raise SettingsError(f"{name} must be one of {', '.join(known)}, not '{getattr(self, name)}'")

    def to_json(self) -> dict[str, Any]:
        """Return the fields that the model uses, as a dictionary."""
        values = asdict(self) | {"hyperparameters": dict(self.hyperparameters)}
        return {name: value for name, value in values.items() if takes(self.model, name)}

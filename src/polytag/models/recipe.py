"""Recipe: everything that training a model depends on besides the data, flat and frozen."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from polytag.errors import SettingsError

AUGMENTATIONS = ("none", "flip", "crop", "colour")
"""No change; mirrored left to right half of the time; that, and a random part of the area; that, and brightness,
contrast and tint moved by up to a fifth."""

LOSS_NAMES = ("bce", "weighted_bce", "focal", "asymmetric")
"""Of `polytag.models.training.losses`, which needs Keras."""

MODEL_NAMES = ("baseline", "tuned", "transfer")
"""The approaches that polytag compares unless others are named, in the order of its tables."""

CLASSICAL = ("binary_relevance", "chains", "powerset", "rakel", "mlknn")
"""Methods on frozen embeddings that need no training in epochs: `polytag.models.classical.methods`."""

ALL_MODELS = (*MODEL_NAMES, *CLASSICAL)

_ONLY_NETWORKS = ("epochs", "batch_size", "learning_rate", "weight_decay", "augmentation", "loss", "fine_tune")

SEARCHED = ("tuned", "transfer")
"""Those whose hyperparameters can be searched: `polytag.models.search.spaces.SPACES` says how."""

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
"""What a recipe takes where nothing is said.

With Adam's usual 1e-3 the baseline's dense layer, which has 86,528 inputs at 224 px, dies in the first steps:
a comparison with that would flatter every other model. What is tuned sees smaller photos, cropped anew in each
epoch, for many epochs: that is worth more than any size of its layers, and shows too late for short trials to find
it. An epoch of transfer's head on cached embeddings takes a second, so it may have many; early stopping ends training
when validation mAP no longer rises.
"""


def takes(model: str, setting: str) -> bool:
    """Whether a setting means anything to a model."""
    if model in CLASSICAL:
        return setting not in _ONLY_NETWORKS
    return model == "transfer" or setting not in ("fine_tune", "backbone")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; make one with `Recipe.of`.

    Attributes:
        model: one of `ALL_MODELS`.
        image_size: side of the square that photos are brought to, in pixels; 32 to 1024. Fine-tuning trains on
            smaller ones beyond 224.
        epochs: passes over the training photos, at most.
        batch_size: photos in a step; in fine-tuning at most 32.
        learning_rate: of Adam, at the start; of transfer's head, as fine-tuning has its own rates.
        weight_decay: decoupled (AdamW), per step times the learning rate; likewise.
        augmentation: one of `AUGMENTATIONS`; of transfer that of fine-tuning, since its head sees photos as they are.
        loss: one of `LOSS_NAMES`.
        backbone: "mobilenet_v2", "efficientnet_lite0", or a network of ``keras.applications`` (transfer and the
            classical methods).
        fine_tune: epochs in which the backbone is trained as well, after its head (transfer); ``None`` for
            as many as make up 12,000 photos, 1 to 8: that costs minutes, and a small set gains most. From 12 on they
            are several trainings, whose weights are averaged.
        seed: of everything that is drawn.
        hyperparameters: keyword arguments of the architecture; what a classical method has chosen.
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
        """A recipe with the model's defaults; settings that are ``None`` keep them.

        Raises:
            SettingsError: an unknown model or setting, or a value out of its range.
        """
        if model not in ALL_MODELS:
            raise SettingsError(f"the model must be one of {', '.join(ALL_MODELS)}, not '{model}'")
        known = {f.name for f in fields(cls)} - {"model"}
        for name in settings:
            if name not in known:
                raise SettingsError(f"there is no setting '{name}'; there are {', '.join(sorted(known))}")
            if settings[name] is not None and not takes(model, name):
                raise SettingsError(f"{name.replace('_', ' ')} means nothing to {model}: leave it out")
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
        """The fields that mean something to the model, as a dictionary."""
        values = asdict(self) | {"hyperparameters": dict(self.hyperparameters)}
        return {name: value for name, value in values.items() if takes(self.model, name)}

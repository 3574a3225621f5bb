"""Recipes. A recipe contains all settings that training a model depends on, but not the data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from polytag.errors import SettingsError

AUGMENTATIONS = ("none", "flip", "crop", "colour")
"""Random changes to training photos. Each level includes the previous ones.

- ``none``: photos are not changed.
- ``flip``: half of the photos are mirrored left to right.
- ``crop``: each photo is cropped to a random region.
- ``colour``: brightness, contrast and tint are changed by up to 20%.
"""

LOSS_NAMES = ("bce", "weighted_bce", "focal", "asymmetric")
"""Names of the losses in `polytag.models.training.losses`, listed here because that module needs Keras."""

MODEL_NAMES = ("baseline", "tuned", "transfer")
"""Models that are compared by default, in the order of the result tables."""

CLASSICAL = ("binary_relevance", "chains", "powerset", "rakel", "mlknn")
"""Methods that are fitted to frozen embeddings and need no epochs (see `polytag.models.classical.methods`)."""

ALL_MODELS = (*MODEL_NAMES, "best", *CLASSICAL)
"""All models that can be trained. "best" is transfer with a larger backbone and everything that improves it."""

BEST_BACKBONES = ("efficientnet_lite2", "efficientnet_lite1", "efficientnet_lite0", "mobilenet_v2")
"""Backbones for "best". The first one whose weights are installed is used."""

_ONLY_NETWORKS = ("epochs", "batch_size", "learning_rate", "weight_decay", "augmentation", "loss", "fine_tune")

SEARCHED = ("tuned", "transfer")
"""Models with a hyperparameter search. `polytag.models.search.spaces.SPACES` defines the search spaces."""

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
    "best": {
        "image_size": 288,
        "epochs": 60,
        "batch_size": 128,
        "learning_rate": 7e-4,
        "weight_decay": 1e-2,
        "augmentation": "colour",
        "backbone": BEST_BACKBONES[0],
    },
    **{name: {} for name in CLASSICAL},
}
"""Default settings of each model. They override the defaults of `Recipe`.

- ``baseline``: With Adam's usual learning rate of 1e-3, the units of the dense layer (86,528 inputs at 224 px) die in
  the first steps. A baseline that fails would make every other model look better than it is.
- ``tuned``: Training for many epochs on smaller, randomly cropped photos improves scores more than any layer size. The
  improvement appears too late for short trials to detect it.
- ``transfer``: The head trains on cached embeddings and needs only about a second per epoch, so the maximum is high.
  Early stopping ends training when the support-weighted validation mAP stops improving.
- ``best``: At 288 px, small objects are recognised better (`benchmarks/candidates.py`).
"""


def takes(model: str, setting: str) -> bool:
    """Return whether a model uses a setting."""
    if model in CLASSICAL:
        return setting not in _ONLY_NETWORKS
    return model in ("transfer", "best") or setting not in ("fine_tune", "backbone")


def fine_tuning_size(image_size: int) -> int:
    """Return the width and height of the photos for fine-tuning a model that tags photos at ``image_size``, in pixels.

    Objects look larger in random crops than in whole photos. A network therefore tags best at a larger size than the
    one it was trained at (Touvron et al. 2019, "Fixing the train-test resolution discrepancy"). Above 224 px, the size
    at which backbones are pretrained, fine-tuning uses about seven ninths of the size and three fifths of the time.
    """
    return max(min(image_size, 224), 32 * round(image_size * 7 / 9 / 32))


@dataclass(frozen=True)
class Recipe:
    """Settings for training a model. Use `Recipe.of` to create a recipe with the model's defaults.

    Attributes:
        model: one of `ALL_MODELS`.
        image_size: width and height to which photos are resized, in pixels, 32 to 1024. Above 224, fine-tuning uses
            smaller photos.
        epochs: maximum number of passes over the training photos.
        batch_size: photos per step. Fine-tuning uses at most 32 on each device.
        learning_rate: initial learning rate for Adam. For transfer, it applies to the head only.
        weight_decay: decoupled weight decay (AdamW). For transfer, it applies to the head only.
        augmentation: one of `AUGMENTATIONS`. For transfer, it applies to fine-tuning only, because the head is trained
            on embeddings of unaugmented photos.
        loss: one of `LOSS_NAMES`.
        backbone: "mobilenet_v2", "efficientnet_lite0" to "efficientnet_lite2", or the name of a ``keras.applications``
            network (transfer and the classical methods only).
        fine_tune: number of epochs that fine-tune the backbone after the head has been trained (transfer and best).
            ``None`` chooses enough epochs to process about 12,000 photos (1 to 8). They take minutes and help small
            data sets most. Twelve or more epochs are divided among several training runs, whose weights are averaged.
        seed: seed for all random choices, 0 to 2³² − 1.
        hyperparameters: keyword arguments of the network, or hyperparameters that a classical method has chosen.
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
        """Create a recipe from the model's defaults and the settings that are not ``None``.

        Raises:
            SettingsError: the model or a setting is unknown, the model does not use a setting, or a value is out of
                range.
        """
        if model not in ALL_MODELS:
            raise SettingsError(f"the model must be one of {', '.join(ALL_MODELS)}, not '{model}'")
        known = {one.name for one in fields(cls)} - {"model"}
        for name in settings:
            if name not in known:
                raise SettingsError(f"there is no setting '{name}'. Choose from {', '.join(sorted(known))}.")
            if settings[name] is not None and not takes(model, name):
                raise SettingsError(f"{name.replace('_', ' ')} has no effect on {model}. Omit it.")
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
        """Return a dictionary of the fields that the model uses."""
        values = asdict(self) | {"hyperparameters": dict(self.hyperparameters)}
        return {name: value for name, value in values.items() if takes(self.model, name)}

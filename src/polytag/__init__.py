"""polytag: tag photos that carry several labels at once, and know how well it works.

>>> import polytag as pt
>>> data = pt.read_csv("photos/labels.csv")
>>> train, validation, test = pt.split(data)
>>> bundle = pt.fit(train, validation, model="transfer")
>>> print(pt.evaluate(bundle, test))
>>> bundle.tag("photo.jpg")

Importing polytag imports neither Keras nor TensorFlow; `fit` and `compare` do when they are first used.
"""

from typing import TYPE_CHECKING, Any

from polytag.data.dataset import Dataset
from polytag.data.readers import read_csv
from polytag.data.sample import write_sample
from polytag.data.split import leaks, split, write_split
from polytag.errors import (
    BundleError,
    ConflictError,
    DataError,
    ImageError,
    PolytagError,
    SettingsError,
    WeightsError,
)
from polytag.evaluation.evaluation import Difference, Evaluation, differences, evaluate
from polytag.models.bundle import Bundle
from polytag.models.recipe import Recipe

if TYPE_CHECKING:
    from polytag.models.comparison import Comparison, compare
    from polytag.models.training import fit

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "BundleError",
    "Comparison",
    "ConflictError",
    "DataError",
    "Dataset",
    "Difference",
    "Evaluation",
    "ImageError",
    "PolytagError",
    "Recipe",
    "SettingsError",
    "WeightsError",
    "compare",
    "differences",
    "evaluate",
    "fit",
    "leaks",
    "read_csv",
    "split",
    "write_sample",
    "write_split",
]


def __getattr__(name: str) -> Any:
    if name == "fit":
        from polytag.models.training import fit

        return fit
    if name in ("compare", "Comparison"):
        from polytag.models import comparison

        return getattr(comparison, name)
    raise AttributeError(f"module 'polytag' has no attribute '{name}'")

"""polytag: tag photos that carry several labels at once, and know how well it works.

>>> import polytag as pt
>>> data = pt.read("photos/labels.csv")
>>> train, validation, test = pt.split(data)
>>> bundle = pt.fit(train, validation, model="transfer")
>>> print(pt.evaluate(bundle, test))
>>> bundle.tag("photo.jpg")

Importing polytag imports neither Keras nor TensorFlow nor Matplotlib: what needs them is imported when it is
first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polytag.data.dataset import Dataset
from polytag.data.readers import read
from polytag.data.sample import write_sample
from polytag.data.split import keep_together, leaks, shares, split, write_split
from polytag.data.writers import write_table
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
    from polytag.data.audit import Audit, audit
    from polytag.data.explore import explore
    from polytag.models.comparison import Comparison, compare
    from polytag.models.training import fit

__version__ = "0.1.0"

__all__ = [
    "Audit",
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
    "audit",
    "compare",
    "differences",
    "evaluate",
    "explore",
    "fit",
    "keep_together",
    "leaks",
    "read",
    "shares",
    "split",
    "write_sample",
    "write_split",
    "write_table",
]

_LATER = {
    "Audit": "data.audit",
    "Comparison": "models.comparison",
    "audit": "data.audit",
    "compare": "models.comparison",
    "explore": "data.explore",
    "fit": "models.training",
}
"""Names that are imported when they are first used, and the modules that have them."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"polytag.{_LATER[name]}"), name)
    raise AttributeError(f"module 'polytag' has no attribute '{name}'")

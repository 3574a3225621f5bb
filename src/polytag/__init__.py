"""polytag: tag photos that carry several labels at once, and know how well it works.

>>> import polytag as pt
>>> data = pt.read("photos/labels.csv")
>>> train, validation, test = pt.split(data)
>>> bundle = pt.fit(train, validation, model="transfer")
>>> print(pt.evaluate(bundle, test))
>>> bundle.tag("photo.jpg")

Importing polytag imports next to nothing: what a name needs is imported when the name is first used, so tagging a
photo waits neither for Keras and TensorFlow nor for pandas and scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polytag.errors import (
    BundleError,
    ConflictError,
    DataError,
    ImageError,
    PolytagError,
    SettingsError,
    WeightsError,
)

if TYPE_CHECKING:
    from polytag.data.audit import Audit, audit
    from polytag.data.dataset import Dataset
    from polytag.data.explore import explore
    from polytag.data.readers import read
    from polytag.data.sample import write_sample
    from polytag.data.split import keep_together, leaks, shares, split, write_split
    from polytag.data.writers import write_table
    from polytag.evaluation.evaluation import Difference, Evaluation, differences, evaluate
    from polytag.models.bundle import Bundle
    from polytag.models.comparison import Comparison, compare
    from polytag.models.recipe import Recipe
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

_MODULES = {
    "data.audit": ("Audit", "audit"),
    "data.dataset": ("Dataset",),
    "data.explore": ("explore",),
    "data.readers": ("read",),
    "data.sample": ("write_sample",),
    "data.split": ("keep_together", "leaks", "shares", "split", "write_split"),
    "data.writers": ("write_table",),
    "evaluation.evaluation": ("Difference", "Evaluation", "differences", "evaluate"),
    "models.bundle": ("Bundle",),
    "models.comparison": ("Comparison", "compare"),
    "models.recipe": ("Recipe",),
    "models.training": ("fit",),
}
"""Where the names are that are imported when they are first used."""

_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"polytag.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'polytag' has no attribute '{name}'")

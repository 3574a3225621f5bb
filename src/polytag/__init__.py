"""polytag tags photos with several labels and measures how well it works.

>>> import polytag as pt
>>> data = pt.read("photos/labels.csv")
>>> train, validation, test = pt.split(data)
>>> bundle = pt.fit(train, validation, model="transfer")
>>> print(pt.evaluate(bundle, test))
>>> bundle.tag("photo.jpg")

Importing polytag is fast because each name is imported only when it is first used. For example, tagging a photo imports
neither Keras and TensorFlow nor pandas and scikit-learn.
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
from polytag.extras import missing

if TYPE_CHECKING:
    from polytag.auditing.audit import Audit, audit
    from polytag.comparison.compare import Comparison, compare
    from polytag.data.dataset import Dataset
    from polytag.data.reading.read import read
    from polytag.data.reading.write import write_table
    from polytag.data.reading.writing.forms import write
    from polytag.data.sample.scenes import write_sample
    from polytag.data.splitting.groups import keep_together, leaks
    from polytag.data.splitting.split import shares, split
    from polytag.data.splitting.split_file import write_split
    from polytag.evaluation.evaluate import Difference, Evaluation, differences, evaluate
    from polytag.exploring.explore import explore
    from polytag.models.bundle.bundle import Bundle
    from polytag.models.fit import fit
    from polytag.models.recipe import Recipe

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
    "write",
    "write_sample",
    "write_split",
    "write_table",
]

_MODULES = {
    "auditing.audit": ("Audit", "audit"),
    "comparison.compare": ("Comparison", "compare"),
    "data.dataset": ("Dataset",),
    "data.reading.read": ("read",),
    "data.reading.write": ("write_table",),
    "data.reading.writing.forms": ("write",),
    "data.sample.scenes": ("write_sample",),
    "data.splitting.groups": ("keep_together", "leaks"),
    "data.splitting.split": ("shares", "split"),
    "data.splitting.split_file": ("write_split",),
    "evaluation.evaluate": ("Difference", "Evaluation", "differences", "evaluate"),
    "exploring.explore": ("explore",),
    "models.bundle.bundle": ("Bundle",),
    "models.fit": ("fit",),
    "models.recipe": ("Recipe",),
}
"""The public names in each module. Each name is imported when it is first used."""

_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        try:
            return getattr(import_module(f"polytag.{_PLACES[name]}"), name)
        except ModuleNotFoundError as error:
            raise missing(error) or error from None
    raise AttributeError(f"module 'polytag' has no attribute '{name}'")

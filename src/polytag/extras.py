"""Optional dependencies, and the one line that says how to install them."""

from importlib.util import find_spec

from polytag.errors import SettingsError

EXTRAS = {
    "ai_edge_litert": "export",
    "kagglehub": "kaggle",
    "keras": "train",
    "openpyxl": "xlsx",
    "openvino": "export",
    "optuna": "train",
    "scipy": "train",
    "sklearn": "train",
    "skmultilearn": "train",
    "tensorflow": "train",
    "tf2onnx": "export",
}
"""The extra of polytag that installs a module."""


def require(module: str, extra: str, purpose: str) -> None:
    """Refuse to continue if an optional dependency is missing. The module is not imported.

    Args:
        module: name of the top-level module, such as ``"keras"``.
        extra: extra of polytag that installs it, such as ``"train"``.
        purpose: what needs it, as the beginning of the error message: "Training".

    Raises:
        SettingsError: the module is not installed.
    """
    if find_spec(module) is None:
        raise SettingsError(f"{purpose} needs {module}. Install it with: pip install 'polytag[{extra}]'")


def missing(error: ModuleNotFoundError) -> SettingsError | None:
    """Return the error to raise instead if the missing module belongs to an extra, otherwise ``None``."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(module)
    if extra is None:
        return None
    return SettingsError(f"{module} is not installed. Install it with: pip install 'polytag[{extra}]'")

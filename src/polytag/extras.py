"""Optional dependencies, and error messages that say how to install them."""

from importlib.util import find_spec

from polytag.errors import SettingsError

EXTRAS = {
    "ai_edge_litert": "export",
    "huggingface_hub": "hub",
    "kagglehub": "kaggle",
    "fsspec": "scale",
    "keras": "train",
    "openpyxl": "xlsx",
    "openvino": "export",
    "optuna": "train",
    "psycopg": "postgres",
    "ray": "scale",
    "scipy": "train",
    "sklearn": "train",
    "skmultilearn": "train",
    "tensorflow": "train",
    "tf2onnx": "export",
    "timm": "timm",
    "tokenizers": "hub",
    "torch": "timm",
}
"""The polytag extra that installs each module."""


def require(module: str, extra: str, purpose: str) -> None:
    """Raise an error if an optional dependency is missing. The module is not imported.

    Args:
        module: name of the top-level module, such as ``"keras"``.
        extra: polytag extra that installs the module, such as ``"train"``.
        purpose: feature that needs the module, such as "Training". The error message begins with this text.

    Raises:
        SettingsError: the module is not installed.
    """
    if find_spec(module) is None:
        raise SettingsError(f"{purpose} needs {module}. Install it with: pip install 'polytag[{extra}]'")


def missing(error: ModuleNotFoundError) -> SettingsError | None:
    """Return an error that names the extra to install, or ``None`` if the missing module belongs to no extra."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(module)
    if extra is None:
        return None
    return SettingsError(f"{module} is not installed. Install it with: pip install 'polytag[{extra}]'")

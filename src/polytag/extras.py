"""Optional dependencies, and the one line that says how to install them."""

from importlib.util import find_spec

from polytag.errors import SettingsError


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

"""How a server listens and whom it admits: the options of `polytag serve`."""

from dataclasses import dataclass
from typing import Annotated

from polytag.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Options for serving. Each annotation is the help text of the command-line option.

    Raises:
        SettingsError: the port is out of range, or the key contains characters that an HTTP header cannot carry.
    """

    host: Annotated[str, "Address to listen on. 127.0.0.1 admits only this machine."] = "127.0.0.1"
    port: Annotated[int, "Port to listen on. 0 chooses a free one."] = 8000
    api_key: Annotated[
        str | None, "Key that every request must send. Safer in the environment: POLYTAG_API_KEY. Default: no key."
    ] = None
    engine: Annotated[str, "What runs the model: float32, or int8 if the bundle has it."] = "float32"

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"--port must be 0 to 65535, not {self.port}")
        if self.api_key is not None:
            check_key(self.api_key)

    @property
    def is_open(self) -> bool:
        """Whether everyone who can reach this machine can use the server."""
        return self.api_key is None and self.host not in ("127.0.0.1", "localhost", "::1")


def check_key(api_key: str) -> None:
    """Refuse an API key that an HTTP header cannot carry.

    Raises:
        SettingsError: the key is empty, or contains spaces or characters other than printable ASCII.
    """
    if not (api_key.isascii() and api_key.isprintable() and api_key.split() == [api_key]):
        raise SettingsError("an API key must be printable ASCII without spaces, and not empty")

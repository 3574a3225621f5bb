"""The options of `polytag serve`, which define where the server listens and who may use it."""

from dataclasses import dataclass
from typing import Annotated

from polytag.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Options for serving. Each annotation is the help text of the command-line option.

    Raises:
        SettingsError: the port is out of range, or the API key cannot be sent in an HTTP header (see `check_key`).
    """

    host: Annotated[str, "Address to listen on. 127.0.0.1 accepts connections from this machine only."] = "127.0.0.1"
    port: Annotated[int, "Port to listen on. 0 selects a free port."] = 8000
    share_port: Annotated[
        bool, "Let several servers listen on the same port. The system divides connections among them."
    ] = False
    api_key: Annotated[
        str | None,
        "API key that every request must send. The environment variable POLYTAG_API_KEY is safer. Default: no key.",
    ] = None
    engine: Annotated[str, "Engine that runs the model: float32, or int8 if the bundle has it."] = "float32"

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"--port must be from 0 to 65535, not {self.port}")
        if self.api_key is not None:
            check_key(self.api_key)

    @property
    def is_open(self) -> bool:
        """Whether the server accepts requests from other machines without a key."""
        return self.api_key is None and self.host not in ("127.0.0.1", "localhost", "::1")


def check_key(api_key: str) -> None:
    """Refuse an API key that cannot be sent in an HTTP header.

    Raises:
        SettingsError: the key is empty, or contains spaces or characters other than printable ASCII.
    """
    if not (api_key.isascii() and api_key.isprintable() and api_key.split() == [api_key]):
        raise SettingsError("an API key must be non-empty printable ASCII text without spaces")

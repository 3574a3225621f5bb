"""The command line, which parses options, calls the library and prints the results."""

import io
import sys

from polytag.cli import data, models, tag, use
from polytag.cli.app import app

__all__ = ["app", "data", "main", "models", "tag", "use"]


def main() -> None:
    """Run the command `polytag`."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot display must not abort a run after hours of training.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # File names are not always valid UTF-8.
    app()

"""The command line: parse options, call the library, print what happened."""

import io
import sys

from polytag.cli import data, models, tag, use
from polytag.cli.app import app

__all__ = ["app", "data", "main", "models", "tag", "use"]


def main() -> None:
    """Entry point of the command `polytag`."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a sign must not end a run after hours of training.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # names of files need not be UTF-8
    app()

"""``python -m polytag`` is the command ``polytag``."""

from polytag.cli import main

main()

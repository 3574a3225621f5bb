"""Create the file of an HTML page, and load the templates for it.

A page extends page.html, whose style sheet is page.css, and is self-contained. Names of labels and files may contain
any characters, so they reach a page only through template expressions, and every expression is escaped.
"""

import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from polytag.errors import SettingsError, printable

PAGE = "index.html"


def new_page(folder: str | os.PathLike[str], option: str, overwrite: bool) -> Path:
    """Return the path of a new page, ``folder/index.html``, and create the folder if needed.

    Args:
        folder: folder of the page.
        option: the command-line option that sets the folder, used in messages.
        overwrite: allow an existing page.

    Raises:
        SettingsError: a page already exists, or the folder cannot be created.
    """
    page = Path(folder) / PAGE
    if page.exists() and not overwrite:
        raise SettingsError(f"{page} exists already. Name another folder with {option}, or add --overwrite")
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be created ({error.strerror}). Name another folder with {option}"
        ) from None
    return page


def environment(folder: Path, **escaping: Any) -> Environment:
    """Create an environment for the templates in a folder, plus page.html and chart.html, which they extend and import.

    Control characters and direction overrides in names are shown as visible escapes, unless ``finalize`` is given.
    """
    escaping.setdefault("finalize", _visible)
    layout: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    return Environment(loader=FileSystemLoader([folder, Path(__file__).parent]), **layout, **escaping)


def _visible(value: Any) -> Any:
    # Markup is a subclass of str and is already escaped.
    return printable(value) if type(value) is str else value

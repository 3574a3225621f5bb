"""Layout of pages: names of files and labels cannot disturb them."""

from pathlib import Path

import pytest

from polytag.errors import SettingsError
from polytag.pages.page import environment, new_page


def test_names_are_escaped_and_made_visible(tmp_path: Path) -> None:
    (tmp_path / "t.html").write_text('<p title="{{ name }}">{{ name }}</p>')
    name = "<b>\x1b[31m\u202egpj.\nend \U0001f431"
    page = environment(tmp_path, autoescape=True).get_template("t.html").render(name=name)
    shown = "&lt;b&gt;\\x1b[31m\\u202egpj.\\nend \U0001f431"
    assert page == f'<p title="{shown}">{shown}</p>'


def test_a_new_page_needs_a_folder_and_no_page(tmp_path: Path) -> None:
    page = new_page(tmp_path / "a" / "b", "--out", False)
    assert page == tmp_path / "a" / "b" / "index.html" and page.parent.is_dir()
    page.touch()
    with pytest.raises(SettingsError, match="--out"):
        new_page(page.parent, "--out", False)
    assert new_page(page.parent, "--out", True) == page

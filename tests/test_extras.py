"""A missing extra is named in one line."""

import pytest

from polytag.errors import SettingsError
from polytag.extras import require


def test_a_missing_module_names_its_extra() -> None:
    require("json", "train", "Training")
    with pytest.raises(SettingsError) as caught:
        require("no_such_module", "train", "Training")
    assert str(caught.value) == "Training needs no_such_module. Install it with: pip install 'polytag[train]'"

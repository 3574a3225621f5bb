"""A missing extra is named in one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from polytag.errors import SettingsError
from polytag.extras import EXTRAS, missing, require


def test_a_missing_module_names_its_extra() -> None:
    require("json", "train", "Training")
    with pytest.raises(SettingsError) as caught:
        require("no_such_module", "train", "Training")
    assert str(caught.value) == "Training needs no_such_module. Install it with: pip install 'polytag[train]'"


def test_a_failed_import_names_the_extra_of_its_module() -> None:
    error = missing(ModuleNotFoundError("no", name="sklearn.linear_model"))
    assert str(error) == "sklearn is not installed. Install it with: pip install 'polytag[train]'"
    assert missing(ModuleNotFoundError("no", name="polytag.nonsense")) is None
    assert missing(ModuleNotFoundError("no")) is None


def test_every_extra_exists() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    extras = set(re.findall(r"^(\w+) = \[", text.partition("[project.optional-dependencies]")[2], re.M))
    assert set(EXTRAS.values()) <= extras


@pytest.mark.parametrize("module", ["keras", "sklearn"])
def test_python_and_the_command_line_say_what_is_missing(module: str, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["{module}"] = None  # as if it were not installed
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "{module}":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
del sys.modules["{module}"]
import polytag
try:
    polytag.fit
except polytag.SettingsError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("pip install 'polytag[train]'"), done.stderr

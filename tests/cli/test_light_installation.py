"""Without the extra `train`, data commands and tagging work, and other commands name the extra in one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from colours import write_colour_bundle
from tiny_encoders import TINY, write_photos

HIDE = """
import importlib.util, sys
HEAVY = {"keras", "tensorflow", "optuna", "sklearn", "skmultilearn", "scipy", "tf2onnx"}
def hidden(name):
    return name.partition(".")[0] in HEAVY
class Hide:
    def find_spec(self, name, path=None, target=None):
        if hidden(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if hidden(name) else find_spec(name, package)
from polytag.cli import main
main()
"""


def light(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HIDE, *map(str, words)], capture_output=True, text=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(12):
        Image.effect_noise((40, 30), 20 + 10 * i).convert("RGB").save(folder / f"{i}.png")
    rows = "".join(f"{i}.png,{'dog' if i % 2 else 'cat'}\n" for i in range(12))
    (folder / "labels.csv").write_text(f"image,labels\n{rows}")
    return folder


def test_data_is_read_audited_cleaned_and_split(data: Path, tmp_path: Path) -> None:
    for words in (
        ["convert", data, tmp_path / "a.csv"],
        ["audit", data, "--clean", tmp_path / "b.csv"],
        ["split", data, "-o", tmp_path / "split.csv"],
    ):
        done = light(*words)
        assert done.returncode == 0, done.stderr
    assert all((tmp_path / name).exists() for name in ("a.csv", "b.csv", "split.csv"))


@pytest.mark.parametrize(
    "words",
    [
        ["train", "DATA", "-o", "OUT"],
        ["compare", "DATA", "-o", "OUT"],
        ["explore", "DATA", "-o", "OUT"],
        ["audit", "DATA", "--label-errors"],
        ["evaluate", "DATA", "DATA"],
        ["explain", "BUNDLE", "DATA/0.png", "-o", "OUT"],
    ],
    ids=lambda words: words[0],
)
def test_what_needs_the_extra_says_so_before_anything_is_read(words: list[str], data: Path, tmp_path: Path) -> None:
    write_colour_bundle(tmp_path / "bundle")
    places = {"DATA": str(data), "BUNDLE": str(tmp_path / "bundle"), "OUT": str(tmp_path / "out")}
    done = light(*(re.sub("DATA|BUNDLE|OUT", lambda name: places[name[0]], word) for word in words))
    assert done.returncode == 2
    assert done.stdout == "" and not (tmp_path / "out").exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith("polytag: ") and line.endswith("pip install 'polytag[train]'")


def test_labels_without_training_are_tagged_saved_and_explained(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    photos, bundle = write_photos(tmp_path / "photos", "clip"), tmp_path / "bundle"
    for words in (
        ["tag", photos[0], "--labels", "boat,two people", "--encoder", TINY / "clip", "--save-bundle", bundle],
        ["explain", bundle, photos[0], "--out", tmp_path / "why"],
    ):
        done = light(*words)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "why" / "all.png").exists() and (bundle / "MODEL_CARD.md").exists()

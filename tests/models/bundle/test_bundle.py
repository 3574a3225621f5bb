"""Bundles: opened without Keras, copied whole, and refused when anything in them was altered."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import polytag as pt
from polytag.errors import BundleError, ImageError, SettingsError


@pytest.fixture(scope="module")
def original(squares, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "small"
    pt.fit(squares[0], squares[1], "baseline", out=out, image_size=32, epochs=1, show_progress=False)
    return out


@pytest.fixture
def bundle(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "bundle"))


def test_tagging_needs_no_training_packages(bundle, squares) -> None:
    code = (
        "import sys; heavy = 'keras tensorflow sklearn skmultilearn scipy pandas optuna onnx tf2onnx'.split(); "
        "sys.modules.update(dict.fromkeys(heavy)); "  # importing any of them fails
        "import polytag as pt; print(pt.Bundle(sys.argv[1]).tag(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, bundle, squares[2].paths[0]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{")


@pytest.mark.parametrize("name", ["model.onnx", "model.keras", "seen-photos.npy", "bundle.json"])
def test_a_missing_file_is_named(bundle, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        pt.Bundle(bundle)


def test_an_altered_file_is_refused_when_it_is_used(bundle, squares) -> None:
    for name in ("model.onnx", "model.keras", "seen-photos.npy"):
        with (bundle / name).open("r+b") as file:
            file.seek(100)
            byte = file.read(1)
            file.seek(100)
            file.write(bytes([byte[0] ^ 1]))
    opened = pt.Bundle(bundle)
    for use in (lambda: opened.tag(squares[2].paths[0]), opened.keras_model, lambda: opened.seen(squares[2])):
        with pytest.raises(BundleError, match="sha256 differs from the recorded one"):
            use()
    with pytest.raises(BundleError):
        opened.save(bundle.parent / "copy")
    assert not (bundle.parent / "copy").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"format": 1}', "[" * 100_000])
def test_a_damaged_description_is_refused(bundle, content: str) -> None:
    (bundle / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match=r"bundle\.json is damaged"):
        pt.Bundle(bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"thresholds": [0.5]},
        {"thresholds": [None, None, None]},
        {"thresholds": ["x", "y", "z"]},
        {"thresholds": [0.5, 0.5, 1.5]},
        {"labels": None},
        {"recipe": {"image_size": "32"}},
        {"recipe": []},
        {"files": None},
        {"files": ["model.onnx"]},
        {"files": {"../model.onnx": "0"}},
    ],
    ids=str,
)
def test_a_description_with_odd_values_is_refused(bundle, change: dict) -> None:
    facts = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(facts | change))
    with pytest.raises(BundleError, match=r"bundle\.json is damaged"):
        pt.Bundle(bundle)


@pytest.mark.parametrize("version", ["format", "pixel_path"])
def test_a_bundle_of_another_version_is_refused(bundle, version: str) -> None:
    facts = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(facts | {version: 99, "polytag": "9.9"}))
    with pytest.raises(BundleError, match=r"polytag 9\.9"):
        pt.Bundle(bundle)


def test_a_folder_that_is_none(tmp_path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        pt.Bundle(tmp_path)


def test_save_copies_and_never_overwrites(bundle, squares, tmp_path) -> None:
    opened = pt.Bundle(bundle)
    copy = opened.save(tmp_path / "deep" / "copy")
    photo = squares[2].paths[0]
    assert copy.tag(photo) == opened.tag(photo)
    with pytest.raises(SettingsError, match="exists already"):
        opened.save(copy.path)


def test_the_card_goes_with_the_bundle_and_with_what_is_recorded(bundle, tmp_path) -> None:
    card = bundle / "MODEL_CARD.md"
    assert "Not tested yet" in card.read_text() and all(label in card.read_text() for label in ("red", "green", "blue"))
    card.write_text("edited by hand")  # it is for people: nothing that tagging needs
    opened = pt.Bundle(bundle)
    opened.record(test={"samples_f1": 0.123})
    assert "| 0.123 |" in card.read_text() and "Not tested yet" not in card.read_text()
    assert (opened.save(tmp_path / "copy").path / "MODEL_CARD.md").read_bytes() == card.read_bytes()
    assert (tmp_path / "copy" / "bundle.json").read_bytes() == (bundle / "bundle.json").read_bytes()


def test_bad_photos(bundle, squares, tmp_path) -> None:
    opened = pt.Bundle(bundle)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no")
    with pytest.raises(ImageError, match="not an image"):
        opened.tag(broken)
    good = squares[2].paths
    probabilities, bad = opened.predict([good[0], str(broken), good[1], str(tmp_path / "none.jpg")])
    assert set(bad) == {str(broken), str(tmp_path / "none.jpg")}
    expected, _ = opened.predict(good[:2])
    assert (probabilities[[0, 2]] == expected).all()
    assert (probabilities[[1, 3]] != probabilities[[1, 3]]).all()  # NaN


def test_a_temporary_bundle_goes_with_its_object(squares) -> None:
    bundle = pt.fit(squares[0], squares[1], "baseline", image_size=32, epochs=1, show_progress=False)
    path = bundle.path
    assert path.exists()
    del bundle
    assert not path.exists()

"""New thresholds without training: recorded with what they were chosen on, and never on training photos."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import polytag as pt
from colours import write_colour_bundle
from polytag.cli import app
from polytag.data.dataset import Dataset
from polytag.errors import DataError, SettingsError
from polytag.models.bundle.bundle import Bundle
from polytag.models.bundle.rethreshold import by_hand, choose_anew, set_thresholds, validation_photos
from polytag.models.bundle.seen import seen_photos


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """60 noisy photos, red if they carry the label red: its best threshold is far below 0.5."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["image,red,green,blue,split"]
    for i in range(60):
        low, high = (60, 110) if i % 3 == 0 else (10, 60)
        photo = rng.integers(0, 90, (32, 32, 3)).astype(np.uint8)
        photo[..., 0] = rng.integers(low, high, (32, 32))
        Image.fromarray(photo).save(folder / f"{i:02}.png")
        rows.append(f"{i:02}.png,{int(i % 3 == 0)},{i % 2},{int(i % 5 == 0)},{'test' if i >= 50 else 'train'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return pt.read(folder)


@pytest.fixture
def bundle(data: Dataset, tmp_path: Path) -> Bundle:
    """Photos 0 to 19 trained it, 20 to 39 validated it."""
    records = seen_photos(data.take(np.arange(20)), "train"), seen_photos(data.take(np.arange(20, 40)), "validation")
    bundle = write_colour_bundle(tmp_path / "bundle", np.concatenate(records))
    bundle.record(test={"samples_f1": 0.5}, tested={"photos": 3, "intervals": {}}, validation={"samples_f1": 0.4})
    return bundle


def test_thresholds_are_chosen_on_the_validation_photos(bundle: Bundle, data: Dataset) -> None:
    photos = validation_photos(bundle, data)
    assert photos.names == data.names[20:40]
    assert choose_anew(bundle, photos, "f1", "the validation set") == []
    again = Bundle(bundle.path)
    np.testing.assert_array_equal(again.thresholds, bundle.thresholds)
    assert 0.1 < again.thresholds[0] < 0.4
    facts = again.manifest
    assert facts["objective"] == "f1" and not {"test", "tested"} & facts.keys() and facts["validation"] == {}
    assert (facts["chosen"]["photos"], facts["chosen"]["fingerprint"]) == (20, photos.fingerprint)
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert "chosen after training on 20 photos (the validation set)" in card and "Not tested yet" in card
    assert len(again.seen_photos) == 40


def test_other_photos_count_as_seen_and_training_photos_are_left_out(bundle: Bundle, data: Dataset) -> None:
    notes = choose_anew(bundle, data.take(np.arange(10, 50)), "f1", "the other set")
    assert notes == ["10 images left out because the model was trained on them"]
    again = Bundle(bundle.path)
    assert again.manifest["chosen"]["photos"] == 30
    assert again.seen(data).tolist() == [True] * 50 + [False] * 10
    assert not again.seen_as(data, "train")[20:].any()
    assert {path.name for path in again.path.iterdir()} == {"bundle.json", "MODEL_CARD.md", *again.manifest["files"]}
    with pytest.raises(DataError, match="without any label"):
        choose_anew(again, data.take(np.arange(20)), "f1", "the training set")


def test_labels_that_the_photos_do_not_know_keep_their_thresholds(bundle: Bundle, data: Dataset) -> None:
    set_thresholds(bundle, {"blue": 0.7})
    part = validation_photos(bundle, data)
    part = Dataset(part.paths, part.targets[:, :2].copy(), part.labels[:2], part.groups.copy(), part.root)
    notes = choose_anew(bundle, part, "recall=0.9", "the validation set")
    assert notes == ["labels missing from the data, not judged: blue"]
    assert bundle.thresholds[2] == pytest.approx(0.7) and bundle.thresholds[0] < 0.5


def test_thresholds_by_hand(bundle: Bundle) -> None:
    set_thresholds(bundle, {"red": 0.25})
    set_thresholds(bundle, {"green": 0.75})
    assert Bundle(bundle.path).thresholds.tolist() == [0.25, 0.75, 0.5] == bundle.thresholds.tolist()
    assert bundle.manifest["chosen"]["by_hand"] == {"red": 0.25, "green": 0.75}
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert "red (0.25)" in card and "green (0.75)" in card


@pytest.mark.parametrize("settings", [["red"], ["red=1"], ["red=x"], ["=0.4"], ["pink=0.4"], ["red=0.4", "red=0.5"]])
def test_odd_settings_are_refused(settings: list[str]) -> None:
    with pytest.raises(SettingsError):
        by_hand(("red", "green"), settings)
    assert by_hand(("a=b", "c"), ["a=b=0.4", "c = 0.5"]) == {"a=b": 0.4, "c": 0.5}


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_the_command(bundle: Bundle, data: Dataset) -> None:
    before = (bundle.path / "bundle.json").read_bytes()
    for words, told in (
        ([], "Name DATA and --objective"),
        ([data.root], "Name DATA and --objective"),
        (["--set", "red=2"], "sets no threshold"),
        (["nowhere", "--objective", "best"], "the objective must be"),
        ([data.root, "--objective", "f1", "--part", "validation"], "no image into the validation part"),
    ):
        code, output = run("thresholds", bundle.path, *words)
        assert code == 2 and told in output
    assert (bundle.path / "bundle.json").read_bytes() == before
    code, output = run("thresholds", bundle.path, data.root, "--objective", "recall=0.9", "--set", "blue=0.9")
    assert code == 0 and "blue    0.500  0.900" in output and "a recall of 0.9 for each label" in output
    facts = json.loads((bundle.path / "bundle.json").read_text())
    assert facts["thresholds"][2] == 0.9 and facts["chosen"]["by_hand"] == {"blue": 0.9}
    code, _ = run("thresholds", bundle.path, data.root, "--objective", "f1", "--part", "test")
    assert code == 0 and Bundle(bundle.path).manifest["chosen"]["which"] == "the test part of data"

"""Explaining: the heat lies where the answer comes from, in pictures and in words."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

import polytag as pt
from polytag.cli import app
from polytag.errors import ImageError, SettingsError
from polytag.evaluation.calibration import Calibration
from polytag.models.backend import keras
from polytag.models.bundle.seen import PHOTO
from polytag.models.bundle.write import write_bundle
from polytag.models.classical.networks import mlknn_network
from polytag.models.networks.architectures import transfer, with_head
from polytag.models.networks.calibrated import calibrated
from polytag.photos.decode import decode
from polytag.serving.explaining.explain import Explained, explain
from polytag.serving.explaining.grad_cam import GradCam
from polytag.serving.explaining.overlays import overlay, write_overlays

layers, ops = keras.layers, keras.ops

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}
SIZE, SQUARE = 32, 8
PLACES = {"red": (4, 4), "green": (20, 8), "blue": (8, 20)}
"""Left and top of each colour's square, which fills whole places of the feature map."""

STRAIGHT = Calibration.straight("platt", np.array([1.3, 0.7, 2.0]), np.array([-0.5, 0.2, 1.0]))
BENT = Calibration("isotonic", STRAIGHT.slope, STRAIGHT.bias, np.full((3, 1), -1.0), np.full((3, 1), 0.5))


def drawn(*colours: str, size: tuple[int, int] = (SIZE, SIZE)) -> NDArray[np.uint8]:
    """A grey photo (height, width) with a square of each colour, in its place by the photo's own proportions."""
    photo = np.random.default_rng(0).integers(100, 130, (SIZE, SIZE, 3)).astype(np.uint8)
    for colour in colours:
        left, top = PLACES[colour]
        photo[top : top + SQUARE, left : left + SQUARE] = COLOURS[colour]
    return np.asarray(Image.fromarray(photo).resize(size[::-1], Image.Resampling.NEAREST))


def is_on(colour: str, heat: NDArray[np.float32]) -> bool:
    """Whether the hottest place lies on the colour's square."""
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    left, top = PLACES[colour]
    return left <= x < left + SQUARE and top <= y < top + SQUARE


def colour_features() -> tuple[Any, Any]:
    """A photo and a feature map of its red, green and blue spots, 8 × 8."""
    photo = layers.Input((SIZE, SIZE, 3), dtype="uint8", name="photo")
    spots = layers.Conv2D(3, 1, activation="relu", name="spots")
    features = layers.MaxPooling2D(4)(spots(layers.Rescaling(1 / 255)(photo)))
    spots.set_weights([(3 * np.eye(3) - 2 * np.ones((3, 3)))[None, None], np.zeros(3)])
    return photo, features


def sums(n: int, factor: float, activation: str = "sigmoid") -> keras.layers.Layer:
    """A dense layer in which each label depends on one of n channels or places, and on no other."""
    dense = layers.Dense(3, activation=activation)
    dense.build((None, n))
    dense.set_weights([np.tile(np.eye(3), (n // 3, 1)) * factor, np.full(3, -1.0)])
    return dense


def flat(factor: float = 30.0) -> keras.Model:
    """One model, as the CNNs are."""
    photo, features = colour_features()
    return keras.Model(photo, sums(192, factor / 64)(layers.Flatten()(features)))


def chain(factor: float = 30.0, activation: str = "sigmoid") -> keras.Model:
    """A backbone and a head, as in transfer learning."""
    photo, features = colour_features()
    backbone = keras.Model(photo, layers.GlobalAveragePooling2D()(features), name="backbone")
    head = keras.Sequential([layers.Input((3,)), sums(3, factor, activation)], name="head")
    return with_head(backbone, keras.Model(head.inputs, head.outputs, name="head"))


def mean_of_two() -> keras.Model:
    """Ends in no layer, as some classical methods do."""
    photo, features = colour_features()
    backbone = keras.Model(photo, layers.GlobalAveragePooling2D()(features), name="backbone")
    inputs = layers.Input((3,))
    shares = [layers.Softmax()(sums(3, factor, "linear")(inputs)) for factor in (20.0, 30.0)]
    return with_head(backbone, keras.Model(inputs, ops.minimum((shares[0] + shares[1]) / 2, 1.0), name="head"))


@dataclass
class Saved:
    """What an explainer needs of a bundle; its network comes from a file, as a bundle's does."""

    file: Path
    labels: tuple[str, ...] = tuple(COLOURS)
    image_size: int = SIZE

    def keras_model(self) -> keras.Model:
        return keras.saving.load_model(self.file, compile=False)


@pytest.fixture
def explainer(tmp_path) -> Callable[[keras.Model], GradCam]:
    def explainer_of(network: keras.Model) -> GradCam:
        network.save(tmp_path / "model.keras")
        return GradCam(Saved(tmp_path / "model.keras"))  # type: ignore[arg-type]

    keras.utils.set_random_seed(0)
    return explainer_of


NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "flat": flat,
    "chain": chain,
    "so sure that its probabilities are 0 and 1": lambda: chain(30_000.0),
    "calibrated, flat": lambda: calibrated(flat(), BENT),
    "calibrated in its weights": lambda: calibrated(chain(), STRAIGHT),
    "calibrated by layers": lambda: calibrated(chain(), BENT),
    "mean of two": mean_of_two,
    "mean of two, calibrated": lambda: calibrated(mean_of_two(), STRAIGHT),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_heat_lies_where_the_answer_comes_from(name: str, explainer) -> None:
    photo = drawn("red", "green", "blue")
    heats = explainer(NETWORKS[name]()).heat(photo, ["blue", "red", "green"])
    assert heats.shape == (3, SIZE, SIZE) and heats.dtype == np.float32
    assert heats.min() == 0 and (heats.max(axis=(1, 2)) == 1).all()
    for colour, heat in zip(("blue", "red", "green"), heats, strict=True):
        assert is_on(colour, heat), colour


def test_labels_do_not_disturb_each_other(explainer) -> None:
    explaining, photo = explainer(calibrated(chain(), BENT)), drawn("red", "green")
    together = explaining.heat(photo, ["red", "green", "red"])
    for heat, label in zip(together, ("red", "green", "red"), strict=True):
        np.testing.assert_allclose(heat, explaining.heat(photo, [label])[0], atol=1e-6)
    assert explaining.heat(photo, []).shape == (0, SIZE, SIZE)


def test_what_speaks_against_a_label_is_no_heat(explainer) -> None:
    assert not explainer(chain(-30.0)).heat(drawn("red"), ["red"]).any()
    assert not explainer(chain()).heat(drawn("red"), ["green"]).any()


def test_refusals(explainer) -> None:
    with pytest.raises(SettingsError, match="no label 'yellow': choose from red, green, blue"):
        explainer(chain()).heat(drawn("red"), ["red", "yellow"])
    photo, features = colour_features()
    backbone = keras.Model(photo, layers.GlobalAveragePooling2D()(features), name="backbone")
    neighbours = mlknn_network(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.int8), np.full((3, 3), 0.4, np.float32))
    for network in (with_head(backbone, neighbours), calibrated(with_head(backbone, neighbours), STRAIGHT)):
        with pytest.raises(SettingsError, match="no gradients"):
            explainer(network).heat(drawn("red"), ["red"])


def test_a_real_backbone(explainer) -> None:
    heats = explainer(calibrated(transfer(3, SIZE), STRAIGHT)).heat(drawn("red"), ["red", "blue"])
    assert heats.shape == (2, SIZE, SIZE) and np.isfinite(heats).all()


def test_an_overlay_is_the_photo_where_there_is_no_heat_and_warm_where_there_is() -> None:
    photo, heat = drawn("red", size=(40, 120)), np.zeros((SIZE, SIZE), np.float32)
    left, top = PLACES["green"]
    heat[top : top + SQUARE, left : left + SQUARE] = 1
    seen = np.asarray(overlay(photo, heat))
    assert seen.shape == photo.shape
    # In the photo's own proportions, give or take what interpolation spreads.
    scale = np.array([40, 120]) / SIZE
    y, x = (np.array([top, left]) * scale).astype(int)
    dy, dx = (np.array([SQUARE, SQUARE]) * scale).astype(int)
    assert (np.abs(seen.astype(int) - photo)[y + 2 : y + dy - 2, x + 4 : x + dx - 4].max(axis=2) > 40).all()
    outside = np.ones(photo.shape[:2], bool)
    outside[max(0, y - 4) : y + dy + 4, max(0, x - 10) : x + dx + 10] = False
    np.testing.assert_array_equal(seen[outside], photo[outside])


def test_in_words() -> None:
    heat = np.ones((4, 4), np.float32)
    assert Explained("boat", 0.934, 0.41, heat).verdict == "0.93, above its threshold 0.41"
    assert (
        Explained("boat", 0.1, 0.41, 0 * heat).verdict == "0.10, below its threshold 0.41; no region raises its score"
    )
    assert Explained("boat", 0.41, 0.41, heat).verdict == "0.41000, above its threshold 0.41000"
    assert Explained("boat", 0.4099, 0.4101, heat).verdict == "0.40990, below its threshold 0.41010"


@pytest.mark.parametrize("size", [(30, 40), (3, 900), (900, 3), (1, 1)], ids=str)
def test_pictures_of_odd_shapes_and_labels(size: tuple[int, int], tmp_path) -> None:
    labels = ["../etc", "a" * 300, "$x_1$ | 猫 \n\0 <b>", "🚲", "", "boat"]
    heat = np.linspace(0, 1, SIZE**2, dtype=np.float32).reshape(SIZE, SIZE)
    photo = drawn("red", size=size)
    folder = write_overlays(tmp_path / "out", photo, [Explained(label, 0.5, 0.4, heat) for label in labels])
    assert len(list(folder.iterdir())) == len(labels) + 1
    for number in range(1, len(labels) + 1):
        (file,) = folder.glob(f"{number}-*.png")
        assert Image.open(file).size == size[::-1]
    overview = Image.open(folder / "all.png")
    assert overview.width < 2500 and overview.height < 2500
    with pytest.raises(SettingsError, match="exists already"):
        write_overlays(folder, photo, [Explained("boat", 0.5, 0.4, heat)])
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A bundle of a planted network, which no training could better."""
    folder = tmp_path_factory.mktemp("explain")
    facts = {"history": [], "fit_seconds": 1.0, "parameters": 1, "trainable_parameters": 1}
    recipe = {"model": "transfer", "image_size": SIZE}
    keras.utils.set_random_seed(0)
    manifest = {"labels": list(COLOURS), "recipe": recipe, **facts}
    bundle = write_bundle(chain(60.0), manifest, np.zeros(0, PHOTO))
    return bundle.save(folder / "bundle").path


@pytest.fixture
def photo(tmp_path) -> Path:
    """Red and green squares on a photo that is wider than high, and stands on its side but for its EXIF data."""
    path = tmp_path / "photo.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(drawn("red", "green", size=(64, 96))).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    return path


def test_explaining_a_photo(original, photo) -> None:
    bundle = pt.Bundle(original)
    by_label = {e.label: e for e in explain(bundle, photo)}
    assert list(by_label) == list(bundle.tag(photo)) and set(by_label) == {"red", "green"}
    for label, explained in by_label.items():
        assert explained.probability == bundle.tag(photo)[label] and explained.threshold == 0.5
        assert is_on(label, explained.heat)
    (asked,) = explain(bundle, photo.read_bytes(), ["blue", "blue"])
    assert asked.label == "blue" and asked.probability < 0.5
    with pytest.raises(ImageError):
        explain(bundle, b"no photo")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["explain", *map(str, arguments)])


def test_the_command(original, photo, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(original, photo)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[-1] == str(Path("photo-explained") / "all.png")
    assert sorted(line.split()[0] for line in lines[:-1]) == ["green", "red"]
    assert all(", above its threshold 0.50" in line for line in lines[:-1])
    names = sorted(path.name for path in (tmp_path / "photo-explained").iterdir())
    assert [name.partition("-")[0] for name in names] == ["1", "2", "all.png"]
    upright = decode(photo)
    for name in names[:2]:
        seen = decode(tmp_path / "photo-explained" / name)
        assert seen.shape == upright.shape == (64, 96, 3)
        changed = np.abs(seen.astype(int) - upright).sum(axis=2)
        changed = np.asarray(Image.fromarray(changed.astype(np.float32)).resize((SIZE, SIZE), Image.Resampling.BOX))
        assert is_on(name.removesuffix(".png").partition("-")[2], changed)

    chosen = run(original, photo, "--label", "blue", "--label", "red", "--out", tmp_path / "chosen")
    assert [line.split()[0] for line in chosen.stdout.splitlines()[:-1]] == ["blue", "red"]
    assert "blue 0.27, below its threshold 0.50; no region raises its score" in chosen.stdout


def test_where_nothing_is_given_the_most_probable_label_is_shown(original, photo, tmp_path) -> None:
    cautious = shutil.copytree(original, tmp_path / "cautious")
    facts = json.loads((cautious / "bundle.json").read_text())
    (cautious / "bundle.json").write_text(json.dumps(facts | {"thresholds": [0.9999] * 3}))
    done = run(cautious, photo, "--out", tmp_path / "out")
    first, second, _ = done.stdout.splitlines()
    assert first == "No label reaches its threshold. The most probable label is:"
    assert "below its threshold" in second and second.split()[0] in ("red", "green")


def test_bad_input_is_one_line(original, photo, tmp_path) -> None:
    (tmp_path / "bad.jpg").write_text("no photo")
    before = {path.name for path in tmp_path.iterdir()}
    for arguments, told in (
        ((original, tmp_path / "bad.jpg", "--out", tmp_path / "out"), "bad.jpg cannot be explained: not an image"),
        ((original, tmp_path / "none.jpg", "--out", tmp_path / "out"), "there is no such file"),
        (
            (original, photo, "--label", "cat", "--out", tmp_path / "out"),
            "no label 'cat': choose from red, green, blue",
        ),
        ((original, photo, "--out", tmp_path), "exists already"),
        ((tmp_path, photo, "--out", tmp_path / "out"), "is not a bundle"),
    ):
        refused = run(*arguments)
        assert refused.exit_code == 2 and told in refused.stderr, refused.output
        assert len(refused.stderr.strip().splitlines()) == 1 and not refused.stdout
    assert {path.name for path in tmp_path.iterdir()} == before

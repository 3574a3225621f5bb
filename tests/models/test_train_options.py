"""Training options: checked when they are made, the same from Python and from the command line."""

from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from polytag.errors import SettingsError
from polytag.models.options import RECIPE_FIELDS, TrainOptions, parse_seconds
from polytag.models.recipe import ALL_MODELS, AUGMENTATIONS, DEFAULTS, LOSS_NAMES, Recipe


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("10m", 600), ("2h", 7200), ("1h30m", 5400), (" 1.5H ", 5400), ("0.5m", 30)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text, "timeout") == TrainOptions(timeout=text).seconds == seconds


@pytest.mark.parametrize("text", ["10", "", "m", "10 minutes", "1..5m", "-5m", "5m!", "1d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="timeout must be a duration with a unit"):
        TrainOptions(timeout=text)


def test_numbers_are_seconds() -> None:
    assert TrainOptions(timeout=90).seconds == 90.0 and TrainOptions().seconds is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout": 0}, "timeout must be greater than 0"),
        ({"timeout": "0s"}, "timeout must be greater than 0"),
        ({"trials": 0}, "trials must be 1"),
        ({"objective": "accuracy"}, "objective must be f1"),
    ],
)
def test_values_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TrainOptions(**settings)
    with pytest.raises(SettingsError, match=message):
        TrainOptions().override(settings)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="there is no setting 'epoch'"):
        TrainOptions().override({"epoch": 3})


@pytest.mark.parametrize("model", ALL_MODELS)
def test_options_not_set_take_the_models_defaults(model: str) -> None:
    assert TrainOptions().recipe(model) == Recipe.of(model)
    assert TrainOptions().settings == {"seed": 0}
    everything = TrainOptions(epochs=3, fine_tune=1, backbone="efficientnet_lite0", weights="w.pth", image_size=64)
    useful = everything.of_use_to(model)
    assert useful.recipe(model).image_size == 64
    assert (useful.epochs == 3) == ("epochs" in DEFAULTS[model])
    assert (useful.weights == Path("w.pth")) == (model not in ("baseline", "tuned"))


def test_choices_and_names_are_those_of_the_recipe() -> None:
    hints = get_type_hints(TrainOptions)
    assert get_args(get_args(hints["loss"])[0]) == LOSS_NAMES
    assert get_args(get_args(hints["augmentation"])[0]) == AUGMENTATIONS
    assert set(RECIPE_FIELDS) <= hints.keys()


def test_best_uses_the_best_backbone_that_is_installed_and_says_what_is_missing(monkeypatch) -> None:
    installed = {"efficientnet_lite2", "mobilenet_v2"}
    monkeypatch.setattr("polytag.models.backbones.weights.is_installed", installed.__contains__)
    assert TrainOptions().recipe("best").backbone == "efficientnet_lite2" and TrainOptions().advice("best") is None
    installed.remove("efficientnet_lite2")
    assert TrainOptions().recipe("best").backbone == "mobilenet_v2"
    assert "best uses mobilenet_v2, because efficientnet_lite2 is not installed" in (
        TrainOptions().advice("best") or ""
    )
    assert TrainOptions(backbone="mobilenet_v2").advice("best") is None is TrainOptions().advice("transfer")

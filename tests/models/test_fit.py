"""Training: each approach gives a complete bundle, the same one for the same seed, and never sees test data."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import polytag as pt
from polytag.errors import DataError, SettingsError
from polytag.evaluation.calibration import KINDS, Calibration
from polytag.evaluation.selection import VALIDATION_SCORE
from polytag.evaluation.thresholds import choose_thresholds
from polytag.models import fit as training
from polytag.models.backend import keras
from polytag.models.bundle.bundle import Bundle
from polytag.models.networks.architectures import MODELS
from polytag.models.runtimes import onnx
from polytag.models.training import cnn as cnn_module
from polytag.models.training import fine_tuning, transfer
from polytag.models.training import loop as fitting
from polytag.photos.decode import decode

SMALL = {
    "baseline": {"epochs": 3},
    "tuned": {"epochs": 3, "trials": 2},
    "transfer": {"epochs": 4, "fine_tune": 1},
    "best": {"epochs": 4, "fine_tune": 0},
}


@pytest.fixture(scope="module", params=SMALL)
def trained(request, squares, tmp_path_factory) -> Bundle:
    train, validation, _ = squares
    out = tmp_path_factory.mktemp("bundles") / request.param
    settings = SMALL[request.param]
    return pt.fit(train, validation, request.param, out=out, image_size=48, show_progress=False, **settings)


def test_the_bundle_is_complete(trained, squares) -> None:
    facts = trained.manifest
    assert {p.name for p in trained.path.iterdir()} == {
        "MODEL_CARD.md",
        "bundle.json",
        "model.keras",
        "model.onnx",
        "seen-photos.npy",
    }
    assert trained.labels == squares[0].labels
    assert ((trained.thresholds > 0) & (trained.thresholds < 1)).all()
    assert (trained.thresholds != 0.5).any()
    assert facts["fit_seconds"] > 0
    assert 0 < facts["trainable_parameters"] <= facts["parameters"]
    assert 0 <= facts["validation_accuracy"] <= 1
    assert {"loss", "learning_rate", "validation_loss", VALIDATION_SCORE} == set(facts["history"][0])
    again = Bundle(trained.path)
    np.testing.assert_array_equal(again.thresholds, trained.thresholds)


def test_calibration_and_thresholds_are_those_of_the_validation_photos(trained, squares) -> None:
    _, validation, _ = squares
    probabilities, _ = trained.predict(validation.paths)
    np.testing.assert_allclose(choose_thresholds(validation.targets, probabilities), trained.thresholds, atol=1e-6)
    calibration = trained.manifest["calibration"]
    assert calibration["kind"] in calibration["log_loss"] and set(calibration["log_loss"]) == set(KINDS)
    assert trained.manifest["objective"] == "f1" and trained.manifest["out_of_reach"] == []


def test_the_networks_probabilities_are_calibrated(squares, monkeypatch) -> None:
    train, validation, test = squares
    settings = {"image_size": 32, "epochs": 2, "show_progress": False}
    calibration = Calibration.straight("platt", np.array([1.5, 1.0, 0.5]), np.array([0.3, -0.5, 1.0]))
    bundles = []
    for chosen in (Calibration.straight("none", np.ones(3), np.zeros(3)), calibration):
        monkeypatch.setattr(training, "choose_calibration", lambda *_, chosen=chosen: (chosen, {}))
        bundles.append(pt.fit(train, validation, "baseline", **settings))
    before, after = (bundle.predict(test.paths)[0] for bundle in bundles)
    np.testing.assert_allclose(after, calibration(before), atol=1e-5)
    assert np.abs(after - before).max() > 0.01


@pytest.mark.parametrize(("model", "fine_tune"), [("baseline", None), ("transfer", 0), ("transfer", 1), ("best", 1)])
def test_calibration_sees_what_the_kept_network_gives(squares, monkeypatch, model: str, fine_tune: int | None) -> None:
    train, validation, _ = squares
    seen = []

    def none(targets, probabilities, *_):
        seen.append(probabilities)
        return Calibration.straight("none", np.ones(3), np.zeros(3)), {}

    monkeypatch.setattr(training, "choose_calibration", none)
    monkeypatch.setattr(transfer, "paired_difference", lambda *_: (0.0, 0.0))  # fine-tuning is kept
    settings = {"image_size": 32, "epochs": 5, "fine_tune": fine_tune, "learning_rate": 3e-3}
    bundle = pt.fit(train, validation, model, show_progress=False, **settings)
    np.testing.assert_allclose(seen[0], bundle.predict(validation.paths)[0], atol=1e-4)
    assert bundle.manifest.get("fine_tuning", "none").startswith("kept" if fine_tune else "none")
    assert ("kernel_ridge" in bundle.manifest) == (model == "best")


def test_same_bytes_same_probabilities_everywhere(trained, squares) -> None:
    _, _, test = squares
    evaluation = pt.evaluate(trained, test)
    model = trained.keras_model()
    assert not model.compiled
    photos = np.stack([decode(path, 48) for path in test.paths])
    np.testing.assert_allclose(model.predict(photos, verbose=0), evaluation.probabilities, atol=1e-5)
    for path, row in zip(test.paths[:5], evaluation.probabilities, strict=False):
        for photo in (path, Path(path).read_bytes()):
            tags = trained.tag(photo)
            assert set(tags) == {
                label
                for label, p, threshold in zip(trained.labels, row, trained.thresholds, strict=True)
                if p >= threshold
            }
            for label, p in tags.items():
                assert p == pytest.approx(row[trained.labels.index(label)], abs=1e-5)
            assert list(tags.values()) == sorted(tags.values(), reverse=True)


def test_training_photos_are_remembered_and_test_photos_are_not(trained, squares) -> None:
    train, validation, test = squares
    assert trained.seen(train).all() and trained.seen(validation).all()
    assert not trained.seen(test).any()


def test_a_diverging_training_says_so(squares, tmp_path) -> None:
    train, validation, _ = squares
    with pytest.raises(SettingsError, match="smaller learning rate"):
        pt.fit(
            train,
            validation,
            "baseline",
            image_size=32,
            epochs=3,
            batch_size=2,
            learning_rate=10.0,
            weight_decay=10.0,
            out=tmp_path / "b",
            show_progress=False,
        )
    assert not list(tmp_path.iterdir())


def test_a_heads_training_ends_once_its_learning_rate_is_down_to_a_hundredth(squares, monkeypatch) -> None:
    train, validation, _ = squares
    score = itertools.count(500_000)  # rises for ever, though by too little for the learning rate to stay as it is
    monkeypatch.setattr(fitting, "selection_score", lambda *_: next(score) / 1_000_000)
    history = pt.fit(
        train, validation, image_size=32, epochs=60, learning_rate=1e-3, fine_tune=0, show_progress=False
    ).manifest["history"]
    rates = [epoch["learning_rate"] for epoch in history]
    assert len(rates) < 20 and rates[-1] < 1e-5 <= rates[-2]


@pytest.mark.parametrize("model", ["baseline", "transfer"])
def test_the_same_seed_gives_the_same_model_whoever_prepares_batches(squares, monkeypatch, model: str) -> None:
    train, validation, test = squares

    def probabilities(seed: int) -> np.ndarray:
        keras.utils.set_random_seed(99)  # whatever was drawn before must not matter
        frozen = {"fine_tune": 0} if model == "transfer" else {}
        bundle = pt.fit(train, validation, model, image_size=32, epochs=2, seed=seed, show_progress=False, **frozen)
        return bundle.predict(test.paths)[0]

    first = probabilities(3)
    assert (first != probabilities(4)).any()
    monkeypatch.setattr(fitting, "THREADED_PHOTOS", 0)
    assert fitting.photo_batches(train, pt.Recipe.of(model, image_size=32), True).workers == 2
    np.testing.assert_array_equal(first, probabilities(3))


def test_the_graph_of_a_step_is_drawn_once(squares, monkeypatch) -> None:
    train, validation, _ = squares
    drawn, original = [], keras.Model.train_step

    def train_step(self, *args):
        drawn.append(self.name)
        return original(self, *args)

    monkeypatch.setattr(keras.Model, "train_step", train_step)
    pt.fit(train, validation, "transfer", image_size=32, epochs=2, fine_tune=0, show_progress=False)
    assert drawn == ["head"]


def test_it_learns(squares) -> None:
    train, validation, test = squares
    bundle = pt.fit(train, validation, "transfer", image_size=96, epochs=25, fine_tune=0, show_progress=False)
    chance = (test.targets == 1).mean()
    assert pt.evaluate(bundle, test).scores["mean_average_precision"] > chance + 0.3


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_network_is_trained_in_16_bits_and_kept_in_32(squares, policy: str, monkeypatch) -> None:
    train, validation, _ = squares
    policies, original = [], MODELS["baseline"]

    def cnn(*args, policy="float32", **settings):
        policies.append(policy)
        return original(*args, policy=policy, **settings)

    monkeypatch.setitem(MODELS, "baseline", cnn)
    monkeypatch.setattr(cnn_module, "training_policy", lambda: policy)
    bundle = pt.fit(train, validation, "baseline", image_size=32, epochs=1, show_progress=False)
    assert policies == [policy, "float32"]
    assert {layer.compute_dtype for layer in bundle.keras_model()._flatten_layers()} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_unknown_labels_are_allowed(squares) -> None:
    train, validation, _ = squares
    targets = np.array(train.targets)
    targets[::3, 0] = -1
    bundle = pt.fit(
        replace(train, targets=targets), validation, "baseline", image_size=32, epochs=1, show_progress=False
    )
    assert np.isfinite(bundle.manifest["history"][0]["loss"])


def test_unreadable_photos_are_named_and_the_rest_trains(squares, tmp_path) -> None:
    train, validation, _ = squares
    broken = tmp_path / "broken.jpg"
    broken.write_text("not a photo")
    paths = np.array([str(broken), *train.paths[1:]])
    bundle = pt.fit(replace(train, paths=paths), validation, "baseline", image_size=32, epochs=1, show_progress=False)
    assert next(iter(bundle.manifest["data"]["left_out"].values())).startswith("not an image")
    assert bundle.manifest["data"]["train"] == len(train) - 1


@pytest.mark.parametrize(("model", "place"), [("baseline", cnn_module), ("transfer", fine_tuning)])
def test_photos_that_vanish_during_training_cost_no_training(squares, monkeypatch, tmp_path, model, place) -> None:
    train, validation, _ = squares
    copies = []
    for part in (train, validation):
        folder = tmp_path / f"{len(copies)}"
        folder.mkdir()
        paths = [shutil.copy(path, folder / Path(path).name) for path in part.paths]
        copies.append(replace(part, paths=np.array(list(map(str, paths))), root=folder))
    original = place.fit_network

    def run(*arguments, **settings):
        fitted = original(*arguments, **settings)
        for part in copies:
            Path(part.paths[0]).unlink()
        return fitted

    monkeypatch.setattr(place, "fit_network", run)
    monkeypatch.setattr(fine_tuning, "fine_tuning_size", lambda size: size // 2)
    monkeypatch.setattr(transfer, "paired_difference", lambda *_: (0.0, 0.0))  # fine-tuning is kept
    fine_tune = {"fine_tune": 1} if model == "transfer" else {}
    bundle = pt.fit(*copies, model, image_size=64, epochs=1, show_progress=False, **fine_tune)
    assert np.isfinite(bundle.thresholds).all() and bundle.seen(train).all()
    (name,) = bundle.manifest["data"]["left_out"]
    assert name == copies[1].names[0] and "since training began" in bundle.manifest["data"]["left_out"][name]


def test_an_onnx_model_that_differs_is_dropped_and_keras_runs_the_bundle(squares, monkeypatch) -> None:
    train, validation, test = squares
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.warns(UserWarning, match=r"runs on Keras instead \(its output differs by"):
        bundle = pt.fit(train, validation, "baseline", image_size=32, epochs=1, show_progress=False)
    assert "model.onnx" not in bundle.manifest["files"] and not (bundle.path / "model.onnx").exists()
    photos = np.stack([decode(path, 32) for path in test.paths])
    expected = bundle.keras_model().predict(photos, verbose=0)
    np.testing.assert_allclose(bundle.predict(test.paths)[0], expected, atol=1e-5)


def test_bad_settings_are_refused_before_anything_is_done(squares, tmp_path) -> None:
    train, validation, _ = squares
    for settings, message in (
        ({"model": "resnet"}, "must be one of baseline, tuned, transfer"),
        ({"epoch": 3}, "no setting 'epoch'"),
        ({"epochs": 0}, "epochs must be from 1"),
        ({"image_size": 16}, "image size must be from 32"),
        ({"model": "baseline", "backbone": "resnet50"}, "backbone has no effect on baseline"),
        ({"model": "baseline", "weights": "w.pth"}, "weights have no effect on baseline"),
        ({"augmentation": "cutout"}, "none, flip, crop"),
        ({"out": tmp_path}, "exists already"),
        ({"objective": "accuracy"}, "objective must be f1, subset"),
        ({"model": "tuned", "hyperparameters": {"dense": 8}}, "the search chooses the hyperparameters of tuned"),
    ):
        with pytest.raises(SettingsError, match=message):
            pt.fit(train, validation, **settings)
    with pytest.raises(DataError, match="0 validation images without any label"):
        pt.fit(train, validation.take([]))
    assert not list(tmp_path.iterdir())


def test_photos_that_cannot_be_read_leave_nothing_to_learn_from(squares, tmp_path) -> None:
    train, validation, _ = squares
    broken = tmp_path / "broken.jpg"
    broken.write_text("not a photo")
    none = replace(train, paths=np.full(len(train), str(broken)))
    with pytest.raises(DataError):
        pt.fit(none, validation, "baseline", image_size=32, epochs=1, show_progress=False)


def test_photos_in_both_sets_are_refused(squares) -> None:
    train, validation, _ = squares
    both = validation.take(np.arange(len(validation)))
    both = replace(both, paths=np.append(both.paths[:-1], train.paths[0]))
    with pytest.raises(DataError, match="also contains 1 validation image"):
        pt.fit(train, both, "baseline", image_size=32, epochs=1, show_progress=False)

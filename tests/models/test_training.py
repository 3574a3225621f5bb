"""Training: each approach gives a complete bundle, the same one for the same seed, and never sees test data."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import polytag as pt
from polytag.data.images import decode
from polytag.errors import BundleError, DataError, SettingsError
from polytag.evaluation.calibration import KINDS, Calibration
from polytag.evaluation.thresholds import choose_thresholds
from polytag.models import fitting, onnx, openvino, training, transfer
from polytag.models.architectures import MODELS
from polytag.models.backbones import backbone
from polytag.models.backend import keras
from polytag.models.bundle import Bundle
from polytag.models.pretrained import find_weights

SMALL = {
    "baseline": {"epochs": 3},
    "tuned": {"epochs": 3, "trials": 2},
    "transfer": {"epochs": 4, "fine_tune": 1},
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
        "training-images.txt",
    }
    assert trained.labels == squares[0].labels
    assert ((trained.thresholds > 0) & (trained.thresholds < 1)).all()
    assert (trained.thresholds != 0.5).any()
    assert facts["fit_seconds"] > 0
    assert 0 < facts["trainable_parameters"] <= facts["parameters"]
    assert 0 <= facts["validation_accuracy"] <= 1
    assert {"loss", "learning_rate", "validation_loss", "validation_mean_average_precision"} == set(facts["history"][0])
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


@pytest.mark.parametrize(("model", "fine_tune"), [("baseline", None), ("transfer", 0), ("transfer", 1)])
def test_calibration_sees_what_the_kept_network_gives(squares, monkeypatch, model: str, fine_tune: int | None) -> None:
    train, validation, _ = squares
    seen = []

    def none(targets, probabilities, *_):
        seen.append(probabilities)
        return Calibration.straight("none", np.ones(3), np.zeros(3)), {}

    monkeypatch.setattr(training, "choose_calibration", none)
    settings = {"image_size": 32, "epochs": 5, "fine_tune": fine_tune, "learning_rate": 3e-3}
    bundle = pt.fit(train, validation, model, show_progress=False, **settings)
    np.testing.assert_allclose(seen[0], bundle.predict(validation.paths)[0], atol=1e-4)


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
    monkeypatch.setattr(fitting, "MANY_PHOTOS", 0)
    assert fitting.photo_batches(train, pt.Recipe.of(model, image_size=32), True).workers == 2
    np.testing.assert_array_equal(first, probabilities(3))


def test_it_learns(squares) -> None:
    train, validation, test = squares
    bundle = pt.fit(train, validation, "transfer", image_size=96, epochs=25, fine_tune=0, show_progress=False)
    chance = (test.targets == 1).mean()
    assert pt.evaluate(bundle, test).scores["mean_average_precision"] > chance + 0.3


def test_fine_tuning_that_does_harm_is_undone(squares, monkeypatch) -> None:
    train, validation, test = squares
    settings = {"image_size": 48, "epochs": 6, "show_progress": False}
    frozen = pt.fit(train, validation, "transfer", fine_tune=0, **settings)

    def harmful(network, *args, **kwargs):
        network.set_weights([w * 0 for w in network.get_weights()])
        return fitting.Fitted([{"validation_mean_average_precision": 0.0}], 0, np.zeros_like(validation.targets, float))

    original = transfer.run
    calls = []

    def run(network, *args, **kwargs):
        calls.append(network.name)
        return harmful(network) if len(args) > 5 else original(network, *args, **kwargs)

    monkeypatch.setattr(transfer, "run", run)
    tuned = pt.fit(train, validation, "transfer", fine_tune=2, **settings)
    assert calls == ["head", "transfer"]
    assert tuned.manifest["fine_tuning"].startswith("undone")
    head = [epoch["validation_mean_average_precision"] for epoch in tuned.manifest["history"][:-1]]
    assert tuned.manifest["kept_epoch"] == int(np.argmax(head))
    assert tuned.manifest["trainable_parameters"] == frozen.manifest["trainable_parameters"]
    np.testing.assert_allclose(tuned.predict(test.paths)[0], frozen.predict(test.paths)[0], atol=1e-6)


@pytest.mark.parametrize(("photos", "epochs"), [(84, 8), (1500, 8), (2000, 6), (5600, 2), (12_001, 1), (10**6, 1)])
def test_small_sets_are_fine_tuned_longer(photos: int, epochs: int) -> None:
    assert transfer.default_epochs(photos) == epochs


@pytest.mark.parametrize(
    ("size", "training"), [(32, 32), (100, 100), (224, 224), (256, 224), (288, 224), (320, 256), (448, 352), (999, 768)]
)
def test_fine_tuning_trains_on_smaller_photos(size: int, training: int) -> None:
    assert transfer.fine_tuning_size(size) == training


def test_what_was_fine_tuned_on_smaller_photos_is_judged_and_tags_at_full_size(squares, monkeypatch) -> None:
    train, validation, _ = squares
    monkeypatch.setattr(transfer, "fine_tuning_size", lambda size: size // 2)
    monkeypatch.setattr(transfer, "mean_average_precision", lambda *_: 1.0)  # fine-tuning is kept
    seen, original = [], transfer.run

    def run(network, batches, judged, *args, **kwargs):
        seen.append((batches[0][0].shape[1:], judged[0][0].shape[1:]))
        return original(network, batches, judged, *args, **kwargs)

    monkeypatch.setattr(transfer, "run", run)
    straight = Calibration.straight("none", np.ones(3), np.zeros(3))
    monkeypatch.setattr(training, "choose_calibration", lambda *_: (straight, {}))
    bundle = pt.fit(train, validation, "transfer", image_size=96, epochs=1, fine_tune=1, show_progress=False)
    assert seen[1:] == [((48, 48, 3), (48, 48, 3))]
    assert bundle.manifest["fine_tuning"] == "kept; it used photos of 48 × 48 px"
    assert bundle.keras_model().input_shape == (None, 96, 96, 3)
    probabilities, _ = bundle.predict(validation.paths)
    score = fitting.mean_average_precision(validation.targets, probabilities)
    assert bundle.manifest["validation"]["mean_average_precision"] == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
@pytest.mark.parametrize("size", [288, 300])
def test_the_same_layers_are_trained_at_either_size(name: str, size: int) -> None:
    def trained(size: int) -> list[bool]:
        network = backbone(name, size, find_weights(None, name))
        transfer._unfreeze(network, size)
        return [layer.trainable for layer in transfer._leaves(network)]

    assert trained(size) == trained(transfer.fine_tuning_size(size))


def test_long_fine_tuning_averages_trainings_from_the_same_start(squares, monkeypatch) -> None:
    train, validation, _ = squares
    monkeypatch.setattr(transfer, "TRAINING_EPOCHS", 2)
    original, starts, ends = transfer.run, [], []

    def run(network, *args, **kwargs):
        starts.append(network.get_weights())
        fitted = original(network, *args, **kwargs)
        ends.append(network.get_weights())
        return fitted

    monkeypatch.setattr(transfer, "run", run)
    monkeypatch.setattr(transfer, "mean_average_precision", lambda *_: 1.0)  # fine-tuning is kept
    straight = Calibration.straight("none", np.ones(3), np.zeros(3))
    monkeypatch.setattr(training, "choose_calibration", lambda *_: (straight, {}))
    bundle = pt.fit(train, validation, "transfer", image_size=32, epochs=1, fine_tune=5, show_progress=False)
    assert len(ends) == 3 and len(bundle.manifest["history"]) == 1 + 5
    assert bundle.manifest["kept_epoch"] is None, "the mean is of no epoch"
    for one, other in zip(starts[1], starts[2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((one != other).any() for one, other in zip(ends[1], ends[2], strict=True))
    for kept, one, other in zip(bundle.keras_model().get_weights(), ends[1], ends[2], strict=True):
        np.testing.assert_allclose(kept, (one + other) / 2, atol=1e-6)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "MobileNetV2"])
def test_other_backbones_and_losses_from_training_to_tags(squares, monkeypatch, tmp_path, name: str) -> None:
    train, validation, test = squares
    weights = None
    if name == "MobileNetV2":  # as keras.applications builds it, with layers of batch normalisation
        weights = tmp_path / "random.weights.h5"
        base = keras.applications.MobileNetV2(input_shape=(48, 48, 3), include_top=False, weights=None)
        base.save_weights(weights)
    monkeypatch.setattr(transfer, "mean_average_precision", lambda *_: 1.0)  # fine-tuning is kept
    settings = {"image_size": 48, "epochs": 1, "fine_tune": 1, "loss": "asymmetric", "show_progress": False}
    bundle = pt.fit(train, validation, "transfer", backbone=name, weights=weights, out=tmp_path / "bundle", **settings)
    before = backbone(name, 48, find_weights(weights, name))
    after = bundle.keras_model().get_layer("backbone")
    changed = {
        b.path.rpartition("/")[2]
        for a, b in zip(before.variables, after.variables, strict=True)
        if "seed" not in b.path and np.abs(np.asarray(a) - np.asarray(b)).max() > 0
    }
    assert "kernel" in changed and not {"moving_mean", "moving_variance", "gamma", "beta"} & changed
    probabilities, _ = Bundle(tmp_path / "bundle").predict(test.paths)
    photos = np.stack([decode(path, 48) for path in test.paths])
    np.testing.assert_allclose(bundle.keras_model().predict(photos, verbose=0), probabilities, atol=1e-4)


def test_a_network_is_trained_in_16_bits_and_kept_in_32(squares, monkeypatch) -> None:
    train, validation, _ = squares
    policies, original = [], MODELS["baseline"]

    def cnn(*args, policy="float32", **settings):
        policies.append(policy)
        return original(*args, policy=policy, **settings)

    monkeypatch.setitem(MODELS, "baseline", cnn)
    monkeypatch.setattr(training, "training_policy", lambda: "mixed_bfloat16")
    bundle = pt.fit(train, validation, "baseline", image_size=32, epochs=1, show_progress=False)
    assert policies == ["mixed_bfloat16", "float32"]
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


@pytest.mark.parametrize(("model", "place"), [("baseline", training), ("transfer", transfer)])
def test_photos_that_vanish_during_training_cost_no_training(squares, monkeypatch, tmp_path, model, place) -> None:
    train, validation, _ = squares
    copies = []
    for part in (train, validation):
        folder = tmp_path / f"{len(copies)}"
        folder.mkdir()
        paths = [shutil.copy(path, folder / Path(path).name) for path in part.paths]
        copies.append(replace(part, paths=np.array(list(map(str, paths))), root=folder))
    original = place.run

    def run(*arguments, **settings):
        fitted = original(*arguments, **settings)
        if model == "baseline" or len(arguments) > 6:  # fine-tuning brings its optimizer
            for part in copies:
                Path(part.paths[0]).unlink()
        return fitted

    monkeypatch.setattr(place, "run", run)
    monkeypatch.setattr(transfer, "fine_tuning_size", lambda size: size // 2)
    monkeypatch.setattr(transfer, "mean_average_precision", lambda *_: 1.0)  # fine-tuning is kept
    fine_tune = {"fine_tune": 1} if model == "transfer" else {}
    bundle = pt.fit(*copies, model, image_size=64, epochs=1, show_progress=False, **fine_tune)
    assert np.isfinite(bundle.thresholds).all() and bundle.seen(train).all()
    (name,) = bundle.manifest["data"]["left_out"]
    assert name == copies[1].names[0] and "since training began" in bundle.manifest["data"]["left_out"][name]


def test_a_twin_that_differs_is_dropped_and_keras_runs_the_bundle(squares, monkeypatch) -> None:
    train, validation, test = squares
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.warns(UserWarning, match=r"no ONNX twin was written \(it differed from the model"):
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
        ({"model": "baseline", "backbone": "resnet50"}, "backbone means nothing to baseline"),
        ({"model": "baseline", "weights": "w.pth"}, "weights mean nothing to baseline"),
        ({"augmentation": "cutout"}, "none, flip, crop"),
        ({"out": tmp_path}, "exists already"),
        ({"objective": "accuracy"}, "objective must be f1, subset"),
        ({"model": "tuned", "hyperparameters": {"dense": 8}}, "hyperparameters are what the search of tuned chooses"),
    ):
        with pytest.raises(SettingsError, match=message):
            pt.fit(train, validation, **settings)
    with pytest.raises(DataError, match="0 validation images without any label"):
        pt.fit(train, validation.take([]))
    assert not list(tmp_path.iterdir())


def test_fine_tuning_trains_the_late_layers_only() -> None:
    network = backbone("mobilenet_v2", 64, None)
    transfer._unfreeze(network, 64)
    layers = [layer for layer in network._flatten_layers() if layer.weights and not isinstance(layer, keras.Model)]
    normalisations = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    trained = {layer.name for layer in layers if layer.trainable}
    assert not any(layer.trainable for layer in normalisations)
    # A side of 8 is an eighth of 64: the sixth block is the first whose output is smaller.
    assert {"Conv_1", "block_16_project", "block_7_expand", "block_6_depthwise"} <= trained
    assert not trained & {"Conv1", "block_1_expand", "block_5_project", "block_6_expand"}
    assert {weight.path for weight in network.trainable_weights} == {
        weight.path for layer in layers if layer.name in trained for weight in layer.weights
    }


def test_fine_tuning_leaves_early_squeeze_and_excitation_alone() -> None:
    network = backbone("EfficientNetB0", 64, None)
    transfer._unfreeze(network, 64)
    trained = {layer.name for layer in transfer._leaves(network) if layer.trainable and layer.weights}
    assert {"block5a_se_reduce", "top_conv", "block7a_project_conv"} <= trained
    # Its output is a single pixel, but what it weighs has a quarter of the photo's side.
    assert not trained & {"stem_conv", "block2a_se_reduce", "block1a_se_expand"}
    assert not any(
        layer.trainable for layer in transfer._leaves(network) if isinstance(layer, keras.layers.BatchNormalization)
    )


def test_photos_that_cannot_be_read_leave_nothing_to_learn_from(squares, tmp_path) -> None:
    train, validation, _ = squares
    broken = tmp_path / "broken.jpg"
    broken.write_text("not a photo")
    none = replace(train, paths=np.full(len(train), str(broken)))
    with pytest.raises(DataError):
        pt.fit(none, validation, "baseline", image_size=32, epochs=1, show_progress=False)


@pytest.mark.parametrize("kept", [True, False])
def test_a_twin_in_8_bits_is_kept_only_where_it_loses_little(squares, monkeypatch, tmp_path, kept: bool) -> None:
    train, validation, test = squares
    monkeypatch.setattr(training, "MOST_LOST", 1.0 if kept else -1.0)
    out = tmp_path / "bundle"
    bundle = pt.fit(train, validation, "baseline", image_size=32, epochs=1, out=out, int8=True, show_progress=False)
    facts = bundle.manifest["int8"]
    assert facts["kept"] == kept and ("model-int8.onnx" in bundle.manifest["files"]) == kept
    assert (out / "model-int8.onnx").exists() == kept
    reached = bundle.manifest["validation"]["mean_average_precision"] - facts["lost"]
    assert facts["validation_mean_average_precision"] == pytest.approx(reached)
    if kept:
        with monkeypatch.context() as without:
            without.setattr(openvino.importlib.util, "find_spec", lambda name: None)
            with pytest.raises(SettingsError, match="pip install 'polytag\\[export\\]'"):
                Bundle(out, "int8")
        twin = Bundle(out, "int8")
        probabilities = twin.predict(validation.paths)[0]
        assert fitting.mean_average_precision(validation.targets, probabilities) == pytest.approx(reached, abs=1e-6)
        assert 0 < np.abs(twin.predict(test.paths)[0] - bundle.predict(test.paths)[0]).max() < 0.1
    else:
        with pytest.raises(BundleError, match="only by float32: int8 is made by training with --int8"):
            Bundle(out, "int8")


def test_a_network_that_8_bits_cannot_hold_is_trained_all_the_same(squares, monkeypatch) -> None:
    def fails(*arguments) -> None:
        raise RuntimeError("no such operation\nand more")

    monkeypatch.setattr(training, "write_int8", fails)
    train, validation, _ = squares
    bundle = pt.fit(train, validation, "baseline", image_size=32, epochs=1, int8=True, show_progress=False)
    assert bundle.manifest["int8"] == {
        "kept": False,
        "reason": "that failed (no such operation)",
    }
    assert bundle.engines == ("float32",)

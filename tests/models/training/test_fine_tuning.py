"""Fine-tuning: trained layers, photos, length, and undoing it if it lowers the score."""

import numpy as np
import pytest

import polytag as pt
from polytag.evaluation.calibration import Calibration
from polytag.evaluation.selection import VALIDATION_SCORE, selection_score
from polytag.models import fit as training
from polytag.models.backbones.backbone import backbone
from polytag.models.backbones.weights import find_weights
from polytag.models.backend import keras
from polytag.models.bundle.bundle import Bundle
from polytag.models.networks.architectures import transfer as transfer_network
from polytag.models.recipe import Recipe
from polytag.models.training import batches, early_layers, fine_tuning, late_layers, transfer
from polytag.models.training import loop as fitting
from polytag.photos.decode import decode


def test_harmful_fine_tuning_is_undone(squares, small_weights, monkeypatch) -> None:
    train, validation, test = squares
    settings = {"image_size": 48, "epochs": 6, "weights": small_weights, "show_progress": False}
    frozen = pt.fit(train, validation, "transfer", fine_tune=0, **settings)

    def harmful(network, *args, **kwargs):
        network.set_weights([w * 0 for w in network.get_weights()])
        return fitting.Fitted([{VALIDATION_SCORE: 0.0}], 0, np.zeros_like(validation.targets, float))

    original = transfer.fit_network
    calls = []

    def run(network, *args, **kwargs):
        calls.append(network.name)
        return harmful(network) if len(args) > 5 else original(network, *args, **kwargs)

    for module in (transfer, fine_tuning):
        monkeypatch.setattr(module, "fit_network", run)
    tuned = pt.fit(train, validation, "transfer", fine_tune=2, **settings)
    assert calls == ["head", "transfer"]
    assert tuned.manifest["fine_tuning"].startswith("undone")
    head = [epoch[VALIDATION_SCORE] for epoch in tuned.manifest["history"][:-1]]
    assert tuned.manifest["kept_epoch"] == int(np.argmax(head))
    assert tuned.manifest["trainable_parameters"] == frozen.manifest["trainable_parameters"]
    np.testing.assert_allclose(tuned.predict(test.paths)[0], frozen.predict(test.paths)[0], atol=1e-6)


def test_augmentation_applies_to_fine_tuning_and_not_to_the_head(squares, small_weights, monkeypatch) -> None:
    train, validation, _ = squares
    settings = {"image_size": 32, "epochs": 3, "weights": small_weights, "show_progress": False}
    seen, original = set(), batches.augmented

    def augmented(photo, augmentation, *args):
        seen.add(augmentation)
        return original(photo, augmentation, *args)

    monkeypatch.setattr(batches, "augmented", augmented)
    heads = []
    for fine_tune, asked, applied in (
        (0, "crop", set()),
        (1, None, {"colour"}),
        (1, "crop", {"crop"}),
        (1, "none", set()),
    ):
        seen.clear()
        bundle = pt.fit(train, validation, "transfer", fine_tune=fine_tune, augmentation=asked, **settings)
        assert seen == applied
        heads.append(bundle.manifest["history"][:3])
    assert all(history == heads[0] for history in heads)


@pytest.mark.parametrize(("photos", "epochs"), [(84, 8), (1500, 8), (2000, 6), (5600, 2), (12_001, 1), (10**6, 1)])
def test_small_sets_are_fine_tuned_longer(photos: int, epochs: int) -> None:
    assert fine_tuning.default_epochs(photos) == epochs


@pytest.mark.parametrize(
    ("gpus", "asked", "images", "per_step", "rate"),
    [
        (0, 128, 10**6, 32, 3e-4),
        (1, 8, 10**6, 8, 3e-4),
        (2, 128, 10**6, 64, 4.243e-4),
        (8, 128, 10**6, 128, 6e-4),
        (8, 128, 200, 32, 3e-4),
    ],
)
def test_each_gpu_gets_as_many_photos_as_one(gpus, asked, images, per_step, rate, monkeypatch) -> None:
    monkeypatch.setattr(fine_tuning, "replicas", lambda: ["GPU"] * gpus)
    size = fine_tuning.batch_size(Recipe.of("best", batch_size=asked), images)
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    schedule = fine_tuning._optimizer(network, 0, 100, 10, size)._learning_rate
    assert (size, float(schedule(10))) == (per_step, pytest.approx(rate, rel=1e-3))


@pytest.mark.parametrize(
    ("size", "training"), [(32, 32), (100, 100), (224, 224), (256, 224), (288, 224), (320, 256), (448, 352), (999, 768)]
)
def test_fine_tuning_trains_on_smaller_photos(size: int, training: int) -> None:
    assert fine_tuning.fine_tuning_size(size) == training


def test_fine_tuning_on_smaller_photos_validates_and_tags_at_full_size(squares, small_weights, monkeypatch) -> None:
    train, validation, _ = squares
    for module in (transfer, fine_tuning):
        monkeypatch.setattr(module, "fine_tuning_size", lambda size: size // 2)
    monkeypatch.setattr(early_layers, "on_cpu", lambda: True)
    monkeypatch.setattr(transfer, "paired_difference", lambda *_: (0.0, 0.0))  # fine-tuning is kept
    seen, original = [], fine_tuning.fit_network

    def run(network, batches, judged, *args, **kwargs):
        seen.append((batches[0][0].shape[1:], judged[0][0].shape[1:]))
        return original(network, batches, judged, *args, **kwargs)

    monkeypatch.setattr(fine_tuning, "fit_network", run)
    straight = Calibration.straight("none", np.ones(3), np.zeros(3))
    monkeypatch.setattr(training, "choose_calibration", lambda *_: (straight, {}))
    bundle = pt.fit(
        train, validation, "transfer", image_size=96, epochs=1, fine_tune=1, weights=small_weights, show_progress=False
    )
    # The early layers reduce 48 pixels to an eighth.
    assert seen == [((6, 6, 16), (6, 6, 16))]
    assert bundle.manifest["fine_tuning"] == "kept; it used photos at 48 × 48 px"
    assert bundle.keras_model().input_shape == (None, 96, 96, 3)
    probabilities, _ = bundle.predict(validation.paths)
    score = selection_score(validation.targets, probabilities)
    assert bundle.manifest[VALIDATION_SCORE] == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
@pytest.mark.parametrize("size", [288, 300])
def test_the_same_layers_are_trained_at_either_size(name: str, size: int) -> None:
    def trained(size: int) -> list[bool]:
        network = backbone(name, size, find_weights(None, name))
        late_layers.unfreeze(network, size)
        return [layer.trainable for layer in late_layers.leaves(network)]

    assert trained(size) == trained(fine_tuning.fine_tuning_size(size))


def test_long_fine_tuning_averages_trainings_from_the_same_start(squares, small_weights, monkeypatch) -> None:
    train, validation, _ = squares
    monkeypatch.setattr(fine_tuning, "TRAINING_EPOCHS", 2)
    original, starts, ends = fine_tuning.fit_network, [], []

    def run(network, *args, **kwargs):
        starts.append(network.get_weights())
        fitted = original(network, *args, **kwargs)
        ends.append(network.get_weights())
        return fitted

    monkeypatch.setattr(fine_tuning, "fit_network", run)
    monkeypatch.setattr(transfer, "paired_difference", lambda *_: (0.0, 0.0))  # fine-tuning is kept
    straight = Calibration.straight("none", np.ones(3), np.zeros(3))
    monkeypatch.setattr(training, "choose_calibration", lambda *_: (straight, {}))
    bundle = pt.fit(
        train, validation, "transfer", image_size=32, epochs=1, fine_tune=5, weights=small_weights, show_progress=False
    )
    assert len(ends) == 2 and len(bundle.manifest["history"]) == 1 + 5
    assert bundle.manifest["kept_epoch"] is None, "an average belongs to no epoch"
    for one, other in zip(*starts, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((one != other).any() for one, other in zip(*ends, strict=True))
    late = bundle.keras_model().get_weights()[-len(ends[0]) :]
    for kept, one, other in zip(late, *ends, strict=True):
        np.testing.assert_allclose(kept, (one + other) / 2, atol=1e-6)


def test_the_loss_is_scaled_where_only_float16_is_supported(squares, small_weights, monkeypatch) -> None:
    train, validation, _ = squares
    original, optimizers = fine_tuning.fit_network, []

    def run(learner, *args, **kwargs):
        fitted = original(learner, *args, **kwargs)
        optimizers.append(learner.optimizer)
        return fitted

    monkeypatch.setattr(fine_tuning, "fit_network", run)
    losses = []
    for policy in ("float32", "mixed_float16"):
        monkeypatch.setattr(fine_tuning, "training_policy", lambda policy=policy: policy)
        settings = {"image_size": 48, "epochs": 1, "fine_tune": 2, "weights": small_weights, "batch_size": 32}
        bundle = pt.fit(train, validation, "transfer", show_progress=False, **settings)
        losses.append([epoch["loss"] for epoch in bundle.manifest["history"]])
    scaled = [isinstance(optimizer, keras.optimizers.LossScaleOptimizer) for optimizer in optimizers]
    assert scaled == [False, True]
    assert 1 < int(optimizers[1].iterations) <= 2 * -(-len(train) // 32), "steps with infinite gradients are skipped"
    np.testing.assert_allclose(losses[1], losses[0], atol=0.01)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "MobileNet"])
def test_other_backbones_and_losses_from_training_to_tags(squares, monkeypatch, tmp_path, name: str) -> None:
    train, validation, test = squares
    weights = None
    if name == "MobileNet":  # the smallest network of keras.applications with batch normalisation
        weights = tmp_path / "random.weights.h5"
        base = keras.applications.MobileNet(input_shape=(48, 48, 3), include_top=False, weights=None)
        base.save_weights(weights)
    monkeypatch.setattr(transfer, "paired_difference", lambda *_: (0.0, 0.0))  # fine-tuning is kept
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


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(("name", "channels"), [("mobilenet_v2", 32), ("efficientnet_lite0", 40)])
def test_early_and_late_layers_together_equal_the_whole_network(
    name: str, channels: int, policy: str, monkeypatch
) -> None:
    monkeypatch.setattr(early_layers, "on_cpu", lambda: True)

    def built(policy: str) -> keras.Model:
        keras.utils.set_random_seed(0)
        network = transfer_network(3, 64, backbone=name, weights=find_weights(None, name), policy=policy)
        late_layers.unfreeze(network.get_layer("backbone"), 64)
        return network

    network = built(policy)
    late, features = early_layers.split_early_layers(network, built("float32"))
    photos = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    made = features(photos)
    assert made.shape == (3, 8, 8, channels) and made.dtype == np.float32
    close = {"atol": 1e-5 if policy == "float32" else 0.02}
    expected = network.predict(photos, verbose=0)
    np.testing.assert_allclose(late.predict(made, verbose=0), expected, **close)
    assert [w.path for w in late.trainable_variables] == [w.path for w in network.trainable_variables]
    # The layers are shared: training the late ones changes the whole network.
    late.set_weights([weight * 0.8 for weight in late.get_weights()])
    after = network.predict(photos, verbose=0)
    assert np.abs(after - expected).max() > 0.03
    np.testing.assert_allclose(late.predict(made, verbose=0), after, **close)


def test_a_network_without_bottleneck_is_not_split(monkeypatch) -> None:
    nested = transfer_network(3, 64, backbone="MobileNetV2", weights=None)
    late_layers.unfreeze(nested.get_layer("backbone"), 64)
    monkeypatch.setattr(early_layers, "on_cpu", lambda: True)
    assert early_layers.split_early_layers(nested, nested) == (nested, None)
    network = transfer_network(3, 64, weights=find_weights(None))
    late_layers.unfreeze(network.get_layer("backbone"), 64)
    assert early_layers.split_early_layers(network, network)[0] is not network
    for name in ("export_onnx", "on_cpu"):
        with monkeypatch.context() as patched:
            patched.setattr(early_layers, name, lambda *_: False)
            assert early_layers.split_early_layers(network, network) == (network, None)


def test_all_paths_lead_through_the_bottleneck() -> None:
    layers = keras.layers
    photo = layers.Input((8, 8, 3), dtype="uint8")
    stem = layers.Conv2D(4, 1, strides=2, name="stem")(layers.Rescaling(1 / 255)(photo))
    small = layers.Conv2D(1, 1, name="small")(stem)  # smaller, but a path leads past it
    both = layers.Concatenate()([stem, small])
    narrow = layers.Conv2D(2, 1, name="narrow")(both)
    wide = layers.Conv2D(9, 1, name="wide")(layers.ReLU(name="as_narrow")(narrow))
    trained = layers.Conv2D(1, 1, name="trained")(wide)
    network = keras.Model(photo, layers.GlobalAveragePooling2D()(trained))
    for layer in network.layers:
        layer.trainable = layer.name == "trained"
    assert network.layers[early_layers.bottleneck(network)].name == "as_narrow"
    network.get_layer("small").trainable = True
    assert network.layers[early_layers.bottleneck(network)].name == "stem"
    network.get_layer("stem").trainable = True
    assert early_layers.bottleneck(network) is None


def test_fine_tuning_trains_the_late_layers_only() -> None:
    network = backbone("mobilenet_v2", 64, None)
    late_layers.unfreeze(network, 64)
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


def test_fine_tuning_leaves_large_depthwise_kernels_alone() -> None:
    network = backbone("efficientnet_lite0", 64, find_weights(None, "efficientnet_lite0"))
    late_layers.unfreeze(network, 64)
    depthwise = [layer for layer in network.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    late = [layer for layer in depthwise if layer.output.shape[1] < 8]
    assert {layer.kernel_size for layer in late} == {(3, 3), (5, 5)}
    assert [layer for layer in depthwise if layer.trainable] == [layer for layer in late if layer.kernel_size == (3, 3)]
    assert network.get_layer("block_10_expand").trainable and network.get_layer("block_10_project").trainable


def test_fine_tuning_leaves_early_squeeze_and_excitation_alone() -> None:
    network = backbone("EfficientNetB0", 64, None)
    late_layers.unfreeze(network, 64)
    trained = {layer.name for layer in late_layers.leaves(network) if layer.trainable and layer.weights}
    assert {"block5a_se_reduce", "top_conv", "block7a_project_conv"} <= trained
    # Its output is a single pixel, but what it weighs has a quarter of the photo's side.
    assert not trained & {"stem_conv", "block2a_se_reduce", "block1a_se_expand"}
    assert not any(
        layer.trainable for layer in late_layers.leaves(network) if isinstance(layer, keras.layers.BatchNormalization)
    )

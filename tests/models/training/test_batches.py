"""Batches: every photo once in an epoch, the same for the same seed, augmented only where asked."""

import numpy as np
import pytest

from polytag.models.backend import keras
from polytag.models.recipe import AUGMENTATIONS
from polytag.models.training.batches import Batches, augmented, reduced
from polytag.photos.pixels import View


def images(n: int = 10, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


class InMemory:
    """Stands for a cache."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape = array, array.shape[1:]

    def read(self, rows: np.ndarray, *_: object) -> np.ndarray:
        return self.array[rows]


def view(array: np.ndarray, rows: np.ndarray) -> View:
    return View(InMemory(array), rows)


def test_devices_share_batches_evenly_and_other_photos_wait_in_turn() -> None:
    array = images(11)
    batches = Batches(view(array, np.arange(11)), np.zeros((11, 1), np.int8), 4, shuffle=True, devices=4)
    waiting = set()
    for _ in range(20):
        assert [len(batches[i][0]) for i in range(len(batches))] == [4, 4]
        waiting |= {*range(11)} - {*batches._order}
        batches.on_epoch_end()
    assert len(waiting) == 11
    assert len(Batches(view(array, np.arange(3)), np.zeros((3, 1), np.int8), 4, shuffle=True, devices=4)[0][0]) == 3
    in_order = Batches(view(array, np.arange(11)), np.zeros((11, 1), np.int8), 4, devices=4)
    assert sum(len(in_order[i][0]) for i in range(len(in_order))) == 11


def drawn(batches: Batches) -> np.ndarray:
    return np.concatenate([batches[i][0] for i in range(len(batches))])


def test_every_photo_comes_once_in_each_epoch_with_its_targets() -> None:
    array, rows = images(20), np.array([3, 1, 7, 12, 5, 0, 19])
    targets = np.arange(14, dtype=np.int8).reshape(7, 2)
    batches = Batches(view(array, rows), targets, 3, shuffle=True, seed=5)
    orders = []
    for _ in range(3):
        x, y = map(np.concatenate, zip(*(batches[i] for i in range(len(batches))), strict=True))
        order = y[:, 0].astype(int) // 2
        np.testing.assert_array_equal(np.sort(order), np.arange(7))
        np.testing.assert_array_equal(x, array[rows[order]])
        orders.append(tuple(order))
        batches.on_epoch_end()
    assert len(set(orders)) > 1


def test_the_same_seed_gives_the_same_batches_in_any_order_of_asking() -> None:
    array, rows = images(), np.arange(10)
    a, b = (Batches(view(array, rows), np.zeros((10, 1), np.int8), 4, True, "crop", seed=1) for _ in range(2))
    second = b[1][0]
    np.testing.assert_array_equal(a[0][0], b[0][0])
    np.testing.assert_array_equal(a[1][0], second)
    c = Batches(view(array, rows), np.zeros((10, 1), np.int8), 4, True, "crop", seed=2)
    assert (drawn(a) != drawn(c)).any()


def test_without_shuffling_order_and_photos_are_untouched() -> None:
    array, rows = images(), np.array([4, 4, 2, 9])
    batches = Batches(view(array, rows), np.zeros((4, 1), np.int8), 3)
    np.testing.assert_array_equal(drawn(batches), array[rows])
    batches.on_epoch_end()
    np.testing.assert_array_equal(drawn(batches), array[rows])


def test_a_training_sees_the_same_batches_from_threads() -> None:
    array, targets = images(50), np.random.default_rng(1).integers(0, 2, (50, 2), dtype=np.int8)

    def trained(threads: int) -> tuple[list[float], list[np.ndarray]]:
        keras.utils.set_random_seed(0)
        network = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
        network.compile(keras.optimizers.SGD(1e-6), "mse")
        batches = Batches(view(array, np.arange(50)), targets, 4, True, "colour", seed=3, threads=threads)
        losses = network.fit(batches, epochs=3, shuffle=False, verbose=0).history["loss"]
        return losses, [*network.get_weights(), network.predict(batches, verbose=0)]

    (losses, arrays), (same_losses, same_arrays) = trained(1), trained(2)
    assert losses == same_losses and len(set(losses)) == 3
    for a, b in zip(arrays, same_arrays, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS[1:])
def test_augmentation_varies_but_keeps_shape_range_and_source(augmentation: str) -> None:
    photo = images(1, 16)[0]
    before = photo.copy()
    rng = np.random.default_rng(0)
    results = [augmented(photo, augmentation, rng) for _ in range(20)]
    assert all(r.shape == photo.shape and r.dtype == np.uint8 for r in results)
    assert len({r.tobytes() for r in results}) == (2 if augmentation == "flip" else 20)
    np.testing.assert_array_equal(photo, before)


def test_flip_mirrors_left_and_right() -> None:
    photo = images(1)[0]
    both = {augmented(photo, "flip", np.random.default_rng(seed)).tobytes() for seed in range(10)}
    assert both == {photo.tobytes(), photo[:, ::-1].tobytes()}


def test_a_crop_shows_a_part_of_the_photo() -> None:
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    spans = []
    for seed in range(30):
        row = augmented(ramp, "crop", np.random.default_rng(seed))[32, :, 0].astype(int)
        steps = np.diff(row)
        assert (steps >= 0).all() or (steps <= 0).all()
        spans.append(abs(row[-1] - row[0]) / 255)
    assert 0.55 < min(spans) < max(spans) <= 1


@pytest.mark.parametrize(("size", "reduce"), [(8, 2), (21, 4), (9, 1)])
def test_photos_are_reduced_as_the_network_that_tags_reduces_them(size: int, reduce: int) -> None:
    array = images(5, size)
    batches = Batches(view(array, np.arange(5)), np.zeros((5, 1), np.int8), 5, reduce=reduce)
    expected = keras.ops.average_pool(array.astype("float32"), reduce)
    np.testing.assert_allclose(batches[0][0], keras.ops.convert_to_numpy(expected), atol=0.5)
    np.testing.assert_allclose(reduced(array[0], reduce), keras.ops.convert_to_numpy(expected)[0], atol=0.5)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS[1:])
def test_a_variation_that_is_reduced_is_the_one_that_is_not(augmentation: str) -> None:
    # Smooth, so that it hardly matters in which order pixels are drawn and averaged.
    y, x = np.mgrid[:64, :64] / 10
    photo = (127 + 100 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1)).astype(np.uint8)
    for seed in range(10):
        whole, small = (augmented(photo, augmentation, np.random.default_rng(seed), reduce) for reduce in (1, 4))
        assert small.shape == (16, 16, 3) and small.dtype == np.uint8
        assert np.abs(reduced(whole, 4).astype(int) - small).mean() < 3


def test_batches_may_be_of_features_of_the_photos_that_would_be_shown() -> None:
    array, seen = images(5), []

    def features(photos: np.ndarray) -> np.ndarray:
        seen.append(len(photos))
        return photos.mean(axis=(1, 2), dtype=np.float32)

    rest = (view(array, np.arange(5)), np.zeros((5, 1), np.int8), 5, True, "colour", 3)
    np.testing.assert_array_equal(Batches(*rest, features=features)[0][0], features(Batches(*rest)[0][0]))
    assert seen == [5, 5]

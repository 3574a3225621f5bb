"""Measure how fast this machine fine-tunes a backbone."""

import time

import numpy as np

from polytag.models.backbones.weights import Weights
from polytag.models.backend import keras, on_all_gpus, training_policy
from polytag.models.networks.architectures import transfer
from polytag.models.recipe import Recipe
from polytag.models.training.early_layers import split_early_layers
from polytag.models.training.fine_tuning import batch_size
from polytag.models.training.late_layers import unfreeze
from polytag.models.training.losses import LOSSES

STEPS = 3
"""Number of steps that are timed. One more step before them compiles the network."""

LABELS = 10
"""Number of labels, which has almost no influence."""

THREADS = 2
"""Number of threads that run the early layers at the same time (`polytag.models.training.loop.photo_batches`)."""


def seconds_per_photo(weights: Weights, image_size: int, photos: int) -> float:
    """Return the time to fine-tune with a photo, in seconds. Augmentation runs on other threads at the same time.

    Args:
        weights: weights of the backbone.
        image_size: width and height of the photos during fine-tuning, in pixels.
        photos: number of training photos.
    """
    size = batch_size(Recipe.of("best"), photos)
    pixels = np.random.default_rng(0).integers(0, 256, (size, image_size, image_size, 3), dtype=np.uint8)
    targets = np.zeros((size, LABELS), np.int8)
    with on_all_gpus():
        network, float_network = (
            transfer(LABELS, image_size, backbone=weights.backbone, weights=weights, policy=policy)
            for policy in (training_policy(), "float32")
        )
        unfreeze(network.get_layer("backbone"), image_size)
        learner, early_layers = split_early_layers(network, float_network)
        learner.compile(keras.optimizers.AdamW(), LOSSES["bce"](targets))
    seconds = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        batch = pixels if early_layers is None else early_layers(pixels)
        middle = time.perf_counter()
        learner.train_on_batch(batch, targets.astype(np.float32))
        seconds.append((middle - start) / THREADS + time.perf_counter() - middle)
    return float(np.median(seconds[1:])) / size

"""The reference: transfer learning as in a typical notebook, in plain Keras; only the weights are polytag's.

Every photo is opened, decoded in full and resized again in every epoch. MobileNetV2, global average pooling, Dense 256,
Dropout 0.5, sigmoids; Adam with a learning rate of 1e-3, binary cross-entropy, batches of 32; up to 15 epochs, stopped
three epochs after the lowest validation loss, whose weights are restored.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

# Set before TensorFlow is imported: a notebook does not pay for determinism, which polytag asks for.
os.environ["TF_DETERMINISTIC_OPS"] = "0"

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polytag.data.dataset import Dataset
from polytag.models.backbones.torch_file import read_torch_weights
from polytag.models.backend import keras

BATCH_SIZE = 32
EPOCHS = 15
PATIENCE = 3
LEARNING_RATE = 1e-3

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Mean and deviation of red, green and blue (0 to 1) that torchvision's weights expect."""

layers = keras.layers


class Photos(keras.utils.PyDataset):
    """Batches of photos uint8 (batch, size, size, 3) and labels float32 (batch, k), read from the files each time."""

    def __init__(self, paths: Sequence[str], targets: NDArray[np.int8], image_size: int, shuffle: bool = False):
        # One thread per core: Keras' default would use a single one.
        super().__init__(workers=os.cpu_count() or 1)
        # A notebook's table has no "unknown": what is not marked as present is absent.
        self._paths, self._targets = np.asarray(paths), (targets == 1).astype(np.float32)
        self._image_size, self._shuffle = image_size, shuffle
        self._order = np.arange(len(paths))
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self._order) // BATCH_SIZE)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        chosen = self._order[index * BATCH_SIZE : (index + 1) * BATCH_SIZE]
        return np.stack([self._read(path) for path in self._paths[chosen]]), self._targets[chosen]

    def _read(self, path: str) -> NDArray[np.uint8]:
        with Image.open(path) as photo:
            size = (self._image_size, self._image_size)
            return np.asarray(photo.convert("RGB").resize(size, Image.Resampling.BILINEAR))

    def on_epoch_end(self) -> None:
        """Called by Keras after each epoch."""
        if self._shuffle:
            self._order = np.random.permutation(len(self._order))


def pretrained_base(image_size: int, weights: str) -> list[keras.layers.Layer]:
    """Scaling, MobileNetV2 and global average pooling, as layers to call in order.

    Built from ``keras.applications`` rather than with polytag's own functions, since those may fold batch normalisation
    away, which the unfrozen reference trains.

    Args:
        image_size: side of the photos, in pixels.
        weights: torchvision's file of weights, the one that polytag uses.
    """
    # Where a convolution halves a photo, torch pads on all sides, Keras on the right and below. The first convolution
    # has no padding layer, so photos are padded before it.
    size = image_size + 2

    def as_in_torch(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, layers.ZeroPadding2D):
            config["padding"] = ((1, 1), (1, 1))
        if layer.name == "Conv1":
            config["padding"] = "valid"
        if isinstance(layer, layers.BatchNormalization):
            config["epsilon"] = 1e-5
        return layer.__class__.from_config(config)

    plain = keras.applications.MobileNetV2(input_shape=(size, size, 3), include_top=False, weights=None)
    base = keras.models.clone_model(plain, clone_function=as_in_torch)
    skipped = ("num_batches_tracked", "classifier.1.weight", "classifier.1.bias")
    tensors = iter(array for name, array in read_torch_weights(Path(weights)) if not name.endswith(skipped))
    for layer in base.layers:
        axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
        arrays = [next(tensors) for _ in layer.weights]
        layer.set_weights([array.transpose(axes) if array.ndim == 4 else array for array in arrays])
    scale = [1 / (255 * deviation) for deviation in IMAGENET_DEVIATION]
    offset = [-mean / deviation for mean, deviation in zip(IMAGENET_MEAN, IMAGENET_DEVIATION, strict=True)]
    return [layers.Rescaling(scale, offset), layers.ZeroPadding2D(1), base, layers.GlobalAveragePooling2D()]


def build(n_labels: int, image_size: int, weights: str, unfrozen: bool) -> keras.Model:
    """The compiled network: photos uint8 (batch, size, size, 3) → probabilities float32 (batch, n_labels)."""
    inputs = x = layers.Input((image_size, image_size, 3), dtype="uint8")
    for layer in pretrained_base(image_size, weights):
        layer.trainable = unfrozen
        x = layer(x)
    x = layers.Dense(256, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    outputs = layers.Dense(n_labels, activation="sigmoid")(x)
    network = keras.Model(inputs, outputs)
    network.compile(keras.optimizers.Adam(LEARNING_RATE), loss="binary_crossentropy")
    return network


def train(
    train: Dataset,
    validation: Dataset,
    image_size: int,
    weights: str,
    unfrozen: bool,
    seed: int,
    on_epoch: Callable[[keras.Model], bool],
) -> keras.Model:
    """Train the reference.

    Args:
        train, validation: the photos, all readable.
        image_size, weights: as in `pretrained_base`.
        unfrozen: train every layer, including batch normalisation, as the reference's search preferred; otherwise
            only those after the pooling.
        seed: of initial weights, order and dropout.
        on_epoch: called after each epoch with the network; if it returns true, training stops there.
    """
    keras.utils.set_random_seed(seed)
    network = build(len(train.labels), image_size, weights, unfrozen)

    def stop_if_told(epoch: int, logs: dict[str, float]) -> None:
        if on_epoch(network):
            network.stop_training = True

    network.fit(
        Photos(train.paths, train.targets, image_size, shuffle=True),
        validation_data=Photos(validation.paths, validation.targets, image_size),
        epochs=EPOCHS,
        verbose=0,
        # Early stopping comes first, so that the other callback sees ``network.stop_training``.
        callbacks=[
            keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE, restore_best_weights=True),
            keras.callbacks.LambdaCallback(on_epoch_end=stop_if_told),
        ],
    )
    return network


def predict(network: keras.Model, data: Dataset, image_size: int) -> NDArray[np.float32]:
    """Probabilities float32 (n, k)."""
    return network.predict(Photos(data.paths, data.targets, image_size), verbose=0)

"""The late layers of a backbone, which fine-tuning trains, and the early ones, which it leaves as they are.

On a processor the early ones take a third of a step. As they stay, they run on ONNX Runtime instead, in the threads
that prepare batches and in little more than half of the time that TensorFlow takes for them.
"""

from collections.abc import Iterator

from polytag.models.backend import keras


def unfreeze(features: keras.Model, image_size: int) -> None:
    """Make the layers trainable that come after the last one that works at an eighth of a photo's side or more.

    The earlier ones see edges and textures, which all photos share, and training them would cost as much as all others.
    Layers of depthwise kernels of more than 3 × 3, as EfficientNet-Lite0 has them, stay as well: their gradients would
    take a third of its step, and gain nothing.
    """
    features.trainable = True
    layers = list(leaves(features))
    sides = [layer.output.shape[1] if layer.output.ndim == 4 else 0 for layer in layers]
    last = max(i for i, side in enumerate(sides) if side >= image_size // 8)
    for i, layer in enumerate(layers):
        # Statistics of a small data set's small batches would ruin the pretrained ones.
        normalises = isinstance(layer, keras.layers.BatchNormalization)
        slow = isinstance(layer, keras.layers.DepthwiseConv2D) and max(layer.kernel_size) > 3
        layer.trainable = i > last and not normalises and not slow


def leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models in it, in their order."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield layer

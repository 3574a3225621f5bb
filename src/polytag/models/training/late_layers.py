"""Late layers of a backbone, which fine-tuning trains."""

from collections.abc import Iterator

from polytag.models.backend import keras


def unfreeze(features: keras.Model, image_size: int) -> None:
    """Make the late layers of a backbone trainable.

    Late layers follow the last feature map whose side is at least an eighth of the photo's side. Earlier layers detect
    edges and textures, which all photos have in common, and training them would double the cost. Two kinds of late
    layers stay frozen as well:

    - Batch normalisation layers, because the statistics of small batches would ruin the pretrained statistics.
    - Depthwise convolutions with kernels larger than 3 × 3 (in EfficientNet-Lite), because their gradients take a
      third of each training step and do not improve the scores.

    Args:
        features: backbone.
        image_size: width and height of the backbone's photos, in pixels.
    """
    features.trainable = True
    layers = list(leaves(features))
    sides = [layer.output.shape[1] if layer.output.ndim == 4 else 0 for layer in layers]
    last = max(i for i, side in enumerate(sides) if side >= image_size // 8)
    for i, layer in enumerate(layers):
        normalises = isinstance(layer, keras.layers.BatchNormalization)
        slow = isinstance(layer, keras.layers.DepthwiseConv2D) and max(layer.kernel_size) > 3
        layer.trainable = i > last and not normalises and not slow


def leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield the layers of a model in order, including those of nested models."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield layer

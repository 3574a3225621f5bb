"""Networks built from inverted residual blocks. The same description builds both the Keras and the ONNX version.

Batch normalisation is folded into the preceding convolutions, because frozen batch normalisation only multiplies by a
factor and adds an offset. Folding makes training a fifth faster and protects the pretrained statistics from small
batches.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from polytag.errors import WeightsError
from polytag.models.backbones.torch_file import read_torch_weights
from polytag.models.backbones.weights import Weights
from polytag.photos.decode import IMAGENET_DEVIATION, IMAGENET_MEAN

Node = TypeVar("Node")
"""Value in the network under construction: a Keras tensor or the name of an ONNX value."""


@dataclass(frozen=True)
class Family:
    """Properties that differ between the networks.

    Attributes:
        title: name for use in messages.
        blocks: for each stage, the expansion factor, the size of the depthwise kernels, the number of blocks and the
            stride of the first block.
        symmetric: whether strided convolutions pad all sides, as in PyTorch. Otherwise, they pad only the right and the
            bottom, as in TensorFlow.
        epsilon: constant that batch normalisation adds to the variance.
        mean, deviation: mean and standard deviation of the red, green and blue channels, 0 to 255, for normalisation.
    """

    title: str
    blocks: tuple[tuple[int, int, int, int], ...]
    symmetric: bool
    epsilon: float
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


_RED, _GREEN, _BLUE = (255 * np.array([IMAGENET_MEAN, IMAGENET_DEVIATION])).T.tolist()


def _efficientnet_lite(number: int, repeats: tuple[int, int, int, int, int]) -> Family:
    """Return EfficientNet-Lite with these numbers of blocks in all stages but the first and the last."""
    a, b, c, d, e = repeats
    return Family(
        f"EfficientNet-Lite{number}",
        ((1, 3, 1, 1), (6, 3, a, 2), (6, 5, b, 2), (6, 3, c, 2), (6, 5, d, 1), (6, 5, e, 2), (6, 3, 1, 1)),
        symmetric=False,
        epsilon=1e-3,
        mean=(127.0, 127.0, 127.0),
        deviation=(128.0, 128.0, 128.0),
    )


FAMILIES = {
    "mobilenet_v2": Family(
        "MobileNetV2",
        ((1, 3, 1, 1), (6, 3, 2, 2), (6, 3, 3, 2), (6, 3, 4, 2), (6, 3, 3, 1), (6, 3, 3, 2), (6, 3, 1, 1)),
        symmetric=True,
        epsilon=1e-5,
        mean=(_RED[0], _GREEN[0], _BLUE[0]),
        deviation=(_RED[1], _GREEN[1], _BLUE[1]),
    ),
    "efficientnet_lite0": _efficientnet_lite(0, (2, 2, 3, 3, 4)),
    "efficientnet_lite1": _efficientnet_lite(1, (3, 3, 4, 4, 5)),
    "efficientnet_lite2": _efficientnet_lite(2, (3, 3, 4, 4, 5)),
}
"""MobileNetV2 (Sandler et al. 2018, table 2) as in torchvision, and EfficientNet-Lite (Tan & Le 2019).

EfficientNet-Lite is an EfficientNet for mobile devices, with ReLU6 and without squeeze-and-excitation. Lite1 is deeper
than Lite0, and Lite2 is wider than Lite1.
"""


@dataclass(frozen=True)
class Convolution:
    """A convolution and its activation.

    Attributes:
        name: name of the layer.
        kernel: float32 (filters, channels, side, side); (channels, 1, side, side) if depthwise.
        bias: float32 (filters,).
        stride: 1 or 2, in both directions.
        depthwise: whether each channel has its own filter.
        activation: whether ReLU6 follows.
    """

    name: str
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: int
    depthwise: bool
    activation: bool


def walk(
    weights: Weights, photo: Node, convolve: Callable[[Node, Convolution], Node], add: Callable[[Node, Node], Node]
) -> Node:
    """Build a network from its normalised input to its last feature map.

    Args:
        weights: weights of kind "torch".
        photo: normalised input.
        convolve: function that applies a convolution to a node.
        add: function that adds two nodes.

    Returns:
        The node of the last feature map.

    Raises:
        WeightsError: the file does not contain the weights of this network.
    """
    family = FAMILIES[weights.backbone]
    remaining = _folded(weights, family)
    channels = 3

    def convolution(x: Node, name: str, side: int, stride: int = 1, depthwise: bool = False, active: bool = True):
        nonlocal channels
        kernel, bias = next(remaining, (np.empty(0, np.float32), np.empty(0, np.float32)))
        expected = (channels if depthwise else len(kernel), 1 if depthwise else channels, side, side)
        if not len(kernel) or kernel.shape != expected:
            raise WeightsError(
                f"{weights.path} does not contain weights for {family.title}: {name} should have the shape {expected}, "
                f"not {kernel.shape}"
            )
        channels = len(kernel)
        return convolve(x, Convolution(name, kernel, bias, stride, depthwise, active))

    x = convolution(photo, "stem", 3, stride=2)
    number = 0
    for expansion, side, repeats, first_stride in family.blocks:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            shortcut, before, block = x, channels, f"block_{number}"
            if expansion > 1:
                x = convolution(x, f"{block}_expand", 1)
            x = convolution(x, f"{block}_depthwise", side, stride, depthwise=True)
            x = convolution(x, f"{block}_project", 1, active=False)
            if stride == 1 and channels == before:
                x = add(shortcut, x)
            number += 1
    x = convolution(x, "top", 1)
    if next(remaining, None) is not None:
        raise WeightsError(f"{weights.path} contains more tensors than {family.title} has")
    return x


def _folded(weights: Weights, family: Family) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield the kernel and bias of each convolution, in the order of the file, with batch normalisation folded in."""
    assert weights.path is not None  # PyTorch weights always come from a file
    tensors = [
        array
        for name, array in read_torch_weights(weights.path)
        if array.dtype == np.float32 and not name.startswith(("classifier", "_fc"))
    ]
    for start in range(0, len(tensors), 5):
        try:
            kernel, gamma, beta, mean, variance = tensors[start : start + 5]
            scale = gamma / np.sqrt(variance + family.epsilon)
            yield (
                np.ascontiguousarray(kernel * scale[:, None, None, None], np.float32),
                np.ascontiguousarray(beta - mean * scale, np.float32),
            )
        except (ValueError, IndexError) as error:
            raise WeightsError(f"{weights.path} does not contain weights for {family.title} ({error})") from None

"""Rounding to 8 bits so that little is lost: weights together, ranges with the least error.

Weights get a step for each channel of output, activations one for each layer (Jacob et al. 2018, "Quantization and
training of neural networks for efficient integer-arithmetic-only inference"). Converters round each weight to the
nearest step and take ranges from the largest values that they see; here training photos decide both:

- the weights of a filter are rounded one after another, and what one is off by is made up for by those to come, as far
  as photos show that they go together (Frantar et al. 2023, "GPTQ: accurate post-training quantization for generative
  pre-trained transformers");
- a layer's range is the one whose rounding and cutting off make the least squared error (Nagel et al. 2021, "A white
  paper on neural network quantization").
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

PLACES, VALUES = 200, 4_000
"""Of a feature map of one photo, how many places, and how many values, are looked at."""

DAMPING = 0.01
"""Of the mean square of a layer's inputs: how far correlations that few photos show are mistrusted."""

NARROWINGS = np.linspace(0.2, 1, 30)
"""Ranges that are tried, as shares of the widest."""


@dataclass
class Convolution:
    """A convolution, and what photos show of its inputs.

    Attributes:
        weights: float32 (filters, channels, height, width); of a depthwise one (channels, 1, height, width).
        strides: down and to the right.
        padding: pixels (above, below), (left, right); or ``None`` for as many as keep the size but for the stride.
        depthwise: each channel has a filter of its own.
    """

    weights: NDArray[np.float32]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]] | None
    depthwise: bool
    _products: NDArray[np.floating] | float = field(default=0.0, init=False)

    def see(self, feature_map: NDArray[np.float32], rng: np.random.Generator) -> None:
        """Learn from some places of a photo's feature map (channels, height, width) which inputs go together."""
        sides = self.weights.shape[2:]
        if self.padding is None:
            sizes = zip(feature_map.shape[1:], sides, self.strides, strict=True)
            missing = [max(0, (-(-size // stride) - 1) * stride + side - size) for size, side, stride in sizes]
            padding = [(m // 2, m - m // 2) for m in missing]
        else:
            padding = list(self.padding)
        padded = np.pad(feature_map, [(0, 0), *padding])
        windows = np.lib.stride_tricks.sliding_window_view(padded, sides, axis=(1, 2))
        windows = windows[:, :: self.strides[0], :: self.strides[1]]
        height, width = windows.shape[1:3]
        places = rng.permutation(height * width)[:PLACES]
        inputs = windows[:, places // width, places % width]  # channels, places, height, width
        if self.depthwise:
            inputs = inputs.reshape(*inputs.shape[:2], -1)
        else:
            inputs = inputs.transpose(1, 0, 2, 3).reshape(1, len(places), -1)
        self._products = self._products + inputs.transpose(0, 2, 1) @ inputs

    def rounded(self, levels: int) -> NDArray[np.float32]:
        """The weights, rounded together, as multiples of a step of which ``levels`` make up a filter's largest."""
        filters = len(self.weights)
        grouped = self.weights.reshape((filters, 1, -1) if self.depthwise else (1, filters, -1))
        return rounded(grouped, np.asarray(self._products), levels).reshape(self.weights.shape).astype(np.float32)


@dataclass
class Activation:
    """Values that a layer gives, and the range that suits them."""

    _seen: list[NDArray[np.floating]] = field(default_factory=list, init=False)

    def see(self, values: NDArray[np.floating], rng: np.random.Generator) -> None:
        """Remember some of a photo's values, and the least and the largest."""
        values = values.ravel()
        some = values if len(values) <= VALUES else values[rng.integers(len(values), size=VALUES)]
        self._seen += [some, np.array([values.min(), values.max()])]

    def range(self) -> tuple[float, float]:
        """As `best_range` has it."""
        return best_range(np.concatenate(self._seen))


def rounded(weights: NDArray[np.floating], products: NDArray[np.floating], levels: int) -> NDArray[np.float64]:
    """Weights as multiples of each filter's step that change little of what it gives.

    A converter, which rounds to the nearest of the same steps, leaves them as they are.

    Args:
        weights: (groups, filters, inputs).
        products: (groups, inputs, inputs), of the inputs with each other, summed over examples.
        levels: steps that make up a filter's largest weight; 127 where weights have 8 bits.
    """
    left = weights.astype(np.float64)
    products = products.astype(np.float64)
    strength = np.einsum("gii->gi", products)
    # Weights of strong inputs come first: there are still many others that can make up for them.
    order = np.argsort(-strength, axis=-1)
    products = np.take_along_axis(np.take_along_axis(products, order[:, :, None], 1), order[:, None], 2)
    left = np.take_along_axis(left, np.broadcast_to(order[:, None], left.shape), 2)
    products += (DAMPING * strength.mean(-1) + 1e-9)[:, None, None] * np.eye(products.shape[-1])
    passed_on = np.linalg.cholesky(np.linalg.inv(products)).transpose(0, 2, 1)
    largest = np.abs(left).max(-1)
    step = np.maximum(largest, 1e-12) / levels
    # The largest stays, since converters take the step from it.
    stays = np.abs(left) == largest[:, :, None]
    result = np.empty_like(left)
    for i in range(left.shape[-1]):
        nearest = np.clip(np.rint(left[:, :, i] / step), -levels, levels) * step
        result[:, :, i] = np.where(stays[:, :, i], np.sign(left[:, :, i]) * largest, nearest)
        error = (left[:, :, i] - result[:, :, i]) / passed_on[:, None, i, i]
        left[:, :, i + 1 :] -= error[:, :, None] * passed_on[:, None, i, i + 1 :]
    back = np.argsort(order, axis=-1)
    return np.take_along_axis(result, np.broadcast_to(back[:, None], result.shape), 2)


def best_range(values: NDArray[np.floating]) -> tuple[float, float]:
    """From where to where 256 equal steps should reach for these values, so that the squared error is least."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    if low == high:
        return low, high
    errors = []
    for share in NARROWINGS:
        step = share * (high - low) / 255
        nearest = np.clip(np.rint((values - share * low) / step), 0, 255) * step + share * low
        errors.append(np.mean((nearest - values) ** 2))
    share = float(NARROWINGS[int(np.argmin(errors))])
    return share * low, share * high

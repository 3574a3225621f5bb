"""Round weights and choose activation ranges for 8 bits, with little loss of accuracy.

Weights have one step size per output channel, and activations have one per layer (Jacob et al. 2018, "Quantization and
training of neural networks for efficient integer-arithmetic-only inference"). Converters round each weight to the
nearest step, and use the minimum and maximum activation as the range. This module uses training photos to improve both:

- The weights of a filter are rounded one after another. The remaining weights compensate for the rounding error, to the
  extent that their inputs are correlated in the photos (Frantar et al. 2023, "GPTQ: accurate post-training quantization
  for generative pre-trained transformers").
- The range of a layer minimises the squared error of rounding and clipping (Nagel et al. 2021, "A white paper on neural
  network quantization").
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SAMPLED_PLACES, SAMPLED_VALUES = 200, 4_000
"""Number of positions and number of values that are sampled from each photo's feature map."""

DAMPING = 0.01
"""Regularisation of the inputs' correlations, relative to their mean square. It is needed because estimates from only a
few photos are noisy."""

RANGE_SHARES = np.linspace(0.2, 1, 30)
"""Ranges that are tried, as fractions of the widest range."""


@dataclass
class Convolution:
    """A convolution and the statistics of its inputs.

    Attributes:
        weights: float32 (filters, channels, height, width); (channels, 1, height, width) if depthwise.
        strides: vertical and horizontal strides.
        padding: number of pixels as (top, bottom), (left, right); ``None`` for "same" padding.
        depthwise: whether each channel has its own filter.
    """

    weights: NDArray[np.float32]
    strides: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]] | None
    depthwise: bool
    _products: NDArray[np.floating] | float = field(default=0.0, init=False)

    def see(self, feature_map: NDArray[np.float32], rng: np.random.Generator) -> None:
        """Update the input statistics with sampled positions of a feature map (channels, height, width)."""
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
        places = rng.permutation(height * width)[:SAMPLED_PLACES]
        inputs = windows[:, places // width, places % width]  # channels, places, height, width
        if self.depthwise:
            inputs = inputs.reshape(*inputs.shape[:2], -1)
        else:
            inputs = inputs.transpose(1, 0, 2, 3).reshape(1, len(places), -1)
        self._products = self._products + inputs.transpose(0, 2, 1) @ inputs

    def rounded(self, levels: int) -> NDArray[np.float32]:
        """Return the weights, rounded with `round_weights`, in their original shape."""
        filters = len(self.weights)
        grouped = self.weights.reshape((filters, 1, -1) if self.depthwise else (1, filters, -1))
        result = round_weights(grouped, np.asarray(self._products), levels)
        return result.reshape(self.weights.shape).astype(np.float32)


@dataclass
class Activation:
    """Sampled outputs of a layer."""

    _seen: list[NDArray[np.floating]] = field(default_factory=list, init=False)

    def see(self, values: NDArray[np.floating], rng: np.random.Generator) -> None:
        """Sample the values of one photo. The minimum and the maximum are always included."""
        values = values.ravel()
        sample = values if len(values) <= SAMPLED_VALUES else values[rng.integers(len(values), size=SAMPLED_VALUES)]
        self._seen += [sample, np.array([values.min(), values.max()])]

    def range(self) -> tuple[float, float]:
        """Return the `best_range` of the sampled values."""
        return best_range(np.concatenate(self._seen))


def round_weights(weights: NDArray[np.floating], products: NDArray[np.floating], levels: int) -> NDArray[np.float64]:
    """Round weights to multiples of each filter's step so that the filter's outputs change little.

    Converters use the same steps and round to the nearest one, so they do not change the rounded weights.

    Args:
        weights: (groups, filters, inputs).
        products: products of all pairs of inputs, summed over examples, (groups, inputs, inputs).
        levels: number of steps from 0 to a filter's largest weight; 127 for 8 bits.

    Returns:
        The rounded weights, (groups, filters, inputs).
    """
    remaining = weights.astype(np.float64)
    products = products.astype(np.float64)
    strength = np.einsum("gii->gi", products)
    # The weights of strong inputs are rounded first, because many other weights can still compensate for the error.
    order = np.argsort(-strength, axis=-1)
    products = np.take_along_axis(np.take_along_axis(products, order[:, :, None], 1), order[:, None], 2)
    remaining = np.take_along_axis(remaining, np.broadcast_to(order[:, None], remaining.shape), 2)
    products += (DAMPING * strength.mean(-1) + 1e-9)[:, None, None] * np.eye(products.shape[-1])
    compensation = np.linalg.cholesky(np.linalg.inv(products)).transpose(0, 2, 1)
    largest = np.abs(remaining).max(-1)
    step = np.maximum(largest, 1e-12) / levels
    # Converters compute the step from the largest weight, so that weight must not change.
    fixed = np.abs(remaining) == largest[:, :, None]
    result = np.empty_like(remaining)
    for i in range(remaining.shape[-1]):
        nearest = np.clip(np.rint(remaining[:, :, i] / step), -levels, levels) * step
        result[:, :, i] = np.where(fixed[:, :, i], np.sign(remaining[:, :, i]) * largest, nearest)
        error = (remaining[:, :, i] - result[:, :, i]) / compensation[:, None, i, i]
        remaining[:, :, i + 1 :] -= error[:, :, None] * compensation[:, None, i, i + 1 :]
    back = np.argsort(order, axis=-1)
    return np.take_along_axis(result, np.broadcast_to(back[:, None], result.shape), 2)


def best_range(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return the range whose division into 256 equal steps represents the values with the smallest squared error."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    if low == high:
        return low, high
    errors = []
    for share in RANGE_SHARES:
        step = share * (high - low) / 255
        nearest = np.clip(np.rint((values - share * low) / step), 0, 255) * step + share * low
        errors.append(np.mean((nearest - values) ** 2))
    share = float(RANGE_SHARES[int(np.argmin(errors))])
    return share * low, share * high

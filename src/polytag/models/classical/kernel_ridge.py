"""Kernel ridge regression on frozen embeddings, for the average with a trained head.

The kernel compares an embedding with up to `LANDMARKS` training photos (the Nyström method, Williams & Seeger 2001), so
time grows linearly with the number of photos. The regression is fitted in closed form and reads the embeddings in
chunks. As a network, it is a dense layer, an exponential and another dense layer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from polytag.evaluation.calibration import platt
from polytag.evaluation.selection import selection_score
from polytag.models.backend import keras

layers = keras.layers

LANDMARKS = 2000
"""Maximum number of training photos with which all others are compared."""

KERNEL_WIDTHS = (0.4, 0.75, 1.5)
"""Values of γ to try in exp(-γ·d²), where d² = 2 - 2·cosine of two embeddings after their mean is subtracted."""

RIDGES = (0.1, 0.3, 1.0, 3.0)
"""Regularisation strengths to try."""

SPREAD = 6.0
"""Factor from scores, which are about 0 to 1, to the scale of logits, for which the prior of `platt` is made."""

CHUNK = 1024
"""Number of photos whose kernel values are computed at once."""


class Embeddings(Protocol):
    """Embeddings of photos, float32 (n, d): an array, or anything that reads some of its rows on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class KernelRidge:
    """A fitted regression with k outputs.

    Attributes:
        mean: mean of the embeddings after they have been scaled to length 1, float32 (d,).
        landmarks: directions of the landmarks from that mean, with length 1, float32 (m, d).
        width: γ of the kernel.
        ridge: regularisation strength.
        weights: weights from the m kernel values to scores, float64 (m, k).
        share: frequency of each label, which is added to the scores, float64 (k,).
        slope, bias: curve of each label from scores to logits, float64 (k,).
    """

    mean: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    width: float
    ridge: float
    weights: NDArray[np.float64]
    share: NDArray[np.float64]
    slope: NDArray[np.float64]
    bias: NDArray[np.float64]

    def last_layer(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the kernel (m, k) and the bias (k,) of the dense layer from kernel values to logits."""
        return self.weights * self.slope, self.share * self.slope + self.bias

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits of the labels, float64 (n, k), for embeddings float32 (n, d)."""
        kernel, bias = self.last_layer()
        return _kernel(_directions(embeddings, self.mean), self.landmarks, self.width) @ kernel + bias


def fit_kernel_ridge(
    embeddings: Embeddings,
    targets: NDArray[np.int8],
    validation_embeddings: Embeddings,
    validation_targets: NDArray[np.int8],
    seed: int = 0,
) -> KernelRidge:
    """Fit a regression with the kernel width and the ridge that have the best support-weighted validation mAP.

    A slope and a bias for each label, fitted to validation photos, convert the regression's scores to logits.

    Args:
        embeddings: float32 (n, d). Only a few rows are in memory at a time.
        targets: int8 (n, k): 1 present, 0 absent, -1 unknown. Unknown entries count as the label's frequency.
        validation_embeddings, validation_targets: float32 (m, d) and int8 (m, k).
        seed: seed for the choice of landmarks.
    """
    best, reached, chosen = None, -1.0, np.empty(0, np.float32)
    for width in KERNEL_WIDTHS:
        fitted = list(fits(embeddings, targets, width, RIDGES, seed))
        for one, predicted in zip(fitted, _scores(fitted, validation_embeddings), strict=True):
            score = selection_score(validation_targets, predicted)
            if score > reached:
                best, reached, chosen = one, score, predicted
    assert best is not None  # the largest ridge always has a solution
    curve = platt(validation_targets, SPREAD * (chosen.astype(np.float64) - 0.5))
    return replace(best, slope=SPREAD * curve.slope, bias=curve.bias - SPREAD * curve.slope / 2)


def averaged(top: keras.Model, ridge: KernelRidge) -> keras.Model:
    """Return a head whose logits are the mean of a trained head's logits and a regression's.

    Like every head, it ends with a dense layer with a sigmoid, which computes both.

    Args:
        top: head from `polytag.models.networks.architectures.head`. Its layers are shared.
        ridge: regression on the same embeddings.
    """
    end, m = top.layers[-1], len(ridge.landmarks)
    direction = layers.UnitNormalization()(
        layers.Rescaling(1.0, (-ridge.mean).tolist())(layers.UnitNormalization()(top.input))
    )
    compare = layers.Dense(m, activation="exponential", trainable=False, name="landmarks")
    both = layers.Concatenate()([end.input, compare(direction)])
    compare.set_weights([2 * ridge.width * ridge.landmarks.T, np.full(m, -2 * ridge.width)])
    new_end = layers.Dense(len(ridge.share), activation="sigmoid", name="probabilities")
    outputs = new_end(both)
    (kernel, bias), (ridge_kernel, ridge_bias) = end.get_weights(), ridge.last_layer()
    new_end.set_weights([np.concatenate([kernel, ridge_kernel]) / 2, (bias + ridge_bias) / 2])
    return keras.Model(top.input, outputs, name="head")


def fits(
    embeddings: Embeddings, targets: NDArray[np.int8], width: float, ridges: Sequence[float], seed: int
) -> Iterator[KernelRidge]:
    """Yield a regression for each ridge, without curves."""
    known = targets >= 0
    share = (targets == 1).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    n = len(embeddings)
    chunks = _chunks(n)
    total = np.sum([_unit(embeddings[rows]).sum(axis=0, dtype=np.float64) for rows in chunks], axis=0)
    mean = (total / n).astype(np.float32)
    landmarks = _directions(embeddings[np.sort(np.random.default_rng(seed).permutation(n)[:LANDMARKS])], mean)
    m = len(landmarks)
    gram, moments = np.zeros((m, m)), np.zeros((m, targets.shape[1]))
    for rows in chunks:
        values = _kernel(_directions(embeddings[rows], mean), landmarks, width)
        gram += values.T @ values
        moments += values.T @ np.where(known[rows], targets[rows] - share, 0)
    among = _kernel(landmarks, landmarks, width).astype(np.float64)
    among[np.diag_indices_from(among)] += 1e-4  # identical photos would make the matrix singular
    one, none = np.ones(len(share)), np.zeros(len(share))
    for ridge in ridges:
        try:
            weights = cho_solve(cho_factor(gram + ridge * among), moments)
        except LinAlgError:
            continue
        yield KernelRidge(mean, landmarks, width, ridge, weights, share, one, none)


def _scores(fitted: Sequence[KernelRidge], embeddings: Embeddings) -> NDArray[np.float32]:
    """Return the scores of regressions with the same landmarks, float32 (regressions, n, k)."""
    first = fitted[0]
    weights = np.concatenate([one.weights for one in fitted], axis=1)
    scores = np.empty((len(fitted), len(embeddings), len(first.share)), np.float32)
    for rows in _chunks(len(embeddings)):
        values = _kernel(_directions(embeddings[rows], first.mean), first.landmarks, first.width) @ weights
        scores[:, rows] = values.reshape(len(values), len(fitted), -1).swapaxes(0, 1) + first.share
    return scores


def _chunks(n: int) -> list[slice]:
    return [slice(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]


def _kernel(directions: NDArray[np.float32], landmarks: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    return np.exp(2 * width * (directions @ landmarks.T - 1))


def _directions(embeddings: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    return _unit(_unit(embeddings) - mean)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)

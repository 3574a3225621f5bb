"""Calibration: for each label, a curve from raw network probabilities to observed frequencies.

A curve maps logits to logits. It is piecewise linear and strictly increasing, so it changes neither the order of
the photos nor mAP. There are four kinds, from the least to the most flexible:

- "none": probabilities stay unchanged;
- "temperature": one slope for all labels (Guo et al. 2017, On Calibration of Modern Neural Networks);
- "platt": a slope and a bias for each label (Platt 1999), shrunk toward a common curve. The shrinkage is learned
  from how much the labels differ (empirical Bayes), so a rare label stays close to the common curve;
- "isotonic": "platt" with a few bends for each label. The bends come from isotonic regression over blocks of photos
  (Zadrozny & Elkan 2002) and are added only as far as the photos support them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.isotonic import isotonic_regression

FOLDS = 5
"""Number of folds in the cross-validation that chooses the kind."""

BLOCKS = 5
"""Maximum number of knots in an isotonic curve."""

BLOCK_PRIOR = 20.0
"""Weight of the prior curve in each block of an isotonic curve, in photos with the label; as many without it."""

LEAST_SLOPE = 0.1
"""Minimum slope of an isotonic curve between two knots, so that photos keep their order."""

LEAST_PROBABILITY = 1e-7
"""Minimum distance of probabilities from 0 and 1, so that their logits are finite."""

ROUNDS = 100
"""Maximum number of steps when the curves and their common prior are fitted."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibration curves of k labels, ``slope·x + bias + Σ bends·max(x − knots, 0)`` for logits x.

    Attributes:
        kind: one of `KINDS`.
        slope, bias: float64 (k,); slopes are positive.
        knots, bends: float64 (k, m), the logits at which the slope changes and the amount of each change; m is 0 for
            straight curves.
    """

    kind: str
    slope: NDArray[np.float64]
    bias: NDArray[np.float64]
    knots: NDArray[np.float64]
    bends: NDArray[np.float64]

    @classmethod
    def straight(cls, kind: str, slope: NDArray[np.float64], bias: NDArray[np.float64]) -> "Calibration":
        """Create straight curves from slopes and biases, both float64 (k,)."""
        nothing = np.zeros((len(slope), 0))
        return cls(kind, slope, bias, nothing, nothing)

    def curve(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the calibrated logits, float64 (n, k), for raw logits (n, k)."""
        calibrated = self.slope * logits + self.bias
        for knots, bends in zip(self.knots.T, self.bends.T, strict=True):
            calibrated += bends * np.maximum(logits - knots, 0)
        return calibrated

    def __call__(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the calibrated probabilities, float32 (n, k), for raw probabilities (n, k)."""
        if self.kind == "none":
            return probabilities
        return expit(self.curve(logits_of(probabilities))).astype(np.float32)


def logits_of(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return log(p / (1 − p)), which is finite even for probabilities of 0 and 1."""
    p = np.clip(probabilities.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.log(p) - np.log1p(-p)


def choose_calibration(
    targets: NDArray[np.int8], probabilities: NDArray[np.float32], groups: NDArray[np.int64], seed: int = 0
) -> tuple[Calibration, dict[str, float]]:
    """Choose the kind that best predicts held-out validation photos, and fit it to all validation photos.

    Kinds are compared by cross-validated log loss. Starting from "none", a more flexible kind replaces a simpler one
    only if it gains more than the standard error of the gain. With few photos, "none" usually remains.

    Args:
        targets: int8 (n, k) of the validation photos, 1, 0 or -1 for unknown. Unknown entries are ignored.
        probabilities: float (n, k), 0 to 1, the raw outputs of the network.
        groups: int64 (n,), the group of each photo. Photos in one group are in the same fold.
        seed: seed of the folds.

    Returns:
        The calibration, and the cross-validated log loss of each kind, averaged over known entries. With
        fewer than 10 groups, cross-validation is impossible, so the kind is "none" and the losses are empty.
    """
    known, logits = targets >= 0, logits_of(probabilities)
    usable = np.flatnonzero(known.any(axis=1))
    names, number = np.unique(groups[usable], return_inverse=True)
    chosen, scores = "none", dict[str, float]()
    if len(names) >= 2 * FOLDS:
        folds = (np.random.default_rng(seed).permutation(len(names)) % FOLDS)[number]
        losses = {kind: np.zeros(len(names)) for kind in KINDS}
        for fold in range(FOLDS):
            mine, others = usable[folds == fold], usable[folds != fold]
            for kind, fit in KINDS.items():
                unseen = fit(targets[others], logits[others]).curve(logits[mine])
                photo_losses = log_losses(targets[mine], unseen).sum(axis=1)
                losses[kind] += np.bincount(number[folds == fold], photo_losses, len(names))
        scores = {kind: float(loss.sum() / known.sum()) for kind, loss in losses.items()}
        for kind in KINDS:
            gain = losses[chosen] - losses[kind]
            if gain.sum() > gain.std() * np.sqrt(len(names)):
                chosen = kind
    return KINDS[chosen](targets, logits), scores


def log_losses(targets: NDArray[np.int8], logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the binary cross-entropy of each entry, float64 (n, k); 0 for unknown targets."""
    return np.where(targets >= 0, np.logaddexp(0, np.where(targets == 1, -logits, logits)), 0)


def uncalibrated(targets: NDArray[np.int8], logits: NDArray[np.float64]) -> Calibration:
    """Return the calibration "none", which leaves probabilities unchanged."""
    k = targets.shape[1]
    return Calibration.straight("none", np.ones(k), np.zeros(k))


def temperature(targets: NDArray[np.int8], logits: NDArray[np.float64]) -> Calibration:
    """Fit one slope to all entries of the targets (n, k) and logits (n, k)."""
    k, known = targets.shape[1], targets >= 0
    log_slope, _ = _fit(targets[known][:, None], logits[known][:, None], bias=False)[0]
    return Calibration.straight("temperature", np.full(k, np.exp(log_slope)), np.zeros(k))


def platt(targets: NDArray[np.int8], logits: NDArray[np.float64]) -> Calibration:
    """Fit a slope and a bias to each label, shrunk toward common values. Targets and logits are (n, k)."""
    curves = _fit(targets, logits)
    return Calibration.straight("platt", np.exp(curves[:, 0]), curves[:, 1])


def _fit(targets: NDArray[np.int8], logits: NDArray[np.float64], bias: bool = True) -> NDArray[np.float64]:
    """Fit the log slope and bias of each label, float64 (k, 2), with a Gaussian prior that is learned as well.

    Each iteration takes one step of Fisher scoring under the prior. It then sets the prior's mean and covariance to
    those of the curves, including their uncertainty (expectation maximization with a Laplace approximation).
    """
    known, present = targets >= 0, targets == 1
    k = targets.shape[1]
    curves, middle, spread = np.zeros((k, 2)), np.zeros(2), np.diag([0.1, 0.5])
    for _ in range(ROUNDS):
        slopes = np.exp(curves[:, 0])
        p = expit(slopes * logits + curves[:, 1])
        error, weight = np.where(known, p - present, 0), np.where(known, p * (1 - p), 0)
        by_slope, bent = slopes * logits, np.linalg.inv(spread)
        gradient = np.stack([(error * by_slope).sum(axis=0), error.sum(axis=0)], axis=1) + (curves - middle) @ bent
        cross = (weight * by_slope).sum(axis=0)
        information = np.stack([(weight * by_slope**2).sum(axis=0), cross, cross, weight.sum(axis=0)], axis=1)
        covariance = np.linalg.inv(information.reshape(k, 2, 2) + bent)
        step = np.einsum("kij,kj->ki", covariance, gradient) * [1, bias]
        step /= np.maximum(1, np.abs(step).max(axis=1, keepdims=True))
        curves = curves - step
        # A weak prior on the prior keeps slopes near 1 and biases near 0, and the covariance from vanishing.
        middle = curves.sum(axis=0) / (k + 0.1)
        apart = curves - middle
        spread = (covariance.sum(axis=0) + apart.T @ apart + np.diag([0.01, 0.05])) / (k + 1)
        if np.abs(step).max() < 1e-4:
            break
    return curves


def isotonic(targets: NDArray[np.int8], logits: NDArray[np.float64]) -> Calibration:
    """Fit `platt`, and bend its curves at up to `BLOCKS` knots. Outside the knots, the slopes stay unchanged."""
    base = platt(targets, logits)
    straight = base.curve(logits)
    bias, (knots, bends) = base.bias.copy(), np.zeros((2, targets.shape[1], BLOCKS))
    for j, rows in enumerate((targets >= 0).T):
        if not rows.any():
            continue
        at, value = _blocks(targets[rows, j] == 1, straight[rows, j])
        gaps = np.diff(at)
        slopes = np.where(gaps > 1e-6, np.diff(value) / np.maximum(gaps, 1e-6), 1.0)
        knots[j, : len(at)] = (at - base.bias[j]) / base.slope[j]
        bends[j, : len(at)] = np.diff(slopes, prepend=1, append=1) * base.slope[j]
        bias[j] += value[0] - at[0]
    return Calibration("isotonic", base.slope, bias, knots, bends)


def _blocks(present: NDArray[np.bool_], logits: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centers of blocks of photos ordered by logit, and a strictly increasing corrected logit for each."""
    order = np.argsort(logits, kind="stable")
    x, p = logits[order], expit(logits[order])
    # Blocks have equal information rather than equal size, because most photos are clear cases and say little.
    weight = p * (1 - p) + 1e-9
    block = np.minimum((np.cumsum(weight) / weight.sum() * BLOCKS).astype(int), BLOCKS - 1)

    def total(values: NDArray) -> NDArray[np.float64]:
        return np.bincount(block, values, BLOCKS)[sizes > 0].astype(np.float64)

    sizes = np.bincount(block, weight, BLOCKS)
    at = total(weight * x) / total(weight)
    seen, unseen = total(present[order]) + BLOCK_PRIOR, total(~present[order]) + BLOCK_PRIOR
    value = at + np.log(seen / (total(p) + BLOCK_PRIOR)) - np.log(unseen / (total(1 - p) + BLOCK_PRIOR))
    rise = LEAST_SLOPE * at
    return at, isotonic_regression(value - rise, sample_weight=total(weight)) + rise


KINDS: dict[str, Callable[[NDArray[np.int8], NDArray[np.float64]], Calibration]] = {
    "none": uncalibrated,
    "temperature": temperature,
    "platt": platt,
    "isotonic": isotonic,
}
"""The kinds, simplest first, and the function that fits each kind to targets, int8 (n, k), and logits (n, k)."""

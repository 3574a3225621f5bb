"""Calibration: curves, one for each label, from what a network says to how often it is true.

A curve maps logits to logits, piecewise linearly and strictly upward, so the order of a label's photos, and with it
mAP, stays as it is. Four kinds, each more flexible than the one before:

- "none": probabilities stay as they are;
- "temperature": one slope for all labels (Guo et al. 2017, On Calibration of Modern Neural Networks);
- "platt": a slope and a bias for each label (Platt 1999), drawn toward a common curve. How strongly is learned from
  how much the labels differ (empirical Bayes), so a rare label nearly takes the common curve;
- "isotonic": "platt", and on it for each label the bends of an isotonic regression over few blocks of photos
  (Zadrozny & Elkan 2002), each as far as its photos are evidence for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.isotonic import isotonic_regression

FOLDS = 5

BLOCKS = 5
"""Knots of an isotonic curve."""

BLOCK_PRIOR = 20.0
"""Photos with, and as many without, the label that speak for the common curve in each block of an isotonic one."""

LEAST_SLOPE = 0.1
"""Of an isotonic curve between two knots, so that photos of different probability keep their order."""

LEAST_PROBABILITY = 1e-7
"""Probabilities are at least this far from 0 and 1, so that their logits are finite."""

ROUNDS = 100
"""Steps, at most, in which the curves and the prior that draws them together are fitted."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Curves of k labels: ``slope·x + bias + Σ bends·max(x − knots, 0)`` of logits x.

    Attributes:
        kind: one of `KINDS`.
        slope, bias: float64 (k,); slopes are above 0.
        knots, bends: float64 (k, m): where the curves bend, and by how much; m is 0 where they are straight.
    """

    kind: str
    slope: NDArray[np.float64]
    bias: NDArray[np.float64]
    knots: NDArray[np.float64]
    bends: NDArray[np.float64]

    @classmethod
    def straight(cls, kind: str, slope: NDArray[np.float64], bias: NDArray[np.float64]) -> "Calibration":
        """Curves that do not bend; slope and bias are float64 (k,)."""
        nothing = np.zeros((len(slope), 0))
        return cls(kind, slope, bias, nothing, nothing)

    def curve(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated logits float64 (n, k) of logits (n, k)."""
        calibrated = self.slope * logits + self.bias
        for knots, bends in zip(self.knots.T, self.bends.T, strict=True):
            calibrated += bends * np.maximum(logits - knots, 0)
        return calibrated

    def __call__(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated probabilities float32 (n, k) of probabilities (n, k)."""
        if self.kind == "none":
            return probabilities
        return expit(self.curve(logits_of(probabilities))).astype(np.float32)


def logits_of(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """log(p / (1 − p)), finite for 0 and 1 too."""
    p = np.clip(probabilities.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.log(p) - np.log1p(-p)


def choose_calibration(
    targets: NDArray[np.int8], probabilities: NDArray[np.float32], groups: NDArray[np.int64], seed: int = 0
) -> tuple[Calibration, dict[str, float]]:
    """The kind that predicts unseen validation photos best, fitted to all of them.

    Kinds are judged by their log loss in a cross-validation. Beginning with "none", a more flexible kind takes the
    place of a simpler one only if it gains more than the standard error of that gain, so few photos stay with "none".

    Args:
        targets: int8 (n, k) of the validation photos, 1, 0 or -1 for unknown, which teaches nothing.
        probabilities: float (n, k), 0 to 1, as the network gives them.
        groups: int64 (n,): photos that share a number are in the same fold.
        seed: of the folds.

    Returns:
        The calibration, and the cross-validated log loss of each kind, the mean over known entries; with fewer than
        10 groups, which are too few to cross-validate, "none" and nothing.
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
    """Binary cross-entropy of each entry, (n, k), 0 where the target is unknown."""
    return np.where(targets >= 0, np.logaddexp(0, np.where(targets == 1, -logits, logits)), 0)


def uncalibrated(targets: NDArray[np.int8], logits: NDArray[np.float64]) -> Calibration:
    """The "none" of this number of labels."""
    k = targets.shape[1]
    return Calibration.straight("none", np.ones(k), np.zeros(k))


def temperature(targets: NDArray[np.int8], logits: NDArray[np.float64]) -> Calibration:
    """One slope for all entries of targets (n, k) and logits (n, k)."""
    k, known = targets.shape[1], targets >= 0
    log_slope, _ = _fit(targets[known][:, None], logits[known][:, None], bias=False)[0]
    return Calibration.straight("temperature", np.full(k, np.exp(log_slope)), np.zeros(k))


def platt(targets: NDArray[np.int8], logits: NDArray[np.float64]) -> Calibration:
    """A slope and a bias for each label of targets (n, k) and logits (n, k), drawn toward common ones."""
    curves = _fit(targets, logits)
    return Calibration.straight("platt", np.exp(curves[:, 0]), curves[:, 1])


def _fit(targets: NDArray[np.int8], logits: NDArray[np.float64], bias: bool = True) -> NDArray[np.float64]:
    """Logarithm of the slope, and bias, of each label, float64 (k, 2), with a Gaussian prior that is itself learned.

    In turn, the curves take a step of Fisher scoring under the prior, and the prior's middle and covariance become
    those of the curves with their uncertainty (expectation maximisation with Laplace's approximation).
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
        # A weak prior on the prior: slopes near 1, biases near 0, and widths that cannot vanish.
        middle = curves.sum(axis=0) / (k + 0.1)
        apart = curves - middle
        spread = (covariance.sum(axis=0) + apart.T @ apart + np.diag([0.01, 0.05])) / (k + 1)
        if np.abs(step).max() < 1e-4:
            break
    return curves


def isotonic(targets: NDArray[np.int8], logits: NDArray[np.float64]) -> Calibration:
    """Those of `platt`, bent at up to `BLOCKS` knots; beyond these they run parallel to them."""
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
    """Middles of blocks of the photos (n,) in the order of their logits, and better logits there, strictly rising."""
    order = np.argsort(logits, kind="stable")
    x, p = logits[order], expit(logits[order])
    # Blocks of equal information: most photos of a label are clear, and say little about its curve.
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


def in_words(kind: str, log_loss: Mapping[str, float]) -> str:
    """How probabilities were calibrated and what it gained, in one sentence, by what `choose_calibration` returns."""
    if not log_loss:
        return "probabilities are as the network gives them: validation photos are too few to judge a curve by."
    if kind == "none":
        same = "probabilities are as the network gives them"
        return f"{same}: no curve clearly bettered their log loss of {log_loss[kind]:.4f}."
    curve = {
        "temperature": "one slope for all labels",
        "platt": "a slope and a bias for each label",
        "isotonic": "a bent curve for each label",
    }[kind]
    return (
        f"probabilities were calibrated by {curve} ({kind}), which lowered the log loss "
        f"from {log_loss['none']:.4f} to {log_loss[kind]:.4f}."
    )


KINDS: dict[str, Callable[[NDArray[np.int8], NDArray[np.float64]], Calibration]] = {
    "none": uncalibrated,
    "temperature": temperature,
    "platt": platt,
    "isotonic": isotonic,
}
"""The kinds, the simplest first, and what fits each to targets int8 (n, k) and logits (n, k)."""

"""Explain decisions with heat maps, which show the regions of a photo that raise a label's score."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polytag.extras import require
from polytag.models.bundle.bundle import Bundle, assigned_labels
from polytag.photos.decode import decode
from polytag.serving.explaining.occlusion import Occlusion


class Explainer(Protocol):
    """A generator of heat maps for a bundle. It may be called from any thread."""

    def heat(self, photo: NDArray[np.uint8], labels: Sequence[str]) -> NDArray[np.float32]:
        """Compute the heat maps of several labels.

        Args:
            photo: uint8 (size, size, 3), as `polytag.photos.decode.decode` returns it for the bundle's image size.
            labels: labels to explain; each must be a label of the bundle.

        Returns:
            float32 (len(labels), size, size), 0 to 1. Each map is scaled so that its maximum is 1. A map is all zeros
            if no region raises the label's score.
        """


def explainer_of(bundle: Bundle) -> Explainer:
    """Return Grad-CAM, or occlusion maps if the bundle's encoder is an ONNX graph, which has no gradients.

    Raises:
        SettingsError: Grad-CAM needs a missing package, or the model has no gradients.
        BundleError: the bundle is damaged.
    """
    if not bundle.in_keras:
        return Occlusion(bundle)
    require("keras", "train", "Explaining")
    # Imported here because loading Keras takes seconds and hundreds of megabytes.
    from polytag.serving.explaining.grad_cam import GradCam

    return GradCam(bundle)


@dataclass(frozen=True, eq=False)
class Explained:
    """The explanation of the decision about one label of a photo.

    Attributes:
        label: name of the label.
        probability, threshold: 0 to 1. The label is assigned if the probability reaches the threshold.
        heat: heat map, float32 (size, size), 0 to 1; see `Explainer`.
    """

    label: str
    probability: float
    threshold: float
    heat: NDArray[np.float32]

    @property
    def verdict(self) -> str:
        """The decision in words, such as "0.93, above its threshold 0.41"."""
        # Two close numbers are shown with more digits, so that they do not look equal.
        digits = 2 if abs(self.probability - self.threshold) >= 0.01 else 5
        side = "above" if self.probability >= self.threshold else "below"
        told = f"{self.probability:.{digits}f}, {side} its threshold {self.threshold:.{digits}f}"
        return told if self.heat.any() else f"{told}; no region raises its score"


def explain(bundle: Bundle, photo: bytes | str | os.PathLike[str], labels: Sequence[str] = ()) -> list[Explained]:
    """Explain a bundle's decisions about a photo.

    Args:
        bundle: the model.
        photo: path of the photo, or the bytes of the file.
        labels: labels to explain. By default, the assigned labels are explained, most probable first. If no label is
            assigned, the most probable label is explained.

    Returns:
        One explanation per label.

    Raises:
        ImageError: the photo cannot be read.
        SettingsError: the model cannot be explained (see `explainer_of`), or a label is unknown.
    """
    explainer = explainer_of(bundle)
    pixels = decode(photo, bundle.image_size)
    (probabilities,) = bundle.run(pixels[None])
    own = assigned_labels(probabilities, bundle.thresholds) or [int(probabilities.argmax())]
    labels = list(dict.fromkeys(labels)) or [bundle.labels[j] for j in own]
    heats = explainer.heat(pixels, labels)
    which = [bundle.labels.index(label) for label in labels]
    return [
        Explained(bundle.labels[j], float(probabilities[j]), float(bundle.thresholds[j]), heat)
        for j, heat in zip(which, heats, strict=True)
    ]

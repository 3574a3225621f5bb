"""Backbones as ONNX graphs, straight from their weights.

Audits and exploration embed photos too, and need no training framework for it: this starts in under a
second and takes a tenth of the memory that exporting the Keras model would. A test holds both equal.
"""

from pathlib import Path

import numpy as np

from polytag.models.backbones.inverted_residuals import FAMILIES, Convolution, walk
from polytag.models.backbones.weights import Weights
from polytag.models.conversion.onnx_graph import Graph


def write_backbone(weights: Weights, path: Path) -> None:
    """Write the graph: photos uint8 (batch, height, width, 3) → pooled features float32 (batch, 1280).

    Args:
        weights: of kind "torch".
        path: the file to write; it appears only when it is complete.

    Raises:
        WeightsError: the file does not hold the weights of the backbone that it is said to.
    """
    family, graph = FAMILIES[weights.backbone], Graph()

    def convolve(x: str, c: Convolution) -> str:
        padding = c.kernel.shape[-1] // 2 if family.symmetric else "same"
        x = graph.convolution(x, c.kernel, c.bias, c.stride, c.depthwise, padding)
        return graph.clipped(x, 0, 6) if c.activation else x

    mean, deviation = np.array(family.mean), np.array(family.deviation)
    photo = graph.scaled(graph.photos(), 1 / deviation, -mean / deviation, channels_first=True)
    features = walk(weights, photo, convolve, lambda a, b: graph.node("Add", [a, b]))
    pooled = graph.node("Flatten", [graph.node("GlobalAveragePool", [features])])
    graph.write(path, weights.backbone, ("height", "width", 3), pooled, (1280,))

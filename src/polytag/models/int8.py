"""Twins of networks whose convolutions count in 8 bits, as `polytag.models.int8_onnx` writes them."""

from collections.abc import Mapping
from typing import Any

MOST_LOST = 0.005
"""Of validation mAP that 8 bits may cost."""

CALIBRATION_PHOTOS = 50
"""Training photos that decide how weights and activations are rounded."""


def in_8_bits(facts: Mapping[str, Any]) -> str:
    """What a bundle records of its twin in 8 bits, in words."""
    if "reason" in facts:
        return f"8 bits: none, since {facts['reason']}"
    score = f"validation mAP {facts['validation_mean_average_precision']:.4f}, {facts['lost']:+.4f} lost"
    return f"8 bits: {score}; " + ("--engine int8 tags with it" if facts["kept"] else "too much, so it was not kept")

"""Choose the output of an encoder that becomes the embedding, and how it is pooled to a vector."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polytag.errors import SettingsError, WeightsError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Output:
    """The output of an encoder that becomes the embedding.

    Attributes:
        name: name of the output in the graph.
        form: "vector", "tokens", "map" (batch, channels, height, width) or "map, channels last".
        skipped: for tokens, the number of leading tokens that are not patches.
        width: length of the embedding.
    """

    name: str
    form: str
    skipped: int
    width: int

    @property
    def pooling(self) -> str:
        """What becomes of the output, in words."""
        if self.form == "vector":
            return "vector"
        if self.form != "tokens":
            return "mean of the feature map"
        registers = f"; {self.skipped - 1} register tokens left out" if self.skipped > 1 else ""
        return f"CLS token and mean of the patches{registers}" if self.skipped else "mean of the patches"


def choose_output(shapes: Mapping[str, Shape], config: Mapping[str, Any], size: int, wanted: str = "") -> Output:
    """Choose the output that becomes the embedding.

    A vector is preferred to tokens, and tokens to a feature map. Class scores are used only if there is nothing else.

    Args:
        shapes: shape of each output for a batch of two photos.
        config: content of ``config.json``, for the size of patches.
        size: width and height of the photos, in pixels.
        wanted: name of the output to use. "" chooses automatically.

    Raises:
        SettingsError: there is no output with this name.
        WeightsError: no output is a vector, a sequence of tokens or a feature map.
    """
    if wanted and wanted not in shapes:
        raise SettingsError(f"the encoder has no output '{wanted}': choose from {', '.join(shapes)}")
    candidates = {wanted: shapes[wanted]} if wanted else shapes
    found = [output for name, shape in candidates.items() if (output := _output(name, shape, config, size))]
    if not found:
        described = ", ".join(f"{name} {shape}" for name, shape in candidates.items())
        raise WeightsError(f"no output of the encoder can become an embedding ({described}): export it with features")
    order = ("vector", "tokens", "map", "map, channels last")
    return min(found, key=lambda one: (one.name.startswith("logits"), order.index(one.form)))


def _output(name: str, shape: Shape, config: Mapping[str, Any], size: int) -> Output | None:
    if len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1)):
        return Output(name, "vector", 0, shape[1])
    if len(shape) == 3:
        skipped = _not_patches(shape[1], config, size)
        return Output(name, "tokens", skipped, shape[2] * (2 if skipped else 1))
    if len(shape) == 4:
        last = shape[2] != shape[3] and shape[1] == shape[2]
        return Output(name, "map, channels last" if last else "map", 0, shape[3] if last else shape[1])
    return None


def _not_patches(tokens: int, config: Mapping[str, Any], size: int) -> int:
    """Return the number of leading tokens that are not patches: the CLS token and any register tokens.

    Without a known patch size, the patches are the largest square number of tokens.
    """
    vision = config.get("vision_config", config)
    patch = vision.get("patch_size")
    patches = (size // patch) ** 2 if isinstance(patch, int) and patch > 0 else math.isqrt(tokens) ** 2
    return tokens - patches if 0 < patches <= tokens else tokens - math.isqrt(tokens) ** 2

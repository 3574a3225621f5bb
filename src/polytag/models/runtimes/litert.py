"""Run networks with LiteRT, formerly TensorFlow Lite."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import BundleError
from polytag.extras import require
from polytag.models.runtimes.quiet import quiet_stderr


class LitertModel:
    """A network on LiteRT: array (batch, …) → float32 (batch, width). It may be called from any thread.

    Args:
        path: file of the network.
        threads: number of threads for each call. Several concurrent calls on one thread each process more photos per
            second than one call on several threads.

    Raises:
        SettingsError: LiteRT is not installed.
        BundleError: LiteRT cannot run the file.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 1):
        require("ai_edge_litert", "export", "A LiteRT network")
        from ai_edge_litert.interpreter import Interpreter

        self._new: Callable[[], Any] = lambda: Interpreter(model_path=os.fspath(path), num_threads=threads)
        failure = None
        with quiet_stderr():  # the first interpreter of a process logs a line
            try:
                first = self._new()
                first.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                failure = " ".join(str(error).split())[:120]
        if failure is not None:
            raise BundleError(f"{path} is not a network that LiteRT can run ({failure})")
        # An interpreter can run only one call at a time. A call uses an idle interpreter, or creates a new one.
        self._idle = [first]

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        try:
            interpreter = self._idle.pop()
        except IndexError:
            interpreter = self._new()
        (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
        if tuple(inputs["shape"]) != batch.shape:
            interpreter.resize_tensor_input(inputs["index"], batch.shape)
        interpreter.allocate_tensors()  # does nothing unless the shape changed
        interpreter.set_tensor(inputs["index"], batch)
        interpreter.invoke()
        output = interpreter.get_tensor(outputs["index"])
        self._idle.append(interpreter)
        return output

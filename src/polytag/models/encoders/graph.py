"""Turn an encoder into a graph from photos to embeddings, and join it with a head.

Scaling, normalisation and pooling become nodes of the graph, so every runtime prepares pixels the same way. Only
operations that mean the same in all versions of ONNX are added. Weights in external files stay there, because a graph
of more than 2 GB cannot contain them.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import WeightsError, raise_machine_error
from polytag.files import write_bytes_atomically
from polytag.models.conversion.onnx_graph import IR_VERSION, OPSET, PHOTO
from polytag.models.encoders.outputs import Output
from polytag.models.encoders.preprocessing import Preprocessing

FEATURES = "polytag_features"
"""Name of the embedding in the graph, which a joined graph contains too."""


def load_graph(path: Path) -> Any:
    """Read an ONNX file without its external weights.

    Raises:
        WeightsError: the file is not an ONNX model.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
        if not model.graph.output:
            raise ValueError("it has no output")
    except Exception as error:
        raise_machine_error(error)
        # protobuf and onnx raise many different exceptions.
        raise WeightsError(f"{path} is not an ONNX model ({str(error).strip()[:100] or 'damaged'})") from None
    return model


def external_names(model: Any) -> list[str]:
    """Return the names of the files with external weights, as a graph from `load_graph` states them."""
    return sorted({entry.value for entry in _locations(model)})


def external_files(model: Any, folder: Path) -> list[Path]:
    """Return the files with external weights.

    Args:
        model: graph from `load_graph`.
        folder: folder of the ONNX file.

    Raises:
        WeightsError: a file is missing, or is not beside the ONNX file.
    """
    names = external_names(model)
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise WeightsError(f"the weights {name} of the encoder are missing: put them into {folder}")
    return [folder / name for name in names]


def image_input(model: Any) -> Any:
    """Return the only input of an encoder.

    Raises:
        WeightsError: there are several inputs, or the input is not a photo.
    """
    constants = {constant.name for constant in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise WeightsError(f"an encoder must take photos only, but this graph takes {names}: export the image encoder")
    if len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise WeightsError(f"the input {inputs[0].name} of the encoder is not a batch of photos")
    return inputs[0]


def is_channels_last(value: Any) -> bool:
    """Return whether an input has the shape (batch, height, width, 3)."""
    return value.type.tensor_type.shape.dim[3].dim_value == 3


def fixed_size(value: Any) -> int | None:
    """Return the width and height that an input requires, in pixels, or ``None`` if they are variable."""
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    sides = {*(dims[1:3] if is_channels_last(value) else dims[2:4])}
    if len(sides) > 1:
        raise WeightsError("the encoder needs photos that are not square, which polytag does not support")
    return sides.pop() or None


def take_photos(model: Any, preprocessing: Preprocessing, size: int) -> None:
    """Replace the input of an encoder with photos, uint8 (batch, size, size, 3)."""
    from onnx import TensorProto, helper, numpy_helper

    value = image_input(model)
    last = is_channels_last(value)
    deviation = np.array(preprocessing.deviation)
    factor = (preprocessing.scale / deviation).astype(np.float32)
    offset = (-np.array(preprocessing.mean) / deviation).astype(np.float32)
    names = [f"polytag_{name}" for name in ("factor", "offset", "pixels", "scaled", "normalised", "laid_out")]
    photos = PHOTO if value.name != PHOTO else f"{PHOTO}s"
    for name, values in zip(names, (factor, offset), strict=False):
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    ordering, ordered = [], names[4]
    if preprocessing.blue_first:
        model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), "polytag_order"))
        ordered = "polytag_ordered"
        ordering = [helper.make_node("Gather", [names[4], "polytag_order"], [ordered], axis=3)]
    if last:
        to_layout = helper.make_node("Identity", [ordered], [names[5]])
    else:
        to_layout = helper.make_node("Transpose", [ordered], [names[5]], perm=[0, 3, 1, 2])
    nodes = [
        helper.make_node("Cast", [photos], [names[2]], to=TensorProto.FLOAT),
        helper.make_node("Mul", [names[2], names[0]], [names[3]]),
        helper.make_node("Add", [names[3], names[1]], [names[4]]),
        *ordering,
        to_layout,
        helper.make_node("Cast", [names[5]], [value.name], to=value.type.tensor_type.elem_type),
    ]
    inner = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *inner])
    model.graph.input.remove(value)
    model.graph.input.insert(0, helper.make_tensor_value_info(photos, TensorProto.UINT8, ["batch", size, size, 3]))


def give_features(model: Any, output: Output) -> None:
    """Pool the chosen output to a vector, float32 (batch, width), which becomes the only output."""
    from onnx import TensorProto, helper, numpy_helper

    graph, made = model.graph, 0

    def node(operation: str, inputs: list[str], **attributes: Any) -> str:
        nonlocal made
        made += 1
        graph.node.append(helper.make_node(operation, inputs, [f"polytag_pooling_{made}"], **attributes))
        return f"polytag_pooling_{made}"

    def cut(start: int, end: int) -> str:
        names = [f"polytag_{what}_{start}" for what in ("start", "end", "axis")]
        for name, number in zip(names, (start, end, 1), strict=True):
            graph.initializer.append(numpy_helper.from_array(np.array([number], np.int64), name))
        return node("Slice", [x, *names])

    def mean(channels_first: str) -> str:
        return node("Flatten", [node("GlobalAveragePool", [channels_first])])

    x = node("Cast", [output.name], to=TensorProto.FLOAT)
    if output.form == "vector":
        x = node("Flatten", [x])
    elif output.form == "tokens":
        patches = mean(node("Transpose", [cut(output.skipped, 2**31 - 1)], perm=[0, 2, 1]))
        x = node("Concat", [node("Flatten", [cut(0, 1)]), patches], axis=1) if output.skipped else patches
    else:
        x = mean(node("Transpose", [x], perm=[0, 3, 1, 2]) if output.form.endswith("last") else x)
    graph.node.append(helper.make_node("Identity", [x], [FEATURES]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", output.width]))


def write_graph(model: Any, folder: Path, data: list[Path], link: bool = True) -> None:
    """Write ``model.onnx`` and the files with its external weights.

    Args:
        model: graph to write. The names of its external files become ``encoder-0.bin``, …
        folder: existing folder.
        data: files with external weights, as `external_files` returns them.
        link: whether these files never change, so that hard links may stand for copies.
    """
    names = {path.name: f"encoder-{i}.bin" for i, path in enumerate(data)}
    for entry in _locations(model):
        entry.value = names[entry.value]
    for path in data:
        (_linked if link else shutil.copyfile)(path.resolve(), folder / names[path.name])
    with write_bytes_atomically(folder / "model.onnx") as file:
        file.write(model.SerializeToString())


def join_head(encoder: Path, head: Path, folder: Path) -> None:
    """Write one graph that contains an encoder and a head: photos → probabilities.

    Args:
        encoder: ``model.onnx`` of an encoder, which `write_graph` has written.
        head: ONNX file of the head, from embeddings to probabilities.
        folder: existing folder for ``model.onnx`` and the external weights.
    """
    import onnx
    from onnx import compose, version_converter

    first, top = load_graph(encoder), onnx.load(head)
    version = next(one.version for one in first.opset_import if one.domain in ("", "ai.onnx"))
    if version > OPSET:
        # Before `OPSET`, the operations of a head mean the same as in `OPSET`.
        top = version_converter.convert_version(top, version)
    # `merge_models` would check the whole graph in memory, where it finds no external weights and allows only 2 GB.
    top = compose.add_prefix(top, "head_").graph
    for node in top.node:
        node.input[:] = [FEATURES if name == top.input[0].name else name for name in node.input]
    first.graph.node.extend(top.node)
    first.graph.initializer.extend(top.initializer)
    del first.graph.output[:]
    first.graph.output.extend(top.output)
    first.ir_version = max(first.ir_version, IR_VERSION)
    data = external_files(first, encoder.parent)
    write_graph(first, folder, data)


def parameters(model: Any) -> int:
    """Return the number of weights in a graph."""
    constants: NDArray[np.int64] = np.array([np.prod(one.dims, dtype=np.int64) for one in model.graph.initializer])
    return int(constants.sum())


def _locations(model: Any) -> list[Any]:
    """Return the entries that name the external files."""
    from onnx import TensorProto

    external = (one for one in model.graph.initializer if one.data_location == TensorProto.EXTERNAL)
    return [entry for one in external for entry in one.external_data if entry.key == "location"]


def _linked(source: Path, target: Path) -> None:
    """Make a hard link, or a copy if the folders are on different disks."""
    try:
        os.link(source, target)
    except OSError as error:
        raise_machine_error(error)
        shutil.copyfile(source, target)

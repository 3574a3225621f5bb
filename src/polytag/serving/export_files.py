"""Write the files of an export, and run them."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.models.bundle.bundle import Bundle
from polytag.models.runtimes.litert import LitertModel
from polytag.models.runtimes.onnx import OnnxModel
from polytag.models.runtimes.openvino import OpenvinoModel
from polytag.models.runtimes.photos import Network
from polytag.serving.tagging.formats import Format


def write_graph(bundle: Bundle, form: Format, path: Path) -> None:
    """Write the ONNX graph of a bundle, with any file that holds its weights."""
    if form is Format.openvino:
        import openvino

        openvino.save_model(openvino.convert_model(bundle.onnx_file), path, compress_to_fp16=False)
        return
    for file in bundle.onnx_file.parent.glob("*.bin"):
        shutil.copyfile(file, path.parent / file.name)
    shutil.copyfile(bundle.onnx_file, path)


def write_network(model: Any, form: Format, path: Path, calibration: NDArray[np.uint8] | None) -> None:
    """Write a Keras network in another format. With calibration photos, its numbers are rounded to 8 bits."""
    # Keras can export a model only after the model has been called once.
    model(np.zeros((1, *model.input_shape[1:]), dtype=np.uint8))
    if form is Format.keras:
        model.save(path)
    elif form is Format.savedmodel:
        model.export(path, format="tf_saved_model", verbose=False)
    elif calibration is not None:
        from polytag.models.quantization.litert import write_int8

        write_int8(model, calibration, path)
    else:
        model.export(str(path), format=str(form), verbose=False)


def embed_description(form: Format, path: Path, facts: dict[str, Any]) -> None:
    """Embed the description in the network's file."""
    text = json.dumps(facts, ensure_ascii=False)
    if form is Format.savedmodel:
        extra = path / "assets.extra"  # SavedModel reserves this folder for users.
        extra.mkdir()
        (extra / "polytag.json").write_text(text, encoding="utf-8")
    elif form is Format.onnx:
        import onnx

        network = onnx.load(path, load_external_data=False)
        onnx.helper.set_model_props(network, {key: _text(value) for key, value in facts.items()})
        onnx.save(network, path)
    elif form is Format.openvino:
        import openvino

        network = openvino.Core().read_model(path)
        for key, value in facts.items():
            network.set_rt_info(_text(value), ["polytag", key])
        complete = path.with_name("complete.xml")
        openvino.save_model(network, complete, compress_to_fp16=False)
        del network  # This object keeps the weights file open, which can prevent replacing the file.
        for suffix in (".xml", ".bin"):
            complete.with_suffix(suffix).replace(path.with_suffix(suffix))
    else:
        # A .keras file is a zip archive. TensorFlow Lite stores associated files in a zip archive after the network.
        with zipfile.ZipFile(path, "a") as archive:
            # With a fixed date, the same bundle gives the same file every time.
            archive.writestr(zipfile.ZipInfo("polytag.json"), text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def runner(form: Format, path: Path) -> Network:
    """Load an exported file with its runtime.

    Args:
        form: export format.
        path: the exported file.

    Returns:
        A function from photos, uint8 (batch, size, size, 3), to probabilities, float32 (batch, k).
    """
    if form is Format.keras:
        from polytag.models.backend import keras

        return keras.saving.load_model(path, compile=False).predict_on_batch
    if form is Format.savedmodel:
        import tensorflow

        loaded = tensorflow.saved_model.load(str(path))
        return lambda batch: loaded.serve(batch).numpy()
    if form is Format.onnx:
        return OnnxModel(path)
    if form is Format.openvino:
        return OpenvinoModel(path)
    return LitertModel(path)

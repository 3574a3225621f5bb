"""Export timm models to ONNX, once each. This is the only module that uses timm and PyTorch."""

import json
import warnings
from pathlib import Path

from polytag.errors import SettingsError, raise_machine_error
from polytag.extras import require
from polytag.photos.cache_room import cache_folder, new_cache_folder

OPSET = 17


def exported(name: str) -> Path:
    """Return a folder with a timm model as ``model.onnx`` and its configuration, ``config.json``.

    The model is exported on the first call, with its pretrained weights, and kept in the cache.

    Args:
        name: name of a timm model, such as ``vit_small_patch14_dinov2.lvd142m``.

    Raises:
        SettingsError: timm is not installed, or cannot create or export the model.
    """
    folder = cache_folder() / "timm" / name
    if folder.parent.name != "timm" or name in ("", ".", ".."):
        raise SettingsError(f"'{name}' is not the name of a timm model")
    if (folder / "model.onnx").is_file():
        return folder
    require("timm", "timm", f"Exporting timm:{name}")
    try:
        with new_cache_folder(folder) as temporary:
            _export(name, temporary)
    except Exception as error:
        raise_machine_error(error)
        # timm, PyTorch and the hub raise many different exceptions.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]
        raise SettingsError(
            f"timm:{name} cannot be exported ({reason}): choose a model that timm.list_models() names"
        ) from None
    return folder


def _export(name: str, folder: Path) -> None:
    import timm
    import torch

    network = timm.create_model(name, pretrained=True, num_classes=0).eval()
    config = timm.data.resolve_data_config({}, model=network)
    example = torch.zeros(1, *config["input_size"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            folder / "model.onnx",
            input_names=["pixels"],
            output_names=["features"],
            dynamic_axes={"pixels": {0: "batch"}, "features": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    pixels = {key: config[key] for key in ("input_size", "mean", "std")}
    licence = getattr(network, "pretrained_cfg", {}).get("license")
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": {**pixels, "license": licence}}))

"""How an encoder expects its pixels, read from the configuration files that are published with it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytag.errors import WeightsError

FILES = ("preprocessor_config.json", "config.json", "open_clip_config.json")
"""Configuration files, in the order in which they are tried: transformers, timm, open_clip."""

FIELDS = {"image_mean", "do_normalize", "do_rescale", "do_flip_channel_order", "image_processor_type"}
"""Any of these fields makes a file a configuration of transformers."""

NO_NORMALISATION = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Preprocessing:
    """Preparation of photos for an encoder: ``(pixels * scale - mean) / deviation``.

    Attributes:
        size: width and height in pixels. ``None`` if the configuration does not say.
        scale: factor of the pixel values, which are 0 to 255.
        mean, deviation: mean and standard deviation of the red, green and blue channels, after scaling.
        blue_first: whether the encoder takes the channels in the order blue, green, red.
    """

    size: int | None
    scale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    blue_first: bool = False


def read_preprocessing(folder: Path) -> Preprocessing:
    """Read how an encoder expects its pixels.

    Args:
        folder: folder with the configuration files.

    Raises:
        WeightsError: no configuration file describes the pixels, or one is damaged.
    """
    for name in FILES:
        config = read_json(folder / name)
        try:
            found = _from_transformers(config) or _from_timm(config) or _from_open_clip(config)
        except (AttributeError, TypeError, ValueError, KeyError, IndexError):
            raise WeightsError(f"{folder / name} is damaged: download it again") from None
        if found is not None:
            return found
    raise WeightsError(
        f"{folder} does not say how its encoder expects pixels. Add preprocessor_config.json, such as "
        '{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "size": 224}.'
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, or an empty dictionary if the file does not exist.

    Raises:
        WeightsError: the file does not contain a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} is damaged: download it again")
    return content


def _from_transformers(config: dict[str, Any]) -> Preprocessing | None:
    if not FIELDS & config.keys():
        return None
    size = config.get("crop_size") if config.get("do_center_crop") else None
    size = _side(size or config.get("size"))
    # Old configurations lack rescale_factor because their code always divided by 255.
    scale = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    if "do_flip_channel_order" in config:  # only MobileViT, which never normalises
        return Preprocessing(size, scale, *NO_NORMALISATION, blue_first=bool(config["do_flip_channel_order"]))
    mean, deviation = map(list, NO_NORMALISATION)
    if config.get("do_normalize", True):
        # The defaults of transformers differ from one class to the next.
        if not {"image_mean", "image_std"} <= config.keys():
            raise WeightsError("preprocessor_config.json states no image_mean and image_std: add them")
        mean, deviation = config["image_mean"], config["image_std"]
    if config.get("rescale_offset"):
        mean = [value + 1 for value in mean]
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    if kind.startswith("EfficientNet") and config.get("include_top", True):
        # transformers divides by the deviation once more here.
        deviation = [value**2 for value in deviation]
    return _normalised(size, mean, deviation, scale)


def _from_timm(config: dict[str, Any]) -> Preprocessing | None:
    config = config.get("pretrained_cfg") or config
    if not {"input_size", "mean", "std"} <= config.keys():
        return None
    return _normalised(_side(list(config["input_size"])[1:]), config["mean"], config["std"])


def _from_open_clip(config: dict[str, Any]) -> Preprocessing | None:
    pixels, vision = config.get("preprocess_cfg"), (config.get("model_cfg") or {}).get("vision_cfg") or {}
    if pixels is None:
        return None
    return _normalised(_side(pixels.get("size") or vision.get("image_size")), pixels["mean"], pixels["std"])


def _normalised(size: int | None, mean: Any, deviation: Any, scale: float = 1 / 255) -> Preprocessing:
    mean, deviation = (tuple(float(value) for value in values) for values in (mean, deviation))
    if len(mean) != 3 or len(deviation) != 3 or not min(deviation) > 0:
        raise ValueError
    return Preprocessing(size, scale, mean, deviation)


def _side(size: Any) -> int | None:
    """Return the side of a square that a configuration describes in any of its usual ways."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("longest_edge") or [size["height"], size["width"]]
    if isinstance(size, list):
        if len(set(size)) != 1:
            raise ValueError("not a square")
        size = size[0]
    return None if size is None else int(size)

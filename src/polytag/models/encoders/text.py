"""Text encoders that belong to an image encoder, as in CLIP and SigLIP: texts → vectors in the same space."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from polytag.errors import WeightsError, raise_machine_error
from polytag.extras import require
from polytag.files import write_json
from polytag.models.encoders.graph import load_graph
from polytag.models.encoders.preprocessing import read_json
from polytag.models.encoders.source import HUB, Hub, Source, find_source
from polytag.models.runtimes.onnx import open_session
from polytag.photos.cache_room import cache_folder, usable

TEXT_MODELS = ("onnx/text_model.onnx", "text_model.onnx")
"""Usual places of the text encoder, in the order in which they are tried."""

SIGLIP_LENGTH = 64
"""Number of tokens to which SigLIP pads each text, unless its configuration says otherwise."""

SIGMOID = ("logit_scale", "logit_bias")
"""Names of the two numbers of SigLIP's sigmoid. The first is the logarithm of the scale."""

LONGEST_HEADER = 100_000_000
"""Maximum length of a safetensors header, in bytes, which the format sets itself."""


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder that is ready to run.

    Attributes:
        path: ONNX file.
        tokenizer: file ``tokenizer.json``.
        is_siglip: whether the encoder is a SigLIP, which pads texts and has a sigmoid of its own. Otherwise, a CLIP.
        length: maximum number of tokens.
        pad: token that fills short texts.
        scale, bias: parameters of SigLIP's sigmoid: probability = sigmoid(scale · cosine + bias). ``None`` for CLIP.
    """

    path: Path
    tokenizer: Path
    is_siglip: bool
    length: int
    pad: str
    scale: float | None = None
    bias: float | None = None

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts as vectors of length 1, float32 (len(texts), d)."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        tokenizer.enable_truncation(self.length)
        tokenizer.no_padding()
        if self.is_siglip:
            tokenizer.enable_padding(
                length=self.length, pad_id=tokenizer.token_to_id(self.pad) or 0, pad_token=self.pad
            )
        session = open_session(self.path, threads=0)
        names = [value.name for value in session.get_inputs()]
        vectors = []
        for text in texts:  # One at a time, so that CLIP needs no padding.
            # SigLIP has learned from texts in lower case.
            ids = np.array([tokenizer.encode(text.lower() if self.is_siglip else text).ids], np.int64)
            feed = {name: np.ones_like(ids) if name == "attention_mask" else ids for name in names}
            found = session.run(None, feed)
            vectors.append(next(array[0] for array in found if array.ndim == 2))
        stacked = np.stack(vectors).astype(np.float32)
        return stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-12)


def find_text_encoder(name: str) -> TextEncoder:
    """Find the text encoder in the repository or folder of an image encoder.

    Args:
        name: ``hf:OWNER/REPO[@REVISION]`` or the path of a folder.

    Raises:
        WeightsError: there is no text encoder, or a file is missing.
        SettingsError: a package is missing.
    """
    require("tokenizers", "hub", "Tagging with --labels")
    source = find_source(name)
    hub = Hub(name) if name.startswith(HUB) else None

    def file(place: str) -> Path | None:
        path = source.folder / place
        return hub.file(place) if hub is not None else path if path.is_file() else None

    path = hub.model(TEXT_MODELS) if hub is not None else next(filter(None, map(file, TEXT_MODELS)), None)
    tokenizer = file("tokenizer.json")
    if path is None or tokenizer is None:
        missing = TEXT_MODELS[0] if path is None else "tokenizer.json"
        raise WeightsError(f"{name} has no text encoder ({missing} is missing): choose a CLIP or SigLIP in ONNX")
    load_graph(path)
    config, words = read_json(source.folder / "config.json"), read_json(file("tokenizer_config.json") or Path("-"))
    is_siglip = "siglip" in str(config.get("model_type"))
    length = config.get("text_config", {}).get("max_position_embeddings", SIGLIP_LENGTH if is_siglip else 77)
    pad = words.get("pad_token") or "<pad>"
    pad = pad["content"] if isinstance(pad, dict) else pad
    scale, bias = _sigmoid(source, hub) if is_siglip else (None, None)
    return TextEncoder(path, tokenizer, is_siglip, int(length), pad, scale, bias)


def _sigmoid(source: Source, hub: Hub | None) -> tuple[float, float]:
    """Return the scale and the bias of SigLIP's sigmoid, which only the PyTorch weights contain.

    Numbers from the hub are kept in the cache, so that they are downloaded once.

    Raises:
        WeightsError: they cannot be read.
    """
    path = source.folder / "model.safetensors"
    kept = None
    if hub is not None and not path.is_file():
        kept = cache_folder() / "encoders" / f"{hub.repository.replace('/', '--')}-{source.revision}.json"
        if (found := _kept(kept)) is not None:
            return found
    try:
        with path.open("rb") if hub is None or kept is None else hub.open(path.name, source.revision) as file:
            scalars = read_scalars(file, SIGMOID)
        numbers = _scale_and_bias(scalars)
    except Exception as error:
        raise_machine_error(error)
        # Damaged files, huggingface_hub and its HTTP library raise many different exceptions.
        connection = "" if hub is None else "check the connection, or "
        raise WeightsError(
            f"the scale of the scores of {source.name} cannot be read: {connection}put model.safetensors into "
            f"{source.folder}"
        ) from None
    if kept is not None:
        with usable(kept.parent):
            kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, scalars)
    return numbers


def _kept(path: Path) -> tuple[float, float] | None:
    """Return the numbers in a file of the cache, or ``None`` if it does not exist or is damaged."""
    try:
        return _scale_and_bias(read_json(path))
    except (WeightsError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _scale_and_bias(scalars: Mapping[str, float]) -> tuple[float, float]:
    logarithm, bias = (float(scalars[name]) for name in SIGMOID)
    if not (math.isfinite(logarithm) and math.isfinite(bias)):
        raise ValueError("not finite")
    return math.exp(logarithm), bias


def read_scalars(file: BinaryIO, names: Sequence[str]) -> dict[str, float]:
    """Read single numbers from a safetensors file without reading the rest.

    The file begins with the length of a JSON header, which names the type and place of each tensor.

    Raises:
        ValueError: the file is damaged. Other damage raises other exceptions.
    """
    (length,) = struct.unpack("<Q", file.read(8))
    if length > LONGEST_HEADER:
        raise ValueError("not a safetensors file")
    header: dict[str, Any] = json.loads(file.read(length))
    found = {}
    for name in names:
        start, end = header[name]["data_offsets"]
        file.seek(8 + length + start)
        content, dtype = file.read(end - start), header[name]["dtype"]
        if dtype == "BF16":  # the upper half of a float32
            content, dtype = bytes(2) + content[:2], "F32"
        found[name] = float(np.frombuffer(content, {"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype])[0])
    return found

"""Text encoders that belong to an image encoder, as in CLIP and SigLIP: texts → vectors in the same space."""

import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from polytag.models.runtimes.onnx import open_session, quiet_run
from polytag.photos.cache_room import cache_folder, usable

TEXT_MODELS = ("onnx/text_model.onnx", "text_model.onnx")
"""Usual places of the text encoder, in the order in which they are tried."""

SIGLIP_LENGTH = 64
"""Number of tokens to which SigLIP pads each text, unless its configuration says otherwise."""

SIGMOID = ("logit_scale", "logit_bias")
"""Names of the two numbers of SigLIP's sigmoid. The first is the logarithm of the scale."""

INTEGERS = {"tensor(int32)": np.int32}
"""Types of inputs, other than int64."""

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
        pad: token that fills short texts, and its number.
        scale, bias: parameters of SigLIP's sigmoid: probability = sigmoid(scale · cosine + bias). ``None`` for CLIP.
    """

    path: Path
    tokenizer: Path
    is_siglip: bool
    length: int
    pad: tuple[str, int]
    scale: float | None = None
    bias: float | None = None

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts as vectors of length 1, float32 (len(texts), d).

        Raises:
            WeightsError: the graph cannot encode texts.
        """
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.tokenizer))
        tokenizer.enable_truncation(self.length)
        # All of these models have learned from texts of full length. It matters where attention is not causal.
        tokenizer.enable_padding(length=self.length, pad_id=self.pad[1], pad_token=self.pad[0])
        session = open_session(self.path, threads=0)
        vectors = []
        for text in texts:
            # SigLIP has learned from texts in lower case.
            encoded = tokenizer.encode(text.lower() if self.is_siglip else text)
            # SigLIP attends to the padding, too.
            mask = [1] * self.length if self.is_siglip else encoded.attention_mask
            given = {"attention_mask": mask, "token_type_ids": [0] * self.length}
            feed = {
                value.name: np.array([given.get(value.name, encoded.ids)], INTEGERS.get(value.type, np.int64))
                for value in session.get_inputs()
            }
            try:
                found = session.run(None, feed, quiet_run())
            except Exception as error:
                # ONNX Runtime's exceptions share no public base class.
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
                raise WeightsError(f"the text encoder {self.path} does not take texts ({reason})") from None
            vector = next((array[0] for array in found if array.ndim == 2), None)
            if vector is None:
                raise WeightsError(
                    f"the text encoder {self.path} has no vector as output: export it with its projection"
                )
            vectors.append(vector)
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
    length = (config.get("text_config") or {}).get("max_position_embeddings", SIGLIP_LENGTH if is_siglip else 77)
    pad = _padding(tokenizer, words, is_siglip)
    scale, bias = _sigmoid(source, hub) if is_siglip else (None, None)
    return TextEncoder(path, tokenizer, is_siglip, int(length), pad, scale, bias)


def _padding(tokenizer: Path, words: Mapping[str, Any], is_siglip: bool) -> tuple[str, int]:
    """Return the token that fills short texts, and its number.

    Raises:
        WeightsError: it is not known, and another one would change every vector of SigLIP.
    """
    from tokenizers import Tokenizer

    known = Tokenizer.from_file(str(tokenizer))
    stated = words.get("pad_token")
    stated = stated["content"] if isinstance(stated, dict) else stated
    if isinstance(stated, str) and (number := known.token_to_id(stated)) is not None:
        return stated, number
    if is_siglip:
        raise WeightsError(
            "the token that fills short texts is not known: put tokenizer_config.json with its pad_token beside "
            f"{tokenizer}"
        )
    # What follows the end of a text does not matter to CLIP, which looks back only.
    end = known.token_to_id("<|endoftext|>")
    return ("!", 0) if end is None else ("<|endoftext|>", end)


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
    scalars = numbers = None
    for opened in _weights(source, None if kept is None else hub):
        try:
            with opened() as file:
                scalars = read_scalars(file, SIGMOID)
            numbers = _scale_and_bias(scalars)
            break
        except Exception as error:
            raise_machine_error(error)
            # Damaged files, huggingface_hub and its HTTP library raise many different exceptions.
    if numbers is None:
        connection = "" if hub is None else "check the connection, or "
        raise WeightsError(
            f"the scale of the scores of {source.name} cannot be read: {connection}put model.safetensors into "
            f"{source.folder}"
        )
    if kept is not None:
        with usable(kept.parent):
            kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, scalars)
    return numbers


def _weights(source: Source, hub: Hub | None) -> Iterator[Callable[[], Any]]:
    """Yield functions that open the PyTorch weights: those beside the encoder, or in its repository or its base."""
    name = "model.safetensors"
    if hub is None:
        yield partial((source.folder / name).open, "rb")
        return
    yield partial(hub.open, name, source.revision)
    # Repositories with exports often contain no other weights.
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source.base):
        yield partial(Hub(HUB + source.base).open, name, None)


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

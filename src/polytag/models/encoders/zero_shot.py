"""Tag photos with labels that no training has seen: compare the photo with texts about the labels.

An image encoder and a text encoder that were trained together map photos and texts into one space. A label's score
depends on the cosine of its text and the photo (Radford et al. 2021, CLIP; Zhai et al. 2023, SigLIP).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import SettingsError, listed
from polytag.files import sha256_of, write_json
from polytag.models.bundle.bundle import FORMAT, SEEN_FILE, Bundle
from polytag.models.bundle.seen import PHOTO, to_bytes
from polytag.models.bundle.write import temporary_bundle
from polytag.models.conversion.onnx_graph import EMBEDDING, Graph
from polytag.models.encoders.encoder import Encoder, find_encoder
from polytag.models.encoders.graph import join_head
from polytag.models.encoders.text import TextEncoder, find_text_encoder
from polytag.photos.decode import PIXEL_PATH

PROMPTS = ("a photo of {}.", "a photo of a {}.", "this is a photo of {}.")
"""Texts about a label. Their vectors are averaged."""

CLIP_THRESHOLD = 0.25
"""Minimum cosine for assigning a label with CLIP. Cosines of CLIP are not probabilities: unrelated texts have about
0.15 to 0.22, fitting ones 0.25 to 0.35, depending on the model."""

SIGLIP_THRESHOLD = 0.5
"""Minimum probability for assigning a label with SigLIP, whose sigmoid was trained."""


def zero_shot(name: str, labels: Sequence[str], prompts: Sequence[str] = PROMPTS) -> Bundle:
    """Return a bundle that tags photos with any labels, without training.

    The bundle is deleted together with the object. `Bundle.save` makes a permanent copy.

    Args:
        name: repository or folder of an image encoder with its text encoder, such as ``hf:OWNER/REPO``.
        labels: labels in natural language, such as "sunset" or "two people".
        prompts: texts about a label, with {} in its place.

    Raises:
        SettingsError: there are no labels, a label occurs twice, or a package is missing.
        WeightsError: an encoder is missing, or the two do not belong together.
    """
    labels = [label.strip() for label in labels]
    if not all(labels) or len(set(labels)) < len(labels) or not labels:
        raise SettingsError(f"name each label once, such as boat,sunset; got {listed(labels, 20) or 'none'}")
    encoder, texts = find_encoder(name), find_text_encoder(name)
    vectors = texts([prompt.format(label) for label in labels for prompt in prompts])
    vectors = vectors.reshape(len(labels), len(prompts), -1).mean(axis=1)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    if vectors.shape[1] != encoder.width:
        raise SettingsError(
            f"the photos of {name} have {encoder.width} features, but its texts {vectors.shape[1]}: export both with "
            "their projections"
        )
    return _bundle(encoder, texts, labels, vectors, prompts)


def _bundle(
    encoder: Encoder, texts: TextEncoder, labels: list[str], vectors: NDArray[np.float32], prompts: Sequence[str]
) -> Bundle:
    graph = encoder.path
    assert graph is not None

    def write(folder: Path) -> None:
        head = folder / "head.onnx"
        _write_head(vectors, texts, head)
        join_head(graph, head, folder)
        head.unlink()
        (folder / f"{SEEN_FILE}.npy").write_bytes(to_bytes(np.zeros(0, PHOTO)))
        write_json(folder / "bundle.json", _manifest(encoder, texts, labels, prompts, folder))

    return temporary_bundle(write)


def _write_head(vectors: NDArray[np.float32], texts: TextEncoder, path: Path) -> None:
    """Write a graph from embeddings to scores: SigLIP's probability, or CLIP's cosine from 0 to 1."""
    graph = Graph()
    length = graph.node("ReduceL2", [EMBEDDING], axes=[1], keepdims=1)
    unit = graph.node("Div", [EMBEDDING, graph.node("Max", [length, graph.constant(1e-12)])])
    cosine = graph.node("MatMul", [unit, graph.constant(vectors.T)])
    if texts.scale is None or texts.bias is None:
        output = graph.clipped(cosine, 0, 1)
    else:
        output = graph.node("Sigmoid", [graph.scaled(cosine, texts.scale, texts.bias, channels_first=False)])
    graph.write(path, "zero_shot", (vectors.shape[1],), output, (len(vectors),), EMBEDDING)


def _manifest(
    encoder: Encoder, texts: TextEncoder, labels: list[str], prompts: Sequence[str], folder: Path
) -> dict[str, Any]:
    import importlib.metadata

    threshold = SIGLIP_THRESHOLD if texts.is_siglip else CLIP_THRESHOLD
    kind = "probability" if texts.is_siglip else "cosine similarity, which is not a probability"
    return {
        "format": FORMAT,
        "pixel_path": PIXEL_PATH,
        "polytag": importlib.metadata.version("polytag"),
        "labels": labels,
        "thresholds": [threshold] * len(labels),
        "recipe": {"model": "zero_shot", "image_size": encoder.image_size, "backbone": encoder.backbone},
        "encoder": dict(encoder.facts),
        "weights": encoder.name,
        "prompts": list(prompts),
        "fixed_threshold": threshold,
        "notes": [f"The labels were never trained. The score is a {kind}."],
        "history": [],
        "validation_accuracy": None,
        "fit_seconds": 0.0,
        "parameters": encoder.facts["parameters"],
        "trainable_parameters": 0,
        "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
    }

"""Add a quantized model with its own thresholds to a bundle."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.evaluation.metrics import scores
from polytag.evaluation.selection import VALIDATION_SCORE, selection_score
from polytag.evaluation.thresholds import choose_thresholds, out_of_reach
from polytag.models.bundle.bundle import CORES, INT8_FILE, Bundle
from polytag.models.quantization.onnx import write_int8
from polytag.models.runtimes.openvino import BATCH_SIZE, OpenvinoModel
from polytag.photos.decode import each
from polytag.photos.pixels import photo_view

MAX_LOSS = 0.005
"""A quantized model is kept only if it loses less support-weighted validation mAP than this."""

CALIBRATION_PHOTOS = 50
"""Number of training photos that calibrate the rounding of weights and activations."""


def quantize(bundle: Bundle, train: Dataset, validation: Dataset, *, objective: str, seed: int) -> None:
    """Add a quantized model to a bundle unless it loses too much accuracy. Record the outcome as "int8".

    Thresholds are chosen from the quantized model's own probabilities for the validation photos, because rounding
    changes the probabilities and therefore the best thresholds. If quantization fails, no exception is raised. The
    bundle then contains only the float32 model and records the reason.

    Args:
        bundle: bundle with an ONNX model and the validation scores of its float32 model.
        train: readable training photos. `CALIBRATION_PHOTOS` of them calibrate the rounding.
        validation: readable validation photos.
        objective: objective for the thresholds, as in `polytag.evaluation.thresholds.choose_thresholds`.
        seed: seed for the choice of calibration photos.
    """
    path = bundle.path / INT8_FILE
    try:
        probabilities = _quantized_probabilities(bundle, train, validation, seed)
        facts = _facts(bundle, validation, probabilities, objective)
    except Exception as error:
        # Runtimes may raise any exception, and a model that took hours to train must not be lost because of it.
        reason = next(iter(str(error).splitlines()), type(error).__name__).replace(f"{path}", path.name)
        facts = {"kept": False, "reason": f"quantization failed ({reason[:120]})"}
    if facts["kept"]:
        bundle.adopt(INT8_FILE)
    else:
        path.unlink(missing_ok=True)
    bundle.record(int8=facts)


def _quantized_probabilities(bundle: Bundle, train: Dataset, validation: Dataset, seed: int) -> NDArray[np.float32]:
    """Write the quantized model and return its probabilities for the validation photos, float32 (n, k)."""
    if "model.onnx" not in bundle.manifest["files"]:
        raise ValueError("the bundle has no ONNX model to quantize")
    path, size = bundle.path / INT8_FILE, bundle.image_size
    rows = np.random.default_rng(seed).permutation(len(train))[:CALIBRATION_PHOTOS]
    write_int8(bundle.path / "model.onnx", photo_view(train.paths[rows], size)[:], path)
    model, photos = OpenvinoModel(path, calls=CORES), photo_view(validation.paths, size)
    starts = range(0, len(photos), BATCH_SIZE)
    return np.concatenate(list(each(lambda start: model(photos[start : start + BATCH_SIZE]), starts)))


def _facts(bundle: Bundle, validation: Dataset, probabilities: NDArray[np.float32], objective: str) -> dict[str, Any]:
    """Return the facts about the quantized model that the bundle records."""
    if not np.isfinite(probabilities).all():
        raise ValueError("some of its probabilities are not finite")
    thresholds = choose_thresholds(validation.targets, probabilities, objective, validation.groups)
    beyond = out_of_reach(validation.targets, probabilities, objective, validation.groups)
    judged = scores(validation.targets, probabilities, thresholds)
    score = selection_score(validation.targets, probabilities)
    loss = bundle.manifest[VALIDATION_SCORE] - score
    return {
        "kept": bool(loss < MAX_LOSS),
        VALIDATION_SCORE: score,
        "lost": loss,
        "thresholds": [float(threshold) for threshold in thresholds],
        "out_of_reach": [label for label, out in zip(bundle.labels, beyond, strict=True) if out],
        "validation": {name: value if np.isfinite(value) else None for name, value in judged.items()},
    }

"""Report problems of individual photos: unreadable files, unusual pixels, suspicious table rows."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polytag.auditing.findings import rows
from polytag.auditing.issues import SCALED, UNREADABLE
from polytag.data.dataset import Dataset
from polytag.data.reading.table import NOT_ANNOTATED
from polytag.files import is_readable
from polytag.photos.measure import Measurements

EXTENSIONS_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
}
"""Valid file extensions for each image format."""


def unreadable_findings(dataset: Dataset, measured: Measurements) -> Iterator[pd.DataFrame]:
    """Flag files that are missing, cannot be decoded, or have no annotation.

    Raises:
        MachineError: the disk fails, or the computer is out of memory or open files.
    """
    names = dataset.names
    unreadable: dict[str, dict[str, str]] = {}
    for i in np.flatnonzero(~measured.readable).tolist():
        error = measured.errors[measured.paths[i]]
        unreadable.setdefault(UNREADABLE[error.problem], {})[names[i]] = str(error)
    for name, reason in dataset.left_out.items():
        if reason == NOT_ANNOTATED:
            unreadable.setdefault("all_unknown", {})[name] = reason
        elif not is_readable(dataset.root / name):
            unreadable.setdefault("missing", {})[name] = reason
    for issue, reasons in unreadable.items():
        yield rows(issue, list(reasons), list(reasons.values()))


def scaled_scores(measured: Measurements, issue: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Score every photo by one measure.

    Returns:
        Scores and measured values, both float32 (n,). Scores below 0.5 are findings.
    """
    m, readable = measured.records, measured.readable
    limit = SCALED[issue][1]
    shorter, longer = np.minimum(m["width"], m["height"]), np.maximum(m["width"], m["height"])
    value = {
        "tiny": lambda: shorter,
        "extreme_aspect": lambda: shorter / np.maximum(longer, 1),
        "blank": lambda: m["contrast"],
        "dark": lambda: m["p99"],
        "bright": lambda: 1 - m["p01"],
        "blurry": lambda: m["sharpness"],
    }[issue]().astype(np.float32)
    # The light and sharpness of a blank photo are meaningless.
    judged = readable if issue in ("tiny", "extreme_aspect", "blank") else readable & ~_blank(measured)
    # The score is 0.5 at the limit and falls towards 0 with the value, so photos far past the limit score worse.
    scores = np.where(judged, 1 - 1 / (1 + value / limit), 1).astype(np.float32)
    # Rounding must not turn a value at the limit into a finding, or the reverse.
    scores = np.where(judged & (value >= limit), np.maximum(scores, np.float32(0.5)), scores)
    return scores, value


def photo_findings(names: list[str], measured: Measurements) -> Iterator[pd.DataFrame]:
    """Flag photos that look unusual or are stored in an unusual way."""
    images = np.array(names, dtype=object)
    for issue, (measure_name, limit) in SCALED.items():
        scores, values = scaled_scores(measured, issue)
        found = np.flatnonzero(scores < 0.5)
        details = [f"{measure_name} {value:.4g}, limit {limit:.2g}" for value in values[found]]
        yield rows(issue, images[found].tolist(), details, scores=scores[found].tolist())
    for issue, details_of in (
        ("wrong_extension", _wrong_extensions(measured)),
        ("animated", _several_frames(measured)),
        ("unusual_mode", _unusual_modes(measured)),
        ("exif_rotated", _rotated(measured)),
        ("grey", _grey(measured)),
    ):
        yield rows(issue, images[list(details_of)].tolist(), list(details_of.values()))


def listing_findings(dataset: Dataset) -> Iterator[pd.DataFrame]:
    """Flag photos whose rows conflict or repeat each other, and photos without labels."""
    known = {*dataset.names, *dataset.left_out} if dataset.disputed or dataset.repeats else set()
    disputed = [(name, labels) for name, labels in dataset.disputed.items() if name in known]
    for issue, repeated in (("conflicting_rows", True), ("names_against_columns", False)):
        found = [(name, ", ".join(labels)) for name, labels in disputed if (name in dataset.repeats) == repeated]
        details = [
            f"disagreement on {told}" + (f" ({_lines(dataset.repeats[name])})" if repeated else "")
            for name, told in found
        ]
        yield rows(issue, [name for name, _ in found], details)
    twice = [name for name in dataset.repeats if name in known and name not in dataset.disputed]
    yield rows("listed_twice", twice, [_lines(dataset.repeats[name]) for name in twice], scores=0.5)
    images = np.array(dataset.names, dtype=object)
    yield rows("no_label", images[(dataset.targets == 0).all(axis=1)].tolist(), scores=0.5)
    yield rows("all_unknown", images[(dataset.targets < 0).all(axis=1)].tolist())


def _lines(lines: tuple[int, ...]) -> str:
    return f"lines {', '.join(map(str, lines))}"


def _blank(measured: Measurements) -> NDArray[np.bool_]:
    return measured.readable & (measured.records["contrast"] < SCALED["blank"][1])


def _found(measured: Measurements, mask: NDArray[np.bool_]) -> list[int]:
    return np.flatnonzero(measured.readable & mask).tolist()


def _wrong_extensions(measured: Measurements) -> dict[int, str]:
    details = {}
    for format_name in np.unique(measured.records["format"][measured.readable]).tolist():
        expected = EXTENSIONS_OF.get(format_name, ())
        for i in _found(measured, measured.records["format"] == format_name):
            extension = os.path.splitext(measured.paths[i])[1].lower()
            if extension and expected and extension not in expected:
                details[i] = f"{format_name}, named {extension}"
    return details


def _several_frames(measured: Measurements) -> dict[int, str]:
    m = measured.records
    return {i: f"{m['frames'][i]} images, {m['format'][i]}" for i in _found(measured, m["frames"] > 1)}


def _unusual_modes(measured: Measurements) -> dict[int, str]:
    m = measured.records
    kinds: dict[str, NDArray[np.bool_]] = {
        "CMYK": m["mode"] == "CMYK",
        "more than 8 bits per channel": m["deep"],
        "transparency": m["alpha"],
        "palette": np.isin(m["mode"], ("P", "PA")),
        **{f"mode {mode}": m["mode"] == mode for mode in ("LAB", "HSV", "YCbCr", "1")},
    }
    unusual = np.logical_or.reduce(list(kinds.values()))
    return {i: ", ".join(kind for kind, mask in kinds.items() if mask[i]) for i in _found(measured, unusual)}


def _rotated(measured: Measurements) -> dict[int, str]:
    orientation: NDArray[Any] = measured.records["orientation"]
    return {i: f"EXIF orientation {orientation[i]}" for i in _found(measured, orientation > 1)}


def _grey(measured: Measurements) -> dict[int, str]:
    """Return details for grey photos, which count as findings only if most photos have colour."""
    grey = measured.readable & measured.records["grey"] & ~_blank(measured)
    if 2 * grey.sum() >= measured.readable.sum():
        return {}
    return dict.fromkeys(_found(measured, grey), "equal red, green and blue everywhere")

"""Find photos that show the same picture: identical files, and copies that were re-encoded, resized, brightened,
cropped or mirrored.

The search has two steps. The first step finds candidates: pairs with similar coarse, high-passed grey thumbnails and,
if there are embeddings, pairs with similar embeddings (`candidates`). The second step aligns the two thumbnails of each
candidate pair, coarse to fine (`alignment`). The pair is accepted if the locally normalized details correlate well
enough where the thumbnails overlap.
Perceptual hashes only perform the first step, and they miss crops (benchmarks/duplicates.py compares the two).
"""

import hashlib
import json
import logging
from dataclasses import astuple, dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import SettingsError
from polytag.files import write_json
from polytag.photos.cache_room import cache_folder
from polytag.photos.content import content_hash
from polytag.photos.copies.alignment import align, correlation, pooled
from polytag.photos.copies.candidates import CandidateSearch
from polytag.photos.copies.index import on_all_cores
from polytag.photos.groups import connected
from polytag.photos.measure import THUMBNAIL, Measurements
from polytag.photos.pixels import View

log = logging.getLogger(__name__)

VERSION = "5"
"""Version of the search. Increase it when the same photos give different pairs."""

KINDS = ("exact", "near", "cropped", "mirrored")
"""Kinds of pairs: identical files, re-encoded or brightened copies, crops and mirror images."""

STAGES = ((16, 5, 1.5, 0.5), (32, 5, 2.0, 0.5), (THUMBNAIL, 3, 3.0, 0.7))
"""Stages of the alignment, coarse to fine: side in pixels, number of Gauss-Newton steps, width of the high-pass filter
in pixels, and minimum correlation of details to pass. Pairs that pass the last stage show the same picture, because
true copies reach more than 0.75 there and different photos less than 0.65."""

FRAME, INSIDE = 14, 0.5
"""Number of pixels at each edge of a thumbnail that may belong to a frame, and minimum correlation inside the frame.
Different pictures in the same frame agree only at the edges."""

CROPPED = 0.93
"""A pair counts as cropped if less than this fraction of either photo is visible in the other."""

STRETCH = 1.12
"""Maximum change of proportions between copies of a picture. A larger change means that the alignment is wrong."""

BATCH = 128
"""Number of pairs aligned at once."""


@dataclass(frozen=True)
class Pair:
    """Two photos that show the same picture.

    Attributes:
        a: position of the first photo.
        b: position of the second photo; greater than a.
        kind: one of `KINDS`. A mirrored pair may also be cropped.
        similarity: correlation of the photos' details where they overlap, at most 1.
    """

    a: int
    b: int
    kind: str
    similarity: float


def find_duplicates(
    measured: Measurements,
    contents: NDArray[np.int64],
    embeddings: NDArray[np.float32] | View | None = None,
) -> list[Pair]:
    """Find pairs of photos that show the same picture.

    Photos with identical bytes are paired with the first of them, and only the first is compared with other photos.

    Args:
        measured: the measurements of n photos.
        contents: int64 (n,), content numbers. Photos with identical content have the same number.
        embeddings: float32 (n, d), used to find more candidates. Rows of photos without an embedding are NaN.

    Returns:
        The pairs without repetitions, ordered by a and b.
    """
    first: dict[int, int] = {}
    pairs = []
    for i, content in enumerate(contents.tolist()):
        if first.setdefault(content, i) != i:
            pairs.append(Pair(first[content], i, "exact", 1.0))
    rows = np.array([i for i in first.values() if measured.readable[i]], dtype=np.int64)
    thumbnails = measured.thumbnails
    aspects = measured.records["width"] / np.maximum(measured.records["height"], 1)
    best: dict[tuple[int, int], Pair] = {}
    search = CandidateSearch(thumbnails, rows, embeddings)
    for mirrored in (False, True):
        candidates = search.pairs(mirrored)
        batches = (candidates[start : start + BATCH] for start in range(0, len(candidates), BATCH))
        verify = partial(_verified, thumbnails, aspects, mirrored=mirrored)
        with on_all_cores() as pool:
            for pair in chain.from_iterable(pool.map(verify, batches)):
                key = (pair.a, pair.b)
                if key not in best or pair.similarity > best[key].similarity:
                    best[key] = pair
    return sorted((*pairs, *best.values()), key=lambda pair: (pair.a, pair.b))


def recall_duplicates(measured: Measurements, embeddings: NDArray[np.float32] | View | None = None) -> list[Pair]:
    """Return the result of `find_duplicates`, which is cached until a photo changes.

    Args:
        measured: the measurements of the photos.
        embeddings: as in `find_duplicates`.
    """
    if not measured.readable.any():
        return []
    contents = [content_hash(path) if path not in measured.errors else f"? {path}" for path in measured.paths]
    seal = hashlib.sha256("\n".join([VERSION, *contents]).encode("utf-8", "surrogateescape"))
    if embeddings is not None:
        for start in range(0, len(embeddings), BATCH):
            seal.update(np.ascontiguousarray(embeddings[start : start + BATCH]).data)
    folder = cache_folder() / "duplicates"
    file = folder / f"{seal.hexdigest()[:32]}.json"
    try:
        return [Pair(*pair) for pair in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        numbers: dict[str, int] = {}
        pairs = find_duplicates(
            measured, np.array([numbers.setdefault(content, len(numbers)) for content in contents]), embeddings
        )
    try:
        folder.mkdir(exist_ok=True)
        write_json(file, [astuple(pair) for pair in pairs])
    except (OSError, SettingsError) as error:
        reason = getattr(error, "strerror", None) or error
        log.warning(
            "the duplicates cannot be stored in the cache (%s), so the next run will search for them again", reason
        )
    return pairs


def groups_of(pairs: list[Pair], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Merge groups that a pair connects, and number them from 0 in order of first appearance, int64 (n,)."""
    _, first, members = np.unique(groups, return_index=True, return_inverse=True)
    same = enumerate(first[members].tolist())
    return connected(len(groups), chain(same, ((pair.a, pair.b) for pair in pairs)))


def _verified(
    thumbnails: NDArray[np.uint8] | View, aspects: NDArray, candidates: NDArray[Any], mirrored: bool
) -> list[Pair]:
    """Return the candidate pairs that show the same picture."""
    a, b, zoom = candidates["first"], candidates["second"], candidates["zoom"]
    left = thumbnails[a].astype(np.float32)
    right = thumbnails[b].astype(np.float32)
    if mirrored:
        right = right[:, :, ::-1]
    fit = np.zeros((len(a), 4), np.float32)
    fit[:, 0] = fit[:, 2] = zoom - 1
    for side, steps, sigma, least in STAGES:
        small_left, small_right = pooled(left, side), pooled(right, side)
        fit = align(small_left, small_right, fit, steps)
        similarity, shown_a, shown_b = correlation(small_left, small_right, fit, sigma)
        kept = similarity >= least
        a, b, left, right, fit = a[kept], b[kept], left[kept], right[kept], fit[kept]
        similarity, shown_a, shown_b = similarity[kept], shown_a[kept], shown_b[kept]
        if not len(a):
            return []
    stretch = (1 + fit[:, 0]) / (1 + fit[:, 2]) * aspects[b] / aspects[a]
    inside = correlation(left, right, fit, sigma, margin=FRAME)[0]
    same = (np.abs(np.log(stretch)) <= np.log(STRETCH)) & (inside >= INSIDE)
    cropped = np.minimum(shown_a, shown_b) < CROPPED
    return [
        Pair(
            int(min(a[i], b[i])),
            int(max(a[i], b[i])),
            "mirrored" if mirrored else "cropped" if cropped[i] else "near",
            round(float(similarity[i]), 4),
        )
        for i in np.flatnonzero(same)
    ]

"""Which photos a bundle has seen: those that trained it, validated it or decided its thresholds.

A photo is recorded by its content hash, by a fingerprint that recognizes copies, and by its part. That takes 145 bytes
per photo, from which no photo can be rebuilt (`polytag.photos.copies.fingerprints`).
"""

import io

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import BundleError
from polytag.photos.content import content_hashes
from polytag.photos.copies.fingerprints import BYTES, fingerprints, recognized
from polytag.photos.decode import Paths
from polytag.photos.measure import Measurements, measure

SEEN_PARTS = ("train", "validation", "thresholds")
"""What photos were used for. Photos of "thresholds" decided thresholds after the training."""

PHOTO = np.dtype([("part", "u1"), ("content", "u1", 16), ("fingerprint", "u1", BYTES)])
"""Record of one photo: its position in `SEEN_PARTS`, the first half of its SHA-256, and its fingerprint.

The fingerprint is zero if the photo has hardly any details, or if it belongs to a group of look-alikes that was too
large to be kept together: it would recognize the scene, not the photo.
"""


def seen_photos(dataset: Dataset, part: str) -> NDArray[np.void]:
    """Record photos, array (n,) of dtype `PHOTO`.

    Args:
        dataset: n photos.
        part: what they were used for, one of `SEEN_PARTS`.

    Raises:
        OSError: a photo cannot be read.
    """
    records = np.zeros(len(dataset), PHOTO)
    records["part"] = SEEN_PARTS.index(part)
    records["content"] = _contents(dataset.paths)[0]
    records["fingerprint"] = fingerprints(measure(dataset.paths))
    if dataset.look_alikes is not None:
        records["fingerprint"][dataset.look_alikes >= 0] = 0
    return records


def to_bytes(records: NDArray[np.void]) -> bytes:
    """Serialize records, sorted, so that the file says nothing about the order of the photos."""
    file = io.BytesIO()
    np.save(file, np.sort(records, order=("part", "content")), allow_pickle=False)
    return file.getvalue()


def from_bytes(content: bytes) -> NDArray[np.void]:
    """Read what `to_bytes` wrote.

    Raises:
        BundleError: the content is something else.
    """
    try:
        records = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError):
        records = None
    if records is None or records.dtype != PHOTO:
        raise BundleError("The bundle's record of photos is damaged. Restore it or train again.")
    return records


def same_files(dataset: Dataset, records: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which photos of a dataset are the very files of these records, bool (n,). Missing files are not."""
    contents, readable = _contents(dataset.paths, missing=True)
    known = {record.tobytes() for record in records["content"]}
    return readable & np.array([content.tobytes() in known for content in contents], bool)


def same_pictures(measured: Measurements, records: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which photos are copies of photos of these records, by their fingerprints; bool (n,)."""
    return recognized(measured, records["fingerprint"])


def _contents(paths: Paths, missing: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """First 16 bytes of each photo's SHA-256, uint8 (n, 16), and which photos can be read."""
    found = np.zeros((len(paths), 16), np.uint8)
    readable = np.ones(len(paths), bool)
    for i, content in enumerate(content_hashes(paths)):
        if isinstance(content, OSError):
            if not missing:
                raise content
            readable[i] = False
        else:
            found[i] = np.frombuffer(bytes.fromhex(content[:32]), np.uint8)
    return found, readable

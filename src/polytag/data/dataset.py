"""The dataset of photos with their labels, which reading, splitting, training and evaluation share."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from polytag.errors import DataError, counted, listed
from polytag.photos.content import content_hash

ODD_PATH = re.compile(r"/[./]|\\|/$")
"""Pattern of paths that may need normalization."""

LABELS_NAMED = 20
"""Maximum number of labels named in one note."""

PARTS = ("train", "validation", "test")
"""Names of the parts of a split, in order."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Photos and their labels.

    Attributes:
        paths: str (n,), the paths of the photo files.
        targets: int8 (n, k), 1 if the label is present, 0 if it is absent, -1 if it is unknown.
        labels: the names of the k labels, in a fixed order.
        groups: int64 (n,), group numbers. Photos that show the same picture have the same number, and a split keeps
            them together.
        root: the folder that contains all photos. The `names` of the photos are relative to it.
        parts: str (n,), "train", "validation" or "test" if the table came with a split, else ``None``.
        columns: other columns of the table that the user named, by header, each str (n,). "" if a cell is empty.
        notes: messages about what was recognized, decided and left out during reading.
        left_out: photos that are listed but cannot be used, each with the reason.
        labels_left_out: labels that cannot be learned, each with the reason.
        repeats: photos that are listed more than once, each with its line numbers.
        disputed: photos whose rows contradict each other, or whose label names contradict the 0/1 columns, each with
            the labels in question.
        look_alikes: int64 (n,), numbers of the sets of similar photos that were too large to stay together, and -1 for
            all other photos; ``None`` if each set of look-alikes is in one group.
    """

    paths: NDArray[np.str_]
    targets: NDArray[np.int8]
    labels: tuple[str, ...]
    groups: NDArray[np.int64]
    root: Path
    parts: NDArray[np.str_] | None = None
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    labels_left_out: Mapping[str, str] = field(default_factory=dict)
    repeats: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    disputed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    look_alikes: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n = len(self.paths)
        lengths = [len(column) for column in (self.groups, self.parts, self.look_alikes) if column is not None]
        if self.targets.shape != (n, len(self.labels)) or any(length != n for length in lengths):
            raise DataError(
                f"a dataset of {n} paths needs targets ({n}, {len(self.labels)}) and {n} groups (and parts), "
                f"but got {self.targets.shape} and {' and '.join(map(str, lengths))}"
            )
        for array in (self.paths, self.targets, self.groups, self.parts, self.look_alikes):
            if array is not None:
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.paths)

    def __str__(self) -> str:
        unknown = int((self.targets < 0).sum())
        return f"{counted(len(self), 'image')}, {counted(len(self.labels), 'label')}" + (
            f", {counted(unknown, 'unknown entry')}" if unknown else ""
        )

    @cached_property
    def names(self) -> list[str]:
        """Paths of the photos relative to `root`, with forward slashes."""
        folder = os.path.join(os.path.abspath(self.root), "")
        # Removing the prefix is a hundred times faster than relpath, which matters for a million photos.
        return [
            path[len(folder) :]
            if path.startswith(folder) and not ODD_PATH.search(path, len(folder) - 1)
            else Path(os.path.relpath(path, self.root)).as_posix()
            for path in self.paths.tolist()
        ]

    @property
    def title(self) -> str:
        """Name of the data: the name of the root folder, or of its parent if the root is called "images"."""
        return (self.root.parent if self.root.name == "images" else self.root).name

    def take(self, rows: ArrayLike) -> "Dataset":
        """Return a new dataset of the photos at these rows (int), or of those where this mask is true (bool)."""
        rows = np.asarray(rows)
        if not rows.size:
            rows = rows.astype(np.int64)  # NumPy converts an empty list to floats.
        return replace(
            self,
            paths=self.paths[rows],
            targets=self.targets[rows],
            groups=self.groups[rows],
            parts=None if self.parts is None else self.parts[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
            look_alikes=None if self.look_alikes is None else self.look_alikes[rows],
        )

    def without(self, reasons: Mapping[str, str]) -> "Dataset":
        """Return the dataset without the photos at these paths, which are added to `left_out` with the reasons."""
        keep = np.array([path not in reasons for path in self.paths], dtype=bool)
        if keep.all():
            return self
        names = self.names
        gone = {names[i]: reasons[self.paths[i]] for i in np.flatnonzero(~keep)}
        examples = listed([f"{name} ({reason})" for name, reason in gone.items()])
        note = f"{counted(len(gone), 'image')} left out because unreadable: {examples}"
        if not keep.any():
            raise DataError(f"none of the {len(self):,} images can be read: {examples}")
        return replace(self.take(keep), notes=(*self.notes, note), left_out={**self.left_out, **gone})

    def without_labels(self, reasons: Mapping[str, str]) -> "Dataset":
        """Return the dataset without these labels, which `labels_left_out` and a note list with the reasons."""
        keep = [j for j, label in enumerate(self.labels) if label not in reasons]
        if len(keep) == len(self.labels):
            return self
        gone = {label: reasons[label] for label in self.labels if label in reasons}
        return replace(
            self,
            targets=np.take(self.targets, keep, axis=1),
            labels=tuple(self.labels[j] for j in keep),
            notes=(*self.notes, describe_left_out(gone)),
            labels_left_out={**self.labels_left_out, **gone},
        )

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change if the content of a photo, a label or the order of labels changes."""
        digest = hashlib.sha256("\0".join(self.labels).encode())
        for path, row in zip(self.paths, self.targets, strict=True):
            digest.update(content_hash(path).encode())
            digest.update(row.tobytes())
        return digest.hexdigest()[:16]


def describe_left_out(reasons: Mapping[str, str]) -> str:
    """Describe in one line which labels are left out and why."""
    named = listed([f"{label} ({reason})" for label, reason in reasons.items()], LABELS_NAMED)
    return f"{counted(len(reasons), 'label')} left out of training: {named}"

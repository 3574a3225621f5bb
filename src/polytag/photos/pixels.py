"""Decode the pixels of photos once and store them in the cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polytag.errors import DataError, ImageError
from polytag.photos.array_cache import ArrayCache
from polytag.photos.content import content_hashes
from polytag.photos.decode import PIXEL_PATH, Paths, decode, each


@dataclass(frozen=True)
class View:
    """The cached arrays of n photos, in order. Nothing is loaded into memory until it is indexed.

    Attributes:
        cache: the cache that holds the arrays.
        rows: row number of each photo in the cache, int64 (n,), -1 if the photo has no array.
        absent: value in the arrays of photos that have none.
        field: field of the cached records to read. By default, the whole array.
    """

    cache: ArrayCache
    rows: NDArray[np.int64]
    absent: float = 0
    field: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: NDArray[np.int64] | slice) -> NDArray:
        """Copy the arrays of the photos at these positions: (len(which), *shape). ``[:]`` copies all of them."""
        return self.cache.read(self.rows[which], self.absent, self.field)


def pixel_cache(size: int) -> ArrayCache:
    """Return the cache of photos decoded at the given size, uint8 (size, size, 3)."""
    return ArrayCache(f"pixels-{PIXEL_PATH}-{size}", (size, size, 3), "uint8")


def pixels(
    paths: Paths, size: int, on_progress: Callable[[int], object] = lambda n: None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], dict[str, str]]:
    """Decode every photo once at ``size``, or read it from the cache.

    Args:
        paths: paths of the photo files.
        size: side of the square, in pixels.
        on_progress: called with the number of photos that became ready since the last call.

    Returns:
        A tuple of three items: the cache's memory-mapped pixels, uint8 (rows, size, size, 3); the row of each path,
        int64 (n,), -1 if the photo cannot be read; and the reason for each path that cannot be read.

    Raises:
        MachineError: the computer failed, not a photo.
    """
    cache = pixel_cache(size)
    rows, bad = fill([cache], paths, lambda path: (decode(path, size),), on_progress)
    return cache.open(), rows, {path: str(error) for path, error in bad.items()}


def photo_view(paths: Paths, size: int, on_progress: Callable[[int], object] = lambda n: None) -> View:
    """Return the pixels of photos that are all readable, uint8 (n, size, size, 3).

    Most of them are already cached. Photos that were removed from the cache to make room are decoded again. The cache
    keeps the pixels as long as the view exists.

    Args:
        paths, size, on_progress: as in `pixels`.

    Raises:
        DataError: a photo cannot be read.
    """
    cache = pixel_cache(size)
    rows, bad = fill([cache], paths, lambda path: (decode(path, size),), on_progress)
    if bad:
        path, error = next(iter(bad.items()))
        raise DataError(f"{path} cannot be read: {error}")
    return View(cache, rows)


class Stored:
    """Pixels of photos that are read from the cache if training has stored them there, and else decoded each time.

    Args:
        keys: content hash of each photo.
        paths: paths of the photo files.
        size: side of the square, in pixels.
    """

    def __init__(self, keys: Sequence[str], paths: Sequence[str], size: int):
        self.paths, self.size = paths, size
        self.cache = pixel_cache(size)
        self.rows = self.cache.rows(keys)

    def __getitem__(self, which: slice) -> NDArray[np.uint8]:
        """Return the pixels of the given photos, uint8 (n, size, size, 3).

        Raises:
            ImageError: a photo cannot be decoded.
        """
        rows, paths = self.rows[which], self.paths[which]
        photos = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        stored = rows >= 0
        if stored.any():
            photos[stored] = self.cache.read(rows[stored])
        for i in np.flatnonzero(~stored).tolist():
            photos[i] = decode(paths[i], self.size)
        return photos


def fill(
    caches: Sequence[ArrayCache],
    paths: Paths,
    make: Callable[[str], tuple[NDArray, ...]],
    on_progress: Callable[[int], object] = lambda n: None,
) -> tuple[NDArray[np.int64], dict[str, ImageError]]:
    """Compute the arrays that the last cache is missing, on several threads.

    Args:
        caches: caches that each store one of the arrays that ``make`` returns.
        paths: paths of the photo files.
        make: function that turns one file into arrays. It may raise `ImageError`.
        on_progress: called with the number of photos that became ready since the last call.

    Returns:
        The row of each path in the last cache, int64 (n,), -1 if ``make`` failed; and the error for each failed path.

    Raises:
        MachineError: the computer failed, not a photo.
    """
    bad: dict[str, ImageError] = {}
    keys: list[str] = []
    for path, content in zip(paths, content_hashes(paths), strict=True):
        if isinstance(content, OSError):
            bad[path] = ImageError(content.strerror or str(content), "missing")
        keys.append("" if isinstance(content, OSError) else content)
    rows = caches[-1].rows(keys)
    waiting = {key: path for key, path, row in zip(keys, paths, rows, strict=True) if key and row < 0}
    on_progress(len(paths) - len(waiting))

    made: list[tuple[str, tuple[NDArray, ...]]] = []

    def flush() -> None:
        if made:
            names = [key for key, _ in made]
            for i, cache in enumerate(caches):
                cache.add(names, [arrays[i] for _, arrays in made])
            made.clear()

    failed: dict[str, ImageError] = {}
    for key, arrays in zip(waiting, each(make, waiting.values()), strict=True):
        if isinstance(arrays, ImageError):
            failed[key] = arrays
        else:
            made.append((key, arrays))
        if len(made) == 128:
            flush()
        on_progress(1)
    flush()
    bad.update({path: failed[key] for path, key in zip(paths, keys, strict=True) if key in failed})
    return caches[-1].rows(keys), bad

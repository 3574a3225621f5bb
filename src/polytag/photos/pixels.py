"""Pixels of photos, decoded once and kept in the cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polytag.errors import DataError, ImageError
from polytag.photos.array_cache import ArrayCache
from polytag.photos.content import content_hash
from polytag.photos.decode import PIXEL_PATH, Paths, decode, each


@dataclass(frozen=True)
class View:
    """What a cache holds of some photos, in their order; nothing of it is in memory until it is read.

    Attributes:
        cache: where it lies.
        rows: of each photo, int64 (n,).
    """

    cache: ArrayCache
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, which: NDArray[np.int64] | slice = slice(None)) -> NDArray:
        """A copy of the arrays of these photos (all, if none are named): (n, *shape)."""
        return self.cache.read(self.rows[which])


def pixel_cache(size: int) -> ArrayCache:
    """Where photos decoded at this size are kept, uint8 (size, size, 3)."""
    return ArrayCache(f"pixels-{PIXEL_PATH}-{size}", (size, size, 3), "uint8")


def pixels(
    paths: Paths, size: int, on_progress: Callable[[int], object] = lambda n: None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], dict[str, str]]:
    """Every photo decoded once, at ``size``.

    Args:
        paths: the photos' files.
        size: side of the square, in pixels.
        on_progress: called with the number of photos that became ready.

    Returns:
        The cache's memory-mapped pixels uint8 (rows, size, size, 3); the row of each path int64 (n,),
        -1 where it cannot be read; and the reason for each such path.
    """
    cache = pixel_cache(size)
    rows, bad = fill([cache], paths, lambda path: (decode(path, size),), on_progress)
    return cache.open(), rows, {path: str(error) for path, error in bad.items()}


def photo_view(paths: Paths, size: int, on_progress: Callable[[int], object] = lambda n: None) -> View:
    """The pixels of photos that can all be read, uint8 (n, size, size, 3), which stay as long as the view is held.

    They are mostly there already; what had to make room for something else since is decoded anew.

    Args:
        paths, size, on_progress: as in `pixels`.

    Raises:
        DataError: one of the photos cannot be read.
    """
    cache = pixel_cache(size)
    rows, bad = fill([cache], paths, lambda path: (decode(path, size),), on_progress)
    if bad:
        path, error = next(iter(bad.items()))
        raise DataError(f"{path} cannot be read: {error}")
    return View(cache, rows)


def fill(
    caches: Sequence[ArrayCache],
    paths: Paths,
    make: Callable[[str], tuple[NDArray, ...]],
    on_progress: Callable[[int], object] = lambda n: None,
) -> tuple[NDArray[np.int64], dict[str, ImageError]]:
    """Make what the last of the caches lacks, on several threads.

    Args:
        caches: each takes its own of the arrays that ``make`` returns.
        paths: the photos' files.
        make: turns one file into arrays; may raise `ImageError`.
        on_progress: called with the number of photos that became ready.

    Returns:
        The last cache's row of each path, int64 (n,), -1 where ``make`` failed; and the error for each such path.
    """
    bad: dict[str, ImageError] = {}
    keys: list[str] = []
    for path in paths:
        try:
            keys.append(content_hash(path))
        except OSError as error:
            bad[path] = ImageError(error.strerror or str(error), "missing")
            keys.append("")
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

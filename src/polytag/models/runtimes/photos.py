"""Decode photos and run a network on them, on several threads, with only a few photos in memory at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.errors import ImageError
from polytag.photos.decode import decode, each

Photo = bytes | str | os.PathLike[str]
"""Content or path of a photo file."""

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A function from photos, uint8 (batch, size, size, 3), to one vector per photo, float32 (batch, d)."""


def run_on_photos(network: Network, photos: Sequence[Photo], size: int) -> list[NDArray[np.float32] | ImageError]:
    """Run a network on photos as one batch, on the calling thread.

    Args:
        network: network to run.
        photos: paths or contents of the photos.
        size: width and height to which photos are resized, in pixels.

    Returns:
        For each photo, its vector, float32 (d,), or the `ImageError` that explains why the photo cannot be read.
    """
    found: list[Any] = []
    for photo in photos:
        try:
            found.append(decode(photo, size))
        except ImageError as error:
            found.append(error)
    rows = [row for row, pixels in enumerate(found) if not isinstance(pixels, ImageError)]
    if rows:
        for row, vector in zip(rows, network(np.stack([found[row] for row in rows])), strict=True):
            found[row] = vector
    return found


def stream_photos(
    run: Callable[[Sequence[Photo]], list[NDArray[np.float32] | ImageError]],
    photos: Iterable[Photo],
    batch_size: int,
    threads: int,
) -> Iterator[NDArray[np.float32] | ImageError]:
    """Yield the result of each photo, in order.

    Args:
        run: function from a batch of photos to their results, such as `run_on_photos` for a network.
        photos: any number of photos.
        batch_size: number of photos per call.
        threads: number of threads that call ``run``.
    """
    remaining = iter(photos)
    batches = iter(lambda: list(islice(remaining, batch_size)), [])
    for found in each(run, batches, threads):
        assert not isinstance(found, ImageError)  # errors are in the list, one per photo
        yield from found


def named_stream(
    stream: Callable[[Iterable[Photo]], Iterator[NDArray[np.float32] | ImageError]],
    photos: Iterable[tuple[str, Photo | ImageError]],
) -> Iterator[tuple[str, NDArray[np.float32] | ImageError]]:
    """Yield the name and the result of each photo, in order. Photos that are errors keep their places.

    Args:
        stream: function that yields a result per photo, such as `Bundle.stream`.
        photos: name and photo.
    """
    waiting: deque[tuple[str, ImageError | None]] = deque()

    def readable() -> Iterator[Photo]:
        for name, photo in photos:
            if isinstance(photo, ImageError):
                waiting.append((name, photo))
            else:
                waiting.append((name, None))
                yield photo

    def errors() -> Iterator[tuple[str, ImageError]]:
        while waiting and (error := waiting[0][1]) is not None:
            yield waiting.popleft()[0], error

    for found in stream(readable()):
        yield from errors()
        yield waiting.popleft()[0], found
    yield from errors()

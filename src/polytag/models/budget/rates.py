"""Measure how fast this machine reads and embeds photos."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from polytag.models.backbones.embed import CHUNK, embed
from polytag.models.backbones.weights import Weights, find_weights
from polytag.models.recipe import fine_tuning_size
from polytag.photos.decode import Paths
from polytag.photos.pixels import pixels

Candidate = tuple[str, int]
"""A backbone and the width and height of its photos, in pixels."""


@dataclass(frozen=True)
class Rates:
    """Speed of this machine, in seconds per photo.

    Attributes:
        reading: time to decode a photo, for each image size. Photos in the cache take almost no time.
        embedding: time to embed a photo that has been read, for each backbone and image size.
        fine_tuning: time to fine-tune with a photo, for the backbones and image sizes for which it was measured.
            Fine-tuning may use smaller photos than tagging (`polytag.models.recipe.fine_tuning_size`).
    """

    reading: Mapping[int, float]
    embedding: Mapping[Candidate, float]
    fine_tuning: Mapping[Candidate, float] = field(default_factory=dict)


def measure(paths: Paths, candidates: Iterable[Candidate], known: Mapping[str, Weights]) -> Rates:
    """Read and embed a few photos, as training does. The results stay in the cache.

    Each backbone embeds at the first of its sizes only. At the others, time is proportional to the number of pixels.

    Args:
        paths: photos, in random order. Those in the cache are as fast as they will be in training.
        candidates: backbones and image sizes.
        known: weights of backbones and encoders, by name. Others are found.
    """
    reading: dict[int, float] = {}
    embedding: dict[Candidate, float] = {}
    sample = list(paths[: 2 * CHUNK * min(4, os.cpu_count() or 1)])
    first: dict[str, int] = {}
    for backbone, size in candidates:
        start = time.perf_counter()
        unreadable = pixels(sample, size)[2]
        reading.setdefault(size, (time.perf_counter() - start) / len(sample))
        if backbone in first:
            embedding[backbone, size] = embedding[backbone, first[backbone]] * (size / first[backbone]) ** 2
            continue
        first[backbone] = size
        usable = [path for path in sample if path not in unreadable]
        found = known.get(backbone) or find_weights(None, backbone)
        # The first half loads the network and claims memory, which takes half as long again.
        first_half, second_half = usable[: len(usable) // 2], usable[len(usable) // 2 :]
        embed(first_half, size, found)
        start = time.perf_counter()
        embed(second_half, size, found)
        embedding[backbone, size] = (time.perf_counter() - start) / max(1, len(second_half))
    return Rates(reading, embedding)


def with_fine_tuning(rates: Rates, weights: Weights, photos: int) -> Rates:
    """Measure the time of fine-tuning one of the backbones, that of these weights. This takes about ten seconds.

    It is timed at the smallest of its sizes. At the others, time is proportional to the number of pixels.
    """
    # Imported here because only fine-tuning needs Keras.
    from polytag.models.training.step_rate import seconds_per_photo

    sizes = {size: fine_tuning_size(size) for name, size in rates.embedding if name == weights.backbone}
    smallest = min(sizes.values())
    seconds = seconds_per_photo(weights, smallest, photos)
    times = {(weights.backbone, size): seconds * (smaller / smallest) ** 2 for size, smaller in sizes.items()}
    return replace(rates, fine_tuning={**rates.fine_tuning, **times})

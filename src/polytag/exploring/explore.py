"""Explore: the pictures of the data on one page, each with a reading in words."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import DataError, ImageError, counted, listed
from polytag.exploring import charts
from polytag.exploring.charts import do, times
from polytag.exploring.counts import Counts
from polytag.exploring.figures import percent
from polytag.files import write_atomically
from polytag.pages.page import environment, new_page
from polytag.pages.text import joined
from polytag.pages.thumbnails import thumbnails
from polytag.photos.measure import Measurements, measure

SEED = 0
"""Of the choice of samples and of the maps: the same data give the same page."""

SAMPLES, SAMPLED_LABELS, PICTURES = 6, 120, 240
"""Photos of a label, labels that have samples, and photos of all labels together, at most."""

SAMPLED_COMBINATIONS, SAMPLES_OF_COMBINATION = 12, 3

LONGEST = 160
"""Longest side of a sample, in pixels."""

FEW_PHOTOS = 20
"""Photos below which a label is called rare."""

NAMED = 10
"""Most labels or photos that one sentence names."""


def explore(
    dataset: Dataset,
    out: str | os.PathLike[str],
    embeddings: NDArray[np.float32] | None = None,
    *,
    overwrite: bool = False,
    on_progress: Callable[[int], object] = lambda n: None,
) -> Path:
    """Write one page that shows a dataset: samples, labels, combinations, sizes, colours and a map.

    Photos that cannot be read are counted, said and left out of the pictures.

    Args:
        dataset: at least one photo and one label.
        out: folder of the page; made where it is missing.
        embeddings: float32 (n, d), a row for each photo, NaN where one cannot be read; without them there is no map.
        overwrite: replace the page that is there.
        on_progress: called with the number of photos that became ready.

    Returns:
        The page, ``out/index.html``, which refers to nothing outside itself.

    Raises:
        DataError: there is no photo or no label, or the embeddings are not as many as the photos.
        SettingsError: there is a page already, or ``out`` cannot be written.
    """
    if not dataset.targets.size:
        raise DataError(f"nothing to explore: expected photos with labels, but got {dataset}")
    if embeddings is not None and len(embeddings) != len(dataset):
        raise DataError(f"expected an embedding for each of {counted(len(dataset), 'photo')}, got {len(embeddings):,}")
    page = new_page(out, "--out", overwrite)
    measured = measure(dataset.paths, on_progress)
    words = _page(dataset, measured, embeddings)
    text = environment(Path(__file__).parent, autoescape=True).get_template("explore.html").render(words)
    with write_atomically(page) as file:
        file.write(text)
    return page


def _page(dataset: Dataset, measured: Measurements, embeddings: NDArray[np.float32] | None) -> dict[str, Any]:
    """What the template is given."""
    c = Counts(dataset)
    readable = measured.readable
    told, maps = ("", []) if embeddings is None else charts.embedding_maps(c, embeddings, SEED)
    return {
        "question": f"What is in {dataset.title}?",
        "answer": _answer(c),
        "facts": _facts(c),
        "remarkable": _remarkable(dataset, c, measured),
        "notes": dataset.notes,
        "samples": _samples(dataset, c, measured),
        "frequency": charts.frequency(c),
        "label_rows": [(c.labels[j], int(c.photos[j]), percent(c.photos[j], c.n), int(c.unknown[j])) for j in c.order],
        "per_photo": charts.labels_per_photo(c),
        "combinations": charts.combinations(c),
        "together": charts.together(c),
        "shapes": charts.of_shapes(measured) if readable.any() else [],
        "light": charts.of_light(measured) if readable.any() else [],
        "map_told": told,
        "maps": maps,
        "unreadable": int((~readable).sum()),
    }


def _answer(c: Counts) -> str:
    """The dataset in a sentence."""
    each = f"{c.per_photo.mean():.2f} of them on a photo on average"
    told = f"{counted(c.n, 'photo')} with {counted(len(c.labels), 'label')}{f', {each}' if len(c.labels) > 1 else ''}."
    shown = [j for j in c.order if c.photos[j]]
    if not shown:
        return f"{told} No photo is known to show any."
    first, last = shown[0], shown[-1]
    if c.photos[first] == c.photos[last]:
        return f"{told} Each that occurs is on {percent(c.photos[first], c.n)} of the photos."
    return (
        f"{told} The commonest is {c.labels[first]} ({percent(c.photos[first], c.n)} of the photos), "
        f"the rarest {c.labels[last]} ({percent(c.photos[last], c.n)})."
    )


def _facts(c: Counts) -> dict[str, str]:
    return {
        "Photos": f"{c.n:,}",
        "Labels": f"{len(c.labels):,}",
        "Combinations": f"{len(c.combinations):,}",
        "Cardinality": f"{c.per_photo.mean():.2f} labels a photo",
        "Density": f"{percent(int(c.photos.sum()), c.n * len(c.labels))} of all entries",
    }


def _remarkable(dataset: Dataset, c: Counts, measured: Measurements) -> list[str]:
    """What stands out, as far as the numbers tell."""
    shown = [int(j) for j in c.order if c.photos[j]]
    first, last = (shown[0], shown[-1]) if shown else (0, 0)
    never = [c.labels[j] for j in c.order if not c.photos[j]]
    rare = [f"{c.labels[j]} ({c.photos[j]})" for j in shown if c.photos[j] < FEW_PHOTOS]
    ratio = c.photos[first] / c.photos[last] if shown else 1
    one, none, unknown = int((c.per_photo == 1).sum()), int((c.per_photo == 0).sum()), int(c.unknown.sum())
    copies = c.n - len(np.unique(dataset.groups))
    bad = [
        f"{dataset.names[i]} ({measured.errors[dataset.paths[i]]})" for i in np.flatnonzero(~measured.readable)[:NAMED]
    ]
    unreadable = int((~measured.readable).sum())
    left_out = [f"{name} ({reason})" for name, reason in dataset.left_out.items()]
    remarks = [
        (
            ratio >= 10,
            f"Labels are unequally common: {c.labels[first]} is on {times(ratio)} times as many photos as "
            f"{c.labels[last]}. Judge each label by its own score.",
        ),
        (never, f"No photo shows {listed(never, NAMED)}: nothing can be learned about that."),
        (rare, f"On fewer than {FEW_PHOTOS} photos: {listed(rare, NAMED)}. Scores of such labels are rough."),
        (
            one >= 0.8 * c.n and len(c.labels) > 1,
            f"{do(one, 'has', 'have')} exactly one label ({percent(one, c.n)}): there is little to learn about "
            "which labels go together.",
        ),
        (none, f"{do(none, 'has', 'have')} no label ({percent(none, c.n)})."),
        (
            unknown,
            f"{unknown:,} of {c.n * len(c.labels):,} entries ({percent(unknown, c.n * len(c.labels))}) are unknown: "
            "such labels count neither as there nor as absent.",
        ),
        (copies, f"{do(copies, 'is a copy of another', 'are copies of others')}; a split keeps them together."),
        (unreadable, f"{counted(unreadable, 'photo')} cannot be read: {_and_more(bad, unreadable)}."),
        (left_out, f"{counted(len(left_out), 'listed photo')} could not be used: {listed(left_out, NAMED)}."),
    ]
    return [text for applies, text in remarks if applies]


def _and_more(named: Sequence[str], n: int) -> str:
    return ", ".join(named) + (f" and {n - len(named):,} more" if n > len(named) else "")


def _samples(dataset: Dataset, c: Counts, measured: Measurements) -> dict[str, list[dict[str, Any]]]:
    """Photos of each label and of the commonest combinations, drawn at random from those that can be read."""
    labels = c.order[:SAMPLED_LABELS]
    each = max(2, min(SAMPLES, PICTURES // len(labels)))
    chosen: dict[str, list[tuple[str, int, list[int]]]] = {
        "labels": [
            (c.labels[j], int(c.photos[j]), _some(np.flatnonzero(c.present[:, j]), measured, each, int(j)))
            for j in labels
            if c.photos[j]
        ],
        "combinations": [
            (c.name(found), found.photos, _some(found.rows, measured, SAMPLES_OF_COMBINATION, *found.labels))
            for found in c.combinations[:SAMPLED_COMBINATIONS]
        ],
    }
    rows = sorted({row for strips in chosen.values() for _, _, some in strips for row in some})
    record = measured.records[rows]
    sizes = list(zip(record["width"].tolist(), record["height"].tolist(), strict=True))
    pictures = dict(zip(rows, thumbnails(dataset.paths[rows], sizes, LONGEST), strict=True))
    names = dict(zip(rows, dataset.take(rows).names, strict=True))

    def shown(row: int) -> dict[str, Any]:
        labels = joined([c.labels[j] for j in np.flatnonzero(c.present[row])]) or "no label"
        return {"name": names[row], "labels": labels, "picture": pictures[row]}

    return {
        kind: [
            # A photo that was damaged since it was measured is left out.
            {"title": title, "photos": n, "shown": [shown(i) for i in some if not isinstance(pictures[i], ImageError)]}
            for title, n, some in strips
        ]
        for kind, strips in chosen.items()
    }


def _some(rows: NDArray[np.int64], measured: Measurements, most: int, *key: int) -> list[int]:
    """Some of these photos that can be read; the key makes one label's choice independent of another's."""
    rows = rows[measured.readable[rows]]
    chosen = np.random.default_rng([SEED, *key]).choice(rows, min(most, len(rows)), replace=False)
    return np.sort(chosen).tolist()

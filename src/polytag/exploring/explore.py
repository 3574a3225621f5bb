"""Write the explore page, which shows a dataset in charts and photos and explains each of them in words."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import DataError, ImageError, counted, listed
from polytag.exploring import charts
from polytag.exploring.counts import Counts
from polytag.exploring.maps import embedding_maps
from polytag.files import write_atomically
from polytag.pages.figures import Chart
from polytag.pages.page import environment, new_page
from polytag.pages.text import agreed, percent, ratio
from polytag.pages.thumbnails import thumbnails
from polytag.photos.measure import Measurements, measure

SEED = 0
"""Random seed for samples and maps, so that the same data always give the same page."""

SAMPLES, SAMPLED_LABELS, PICTURES = 6, 120, 240
"""Maximum number of photos per label, of labels with photos, and of photos for all labels together."""

SAMPLED_COMBINATIONS, SAMPLES_OF_COMBINATION = 12, 3
"""Number of combinations that are shown with photos, and maximum number of photos for each."""

LONGEST = 160
"""Length of a sample photo's longer side, in pixels."""

FEW_PHOTOS = 20
"""A label is called rare if fewer photos have it."""

NAMED = 10
"""Maximum number of labels or photos named in a sentence."""

TABLE_ROWS, NOTES = 1000, 50
"""Maximum number of labels in the table of counts, and of notes, so that the page stays small for any dataset."""


Embeddings = NDArray[np.float32] | Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Embeddings of all photos, or a function that embeds the photos at the given positions."""


def explore(
    dataset: Dataset,
    out: str | os.PathLike[str],
    embeddings: Embeddings | None = None,
    *,
    overwrite: bool = False,
    on_progress: Callable[[int], object] = lambda n: None,
) -> Path:
    """Write a page about a dataset: samples, label counts, combinations, sizes, colours and a map.

    Unreadable photos are counted and reported, but not shown.

    Args:
        dataset: a dataset with at least one photo and one label.
        out: folder of the page, which is created if needed.
        embeddings: float32 (n, d), NaN in the rows of unreadable photos; or a function that returns the embeddings of
            the readable photos at the given positions, so that only photos on the map need to be embedded. Without
            embeddings, there is no map.
        overwrite: replace an existing page.
        on_progress: called with the number of photos measured since the last call.

    Returns:
        Path of the page, ``out/index.html``. The page is self-contained.

    Raises:
        DataError: there are no photos or no labels, or the number of embeddings is wrong.
        SettingsError: a page already exists, or ``out`` cannot be written to.
    """
    if not dataset.targets.size:
        raise DataError(f"nothing to explore: expected photos with labels, but got {dataset}")
    if isinstance(embeddings, np.ndarray) and len(embeddings) != len(dataset):
        raise DataError(f"expected an embedding for each of {counted(len(dataset), 'photo')}, got {len(embeddings):,}")
    page = new_page(out, "--out", overwrite)
    measured = measure(dataset.paths, on_progress)
    words = _page(dataset, measured, embeddings)
    text = environment(Path(__file__).parent, autoescape=True).get_template("explore.html").render(words)
    with write_atomically(page) as file:
        file.write(text)
    return page


def _page(dataset: Dataset, measured: Measurements, embeddings: Embeddings | None) -> dict[str, Any]:
    """Collect the values for the page template."""
    c = Counts(dataset)
    readable = measured.readable
    about_maps, maps = "", list[Chart]()
    if isinstance(embeddings, np.ndarray):
        usable = np.flatnonzero(np.isfinite(embeddings[:, 0]))
        about_maps, maps = embedding_maps(c, usable, embeddings.__getitem__, SEED)
    elif embeddings is not None:
        about_maps, maps = embedding_maps(c, np.flatnonzero(readable), embeddings, SEED)
    notes = list(dataset.notes)
    return {
        "question": f"What is in {dataset.title}?",
        "answer": _answer(c),
        "facts": _facts(c),
        "remarks": _remarks(dataset, c, measured),
        "notes": notes if len(notes) <= NOTES else [*notes[:NOTES], f"and {len(notes) - NOTES:,} more"],
        "samples": _samples(dataset, c, measured),
        "frequency": charts.frequency(c),
        "label_rows": _label_rows(c),
        "labels_in_all": len(c.labels),
        "per_photo": charts.labels_per_photo(c),
        "combinations": charts.combinations(c),
        "together": charts.together(c),
        "shapes": charts.of_shapes(measured) if readable.any() else [],
        "light": charts.of_light(measured) if readable.any() else [],
        "about_maps": about_maps,
        "maps": maps,
        "unreadable": int((~readable).sum()),
    }


def _answer(c: Counts) -> str:
    """Summarize the dataset in two sentences."""
    mean = f", {c.per_photo.mean():.2f} labels per photo on average" if len(c.labels) > 1 else ""
    size = f"{counted(c.n, 'photo')} with {counted(len(c.labels), 'label')}{mean}."
    shown = [j for j in c.order if c.photos[j]]
    if not shown:
        return f"{size} No label is known to be present on any photo."
    first, last = shown[0], shown[-1]
    if c.photos[first] == c.photos[last]:
        return f"{size} Each label that occurs is on {percent(c.photos[first], c.n)} of the photos."
    return (
        f"{size} The most frequent label is {c.labels[first]} ({percent(c.photos[first], c.n)} of the photos), "
        f"the least frequent is {c.labels[last]} ({percent(c.photos[last], c.n)})."
    )


def _facts(c: Counts) -> dict[str, str]:
    return {
        "Photos": f"{c.n:,}",
        "Labels": f"{len(c.labels):,}",
        "Combinations": f"{len(c.sets[2]):,}",
        "Cardinality": f"{c.per_photo.mean():.2f} labels per photo",
        "Density": f"{percent(int(c.photos.sum()), c.n * len(c.labels))} of all entries",
    }


def _label_rows(c: Counts) -> list[tuple[str, int, str, int]]:
    return [(c.labels[j], int(c.photos[j]), percent(c.photos[j], c.n), int(c.unknown[j])) for j in c.order[:TABLE_ROWS]]


def _remarks(dataset: Dataset, c: Counts, measured: Measurements) -> list[str]:
    """Return remarks about whatever stands out in the data."""
    return [*_label_remarks(c), *_photo_remarks(dataset, measured)]


def _label_remarks(c: Counts) -> list[str]:
    shown = [int(j) for j in c.order if c.photos[j]]
    never = [c.labels[j] for j in c.order if not c.photos[j]]
    rare = [f"{c.labels[j]} ({c.photos[j]})" for j in shown if c.photos[j] < FEW_PHOTOS]
    one, none, unknown = int((c.per_photo == 1).sum()), int((c.per_photo == 0).sum()), int(c.unknown.sum())
    entries = c.n * len(c.labels)
    remarks = []
    if shown and c.photos[shown[0]] >= 10 * c.photos[shown[-1]]:
        first, last = shown[0], shown[-1]
        remarks.append(
            f"The labels are imbalanced: there are {ratio(c.photos[first] / c.photos[last])} times as many photos with "
            f"{c.labels[first]} as with {c.labels[last]}. Look at each label's own score."
        )
    if never:
        remarks.append(f"No photo has {listed(never, NAMED)}. A model cannot learn {_it(never)}.")
    if rare:
        remarks.append(
            f"On fewer than {FEW_PHOTOS} photos: {listed(rare, NAMED)}. Scores of such labels are unreliable."
        )
    if one >= 0.8 * c.n and len(c.labels) > 1:
        remarks.append(
            f"{agreed(one, 'has', 'have')} exactly one label ({percent(one, c.n)}), so there is little to learn about "
            "which labels occur together."
        )
    if none:
        remarks.append(f"{agreed(none, 'has', 'have')} no label ({percent(none, c.n)}).")
    if unknown:
        remarks.append(
            f"{unknown:,} of {entries:,} entries ({percent(unknown, entries)}) are unknown. "
            "They count neither as present nor as absent."
        )
    return remarks


def _it(items: list[str]) -> str:
    return "it" if len(items) == 1 else "them"


def _photo_remarks(dataset: Dataset, measured: Measurements) -> list[str]:
    copies = len(dataset) - len(np.unique(dataset.groups))
    unreadable = np.flatnonzero(~measured.readable)
    left_out = [f"{name} ({reason})" for name, reason in dataset.left_out.items()]
    remarks = []
    if copies:
        remarks.append(
            f"{agreed(copies, 'belongs', 'belong')} to the same group as an earlier one. A split keeps groups together."
        )
    if len(unreadable):
        named = [f"{dataset.names[i]} ({measured.errors[dataset.paths[i]]})" for i in unreadable[:NAMED]]
        more = f" and {len(unreadable) - NAMED:,} more" if len(unreadable) > NAMED else ""
        remarks.append(f"{counted(len(unreadable), 'photo')} cannot be read: {', '.join(named)}{more}.")
    if left_out:
        remarks.append(f"{counted(len(left_out), 'listed photo')} could not be used: {listed(left_out, NAMED)}.")
    return remarks


def _samples(dataset: Dataset, c: Counts, measured: Measurements) -> dict[str, list[dict[str, Any]]]:
    """Return random readable photos for each label and for the most frequent combinations."""
    labels = c.order[:SAMPLED_LABELS]
    each = max(2, min(SAMPLES, PICTURES // len(labels)))
    chosen: dict[str, list[tuple[str, int, list[int]]]] = {
        "labels": [
            (c.labels[j], int(c.photos[j]), _drawn(np.flatnonzero(c.present[:, j]), measured, each, int(j)))
            for j in labels
            if c.photos[j]
        ],
        "combinations": [
            (c.name(found), found.photos, _drawn(found.rows, measured, SAMPLES_OF_COMBINATION, *found.labels))
            for found in c.combinations(SAMPLED_COMBINATIONS)
        ],
    }
    rows = sorted({row for strips in chosen.values() for _, _, some in strips for row in some})
    record = measured.records[rows]
    sizes = list(zip(record["width"].tolist(), record["height"].tolist(), strict=True))
    pictures = dict(zip(rows, thumbnails(dataset.paths[rows], sizes, LONGEST), strict=True))
    names = dict(zip(rows, dataset.take(rows).names, strict=True))

    def shown(row: int) -> dict[str, Any]:
        labels = [c.labels[j] for j in np.flatnonzero(c.present[row])]
        return {"name": names[row], "labels": listed(labels, NAMED) or "no label", "picture": pictures[row]}

    return {
        kind: [
            # Leave out photos that were damaged after they were measured.
            {"title": title, "photos": n, "shown": [shown(i) for i in some if not isinstance(pictures[i], ImageError)]}
            for title, n, some in strips
        ]
        for kind, strips in chosen.items()
    }


def _drawn(rows: NDArray[np.int64], measured: Measurements, most: int, *key: int) -> list[int]:
    """Choose readable photos at random. The key makes the choice for each label independent of other labels."""
    rows = rows[measured.readable[rows]]
    chosen = np.random.default_rng([SEED, *key]).choice(rows, min(most, len(rows)), replace=False)
    return np.sort(chosen).tolist()

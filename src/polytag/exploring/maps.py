"""Draw maps on which photos that look alike to a pretrained network are close together."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from polytag.errors import counted
from polytag.exploring import figures
from polytag.exploring.counts import Counts
from polytag.pages.figures import Chart
from polytag.pages.text import percent

MAPS, POINTS, LEAST_POINTS, NEIGHBOURS = 12, 2000, 30, 10
"""Maximum number of maps, maximum and minimum number of photos on a map, and number of nearest neighbours counted."""


def embedding_maps(
    c: Counts, usable: NDArray[np.int64], embed: Callable[[NDArray[np.int64]], NDArray[np.float32]], seed: int
) -> tuple[str, list[Chart]]:
    """Draw a map for each of the most frequent labels.

    Args:
        c: label counts of n photos.
        usable: positions of the photos that can be embedded.
        embed: function that returns the embeddings of the photos at the given positions, float32 (m, d). Only photos
            that the maps show are embedded.
        seed: random seed for the choice of photos and for the layout.

    Returns:
        A sentence about all maps, and the maps. The list is empty if there are too few photos or labels.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(usable)[:POINTS])
    labels = [int(j) for j in c.order[:MAPS] if c.present[rows, j].any()]
    if len(rows) < LEAST_POINTS:
        return f"A map needs at least {LEAST_POINTS} readable photos, but there are only {len(rows):,}.", []
    if not labels:
        return "There is no map because no readable photo has a label.", []
    chosen = np.asarray(embed(rows), np.float32)
    if not np.ptp(chosen, axis=0).any():
        return "There is no map because all photos look the same to the network.", []
    points, neighbours = _laid_out(chosen, seed)
    charts, rises = [], {}
    for j in labels:
        shown = c.present[rows, j]
        # Randomly chosen neighbours would have the label as often as all photos do.
        near, usual = float(shown[neighbours[shown]].mean()), float(shown.mean())
        rises[j] = near - usual
        reading = (
            f"{percent(near, 1)} of their {NEIGHBOURS} nearest photos have it, against {percent(usual, 1)} of all."
        )
        charts.append(Chart.of(f"map{j}", figures.embedding_map(points, shown), c.labels[j], reading))
    closest, loosest = max(rises, key=lambda j: rises[j]), min(rises, key=lambda j: rises[j])
    told = f"Photos with {c.labels[closest]} lie closest together"
    if rises[closest] > rises[loosest]:
        told += f", and photos with {c.labels[loosest]} farthest apart"
    drawn = f"{counted(len(rows), 'photo')}{' drawn at random' if len(rows) < len(usable) else ''}"
    which = f"the {len(labels)} most frequent labels" if len(labels) < len(c.labels) else counted(len(labels), "label")
    return f"{told}. The maps show {drawn} and {which}.", charts


def _laid_out(embeddings: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Lay out photos with t-SNE (van der Maaten & Hinton, JMLR 2008). Return places (n, 2) and neighbours (n, 10)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    n, d = embeddings.shape
    # A single thread adds numbers in the same order on every machine, so the maps are reproducible.
    with threadpool_limits(1):
        reduced = PCA(min(50, n, d), random_state=seed).fit_transform(embeddings)
        neighbours = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(reduced).kneighbors(return_distance=False)
        perplexity = min(30.0, (n - 1) / 3)
        layout = TSNE(perplexity=perplexity, init="pca", max_iter=500, random_state=seed)
        places = layout.fit_transform(reduced)
    return places - places.mean(axis=0), neighbours

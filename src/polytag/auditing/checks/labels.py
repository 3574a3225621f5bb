"""Report label problems that do not involve photos: spelling variants, rare or inseparable labels, imbalance."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polytag.auditing.checks.spelling import normalized, similar_pairs
from polytag.auditing.findings import COLUMNS
from polytag.data.dataset import Dataset
from polytag.data.label_counts import cooccurrence, label_sets
from polytag.data.reading.tables.guards import suspicious_labels
from polytag.errors import counted

ENOUGH = 20
"""A label is rare if fewer photos have it."""

FEWEST_TOGETHER = 3
"""Minimum number of photos that two labels must share to be called inseparable. Once or twice could be chance."""

Finding = tuple[str, str, float, str, str]
"""Issue, label, score, detail, and a second label or ""."""


def label_findings(dataset: Dataset) -> pd.DataFrame:
    """Flag suspicious labels. Each label is flagged at most once per issue."""
    present, known = (dataset.targets == 1).sum(axis=0), (dataset.targets >= 0).sum(axis=0)
    found = [*_misread(dataset), *_frequency(dataset.labels, present, known), *_pairs(dataset, present)]
    return pd.DataFrame(
        [("", label, issue, score, detail, other) for issue, label, score, detail, other in found],
        columns=list(COLUMNS[:-1]),
    )


def _misread(dataset: Dataset) -> Iterator[Finding]:
    """Report signs that a table was split in the wrong places. Reading refuses such tables if no separator is given."""
    why = suspicious_labels(dataset)
    if why is not None:
        yield "misread_labels", "", 0.0, why, ""


def _frequency(labels: tuple[str, ...], present: NDArray[np.int64], known: NDArray[np.int64]) -> Iterator[Finding]:
    for label, n, n_known in zip(labels, present.tolist(), known.tolist(), strict=True):
        if n == 0:
            yield "never_present", label, 0.0, f"on none of {counted(n_known, 'photo')}", ""
        elif n == n_known:
            yield "always_present", label, 0.0, f"on all {counted(n, 'photo')}", ""
        elif n < ENOUGH:
            yield "rare", label, n / ENOUGH, f"on {counted(n, 'photo')}", ""


def _pairs(dataset: Dataset, present: NDArray[np.int64]) -> Iterator[Finding]:
    """Compare each label with the more frequent labels, which it may be a variant of."""
    order = np.argsort(-present, kind="stable")
    labels = [dataset.labels[j] for j in order]
    names = [normalized(label) for label in labels]
    both, known = (counts[np.ix_(order, order)] for counts in cooccurrence(dataset.targets))

    def told(i: int, j: int) -> str:
        return (
            f"'{labels[i]}' and '{labels[j]}' (on {present[order[i]]:,} and {counted(int(present[order[j]]), 'photo')})"
        )

    first: dict[str, int] = {}
    for j, name in enumerate(names):
        i = first.setdefault(name, j)
        if i != j:
            yield "label_variant", labels[j], 0.0, told(i, j), labels[i]
    closest: dict[int, tuple[float, int]] = {}
    for i, j, likeness in similar_pairs(names):
        if not both[i, j] and likeness > closest.get(j, (0.0, 0))[0]:
            closest[j] = likeness, i
    for j, (likeness, i) in sorted(closest.items()):
        yield "similar_labels", labels[j], 1 - likeness, f"{told(i, j)} never occur together", labels[i]
    alone = known - both
    inseparable = np.triu((both >= FEWEST_TOGETHER) & (alone == 0) & (alone.T == 0), 1)
    for j in np.flatnonzero(inseparable.any(axis=0)).tolist():
        i = int(inseparable[:, j].argmax())
        photos = counted(int(both[i, j]), "photo")
        yield "always_together", labels[j], 0.0, f"'{labels[i]}' and '{labels[j]}' are on the same {photos}", labels[i]


def imbalance(targets: NDArray[np.int8]) -> dict[str, float | int]:
    """Measure the imbalance of a multi-label table.

    Args:
        targets: int8 (n, k): 1 present, 0 absent, -1 unknown.

    Returns:
        A dictionary with cardinality (labels per photo), density (cardinality / k), combinations (distinct label sets
        among photos without unknown labels), and mean_imbalance_ratio. The last is the count of the most frequent label
        divided by a label's own count, averaged over the labels that occur (MeanIR; Charte, Rivera, del Jesus &
        Herrera 2015).
    """
    present = targets == 1
    counts = present.sum(axis=0)
    complete = present[(targets >= 0).all(axis=1)]
    used = counts[counts > 0]
    cardinality = float(counts.sum() / max(1, len(targets)))
    return {
        "cardinality": cardinality,
        "density": cardinality / max(1, targets.shape[1]),
        "combinations": len(label_sets(complete)[1]),
        "mean_imbalance_ratio": float((counts.max() / used).mean()) if len(used) else 0.0,
    }

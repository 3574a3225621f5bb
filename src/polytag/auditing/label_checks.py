"""What the table of labels gives away without its photos: variants, rare labels, inseparable pairs, imbalance."""

import re
import unicodedata
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import counted

ENOUGH = 20
"""Photos with a label below which it is rare."""

ALIKE = 0.88
"""Least share of letters that two labels have in common, in order, to be spelt alike."""

Finding = tuple[str, str, float, str, str]
"""Issue, label, score, detail, and the other label where there is one."""


def label_findings(dataset: Dataset) -> Iterator[Finding]:
    """What is odd about labels, each finding once."""
    present, known = dataset.targets == 1, dataset.targets >= 0
    counts = present.sum(axis=0)
    for j, label in enumerate(dataset.labels):
        if counts[j] == 0:
            yield "never_present", label, 0.0, f"on none of {counted(int(known[:, j].sum()), 'photo')}", ""
        elif counts[j] == known[:, j].sum():
            yield "always_present", label, 0.0, f"on each of {counted(int(counts[j]), 'photo')}", ""
        elif counts[j] < ENOUGH:
            yield "rare", label, counts[j] / ENOUGH, f"on {counted(int(counts[j]), 'photo')}", ""
    met = present.T.astype(np.int64) @ present
    apart = present.T.astype(np.int64) @ (dataset.targets == 0)
    # The more frequent of two is what the other may be meant to be.
    by_frequency = np.argsort(-counts, kind="stable").tolist()
    plainly = [plain(label) for label in dataset.labels]
    variants: set[int] = set()
    for i, j in combinations(by_frequency, 2):
        a, b = dataset.labels[i], dataset.labels[j]
        times = f"on {int(counts[i]):,} and {counted(int(counts[j]), 'photo')}"
        if plainly[i] == plainly[j]:
            if j not in variants:
                variants.add(j)
                yield "label_variant", b, 0.0, f"'{a}' and '{b}' ({times})", a
        elif not met[i, j] and (likeness := alike(plainly[i], plainly[j])):
            yield "similar_labels", b, 1 - likeness, f"'{a}' and '{b}' ({times}) never meet", a
        if met[i, j] >= 3 and not apart[i, j] and not apart[j, i]:
            yield "always_together", b, 0.0, f"'{a}' and '{b}' are on the same {counted(int(met[i, j]), 'photo')}", a


def plain(label: str) -> str:
    """A label without what its writers vary: case, blanks, hyphens, dots, apostrophes, and how accents are encoded.

    What tells numbers and signs apart stays: "1.5 l" is not "15 l", and "C++" is not "C".
    """
    label = unicodedata.normalize("NFKC", label.casefold())
    return re.sub(r"(?<!\d)[\s_.'’‐-]+|[\s_.'’‐-]+(?!\d)", "", label) or label


def alike(a: str, b: str) -> float:
    """How alike two plain labels are spelt, 0 (not worth a word) to 1: a letter or an ending apart, no digits."""
    if min(len(a), len(b)) < 4 or re.sub(r"\D", "", a) != re.sub(r"\D", "", b):
        return 0.0
    ending = a.removesuffix("s").removesuffix("e") == b.removesuffix("s").removesuffix("e")
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    # The cheap bounds come first: there are many pairs of labels.
    if not ending and min(matcher.real_quick_ratio(), matcher.quick_ratio()) < ALIKE:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ending or ratio >= ALIKE else 0.0


def imbalance(targets: NDArray[np.int8]) -> dict[str, float | int]:
    """Figures of the field on a table of labels.

    Args:
        targets: int8 (n, k): 1, 0 or -1 (unknown).

    Returns:
        cardinality (labels per photo), density (the same over k), combinations (distinct label sets of photos
        without unknowns), and mean_imbalance_ratio: the mean over labels of the commonest label's count over
        their own (MeanIR; Charte, Rivera, del Jesus & Herrera 2015), labels that are never present left out.
    """
    present = targets == 1
    counts = present.sum(axis=0)
    complete = present[(targets >= 0).all(axis=1)]
    used = counts[counts > 0]
    cardinality = float(present.sum() / max(1, len(targets)))
    return {
        "cardinality": cardinality,
        "density": cardinality / max(1, targets.shape[1]),
        "combinations": len(np.unique(complete, axis=0)) if len(complete) else 0,
        "mean_imbalance_ratio": float((counts.max() / used).mean()) if len(used) else 0.0,
    }

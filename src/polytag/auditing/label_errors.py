"""Labels that are probably missing or wrong, judged by out-of-sample probabilities. Needs no Keras.

Bayes' rule weighs each entry: the probability of the label on this photo against a prior of one wrong entry in twenty.
Photos without any label are rare in most tables, so removing the last label of a photo needs more evidence.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polytag.auditing.findings import COLUMNS
from polytag.data.dataset import Dataset
from polytag.errors import DataError

NOISE = 0.05
"""Prior share of wrong entries. Northcutt et al. (2021) found 3.3 % in well-kept single-label test sets, and giving
several labels is harder."""

FEWEST = 5
"""A label is judged only with at least this many photos that have it and as many that do not. With fewer, every one of
them would look wrong."""

KINDS = ("missing", "wrong")
"""Absent but probably present, and present but probably absent, in the order of the targets 0 and 1."""

CHUNK = 65_536
"""Photos judged at once."""


def error_probabilities(probabilities: NDArray[np.floating], targets: NDArray[np.int8]) -> NDArray[np.float64]:
    """Estimate how probably each entry is wrong.

    Args:
        probabilities: (n, k), 0 to 1, how probable each label is regardless of its own entry.
        targets: int8 (n, k): 1 present, 0 absent, -1 unknown.

    Returns:
        float64 (n, k), 0 to 1. For unknown entries, the probability that the label is present.
    """
    wrong = np.empty(targets.shape)
    for rows, chunk in _in_chunks(probabilities, targets):
        wrong[rows] = chunk
    return wrong


def _in_chunks(
    probabilities: NDArray[np.floating], targets: NDArray[np.int8]
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Compute `error_probabilities` for some photos at a time."""
    chunks = [slice(start, start + CHUNK) for start in range(0, len(targets), CHUNK)]
    # The number of photos without any label, relative to the number expected if labels were independent.
    found = sum(int((targets[rows] == 0).all(axis=1).sum()) for rows in chunks)
    expected = sum(float((1 - _clipped(probabilities[rows])).prod(axis=1).sum()) for rows in chunks)
    bare = min(1.0, (found + 1) / (expected + 1))
    for rows in chunks:
        p = _clipped(probabilities[rows])
        given, absent = targets[rows] == 1, targets[rows] == 0
        if_present = p * np.select([given, absent], [1 - NOISE, NOISE], 1.0)
        if_absent = (1 - p) * np.select([given, absent], [NOISE, 1 - NOISE], 1.0)
        present = if_present / (if_present + if_absent)
        # The sums over all combinations of labels except the empty one reduce to a single division.
        present /= 1 - (1 - bare) * (1 - present).prod(axis=1, keepdims=True)
        yield rows, np.where(given, 1 - present, present)


def _clipped(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.clip(probabilities.astype(np.float64), 1e-6, 1 - 1e-6)


def label_errors(dataset: Dataset, probabilities: NDArray[np.floating], least: float = NOISE) -> pd.DataFrame:
    """List the entries that are probably wrong, worst first.

    Unknown entries are not judged, and neither are labels with fewer than 5 photos that have them or lack them.

    Args:
        dataset: n photos with k labels.
        probabilities: (n, k), out-of-sample, for example from `polytag.models.classical.probe.out_of_sample`.
        least: error probability above which an entry is listed.

    Returns:
        One row per entry. Columns: image, label, kind ("missing" or "wrong"), score (float, 0 surely an error to 1
        surely right), probability (float, 0 to 1, of the label being present), flag (bool, whether an error is more
        probable than not).

    Raises:
        DataError: the shape or range of the probabilities is wrong.
    """
    targets = dataset.targets
    in_range = probabilities.shape == targets.shape and all(
        ((some >= 0) & (some <= 1)).all() for some in np.array_split(probabilities, max(1, len(targets) // CHUNK))
    )
    if not in_range:
        raise DataError(
            f"expected probabilities {targets.shape} from 0 to 1, one for each photo and label, "
            f"but got {probabilities.shape} or numbers out of range"
        )
    judged = ((targets == 1).sum(axis=0) >= FEWEST) & ((targets == 0).sum(axis=0) >= FEWEST)
    found: list[tuple[NDArray, NDArray, NDArray]] = []
    for chunk, wrong in _in_chunks(probabilities, targets):
        i, j = np.nonzero(judged & (targets[chunk] >= 0) & (wrong > least))
        found.append((i + chunk.start, j, wrong[i, j]))
    rows, columns, doubt = (np.concatenate(column) for column in zip(*found, strict=True)) if found else ([],) * 3
    worst = np.argsort(-np.asarray(doubt), kind="stable")
    rows, columns, doubt = np.asarray(rows, int)[worst], np.asarray(columns, int)[worst], np.asarray(doubt)[worst]
    return pd.DataFrame(
        {
            "image": np.array(dataset.names, dtype=object)[rows],
            "label": np.array(dataset.labels, dtype=object)[columns],
            "kind": np.array(KINDS, dtype=object)[targets[rows, columns]],
            "score": 1 - doubt,
            "probability": probabilities[rows, columns].astype(np.float64),
            "flag": doubt > 0.5,
        }
    )


def entry_findings(dataset: Dataset, probabilities: NDArray[np.floating]) -> pd.DataFrame:
    """Flag the entries that are more probably wrong than right."""
    errors = label_errors(dataset, probabilities, least=0.5)
    given = {"missing": "not listed", "wrong": "listed"}
    details = [
        f"{given[kind]}, probability {probability:.2f}"
        for kind, probability in zip(errors["kind"], errors["probability"], strict=True)
    ]
    return errors.assign(issue=errors["kind"] + "_label", detail=details, other="")[list(COLUMNS)]

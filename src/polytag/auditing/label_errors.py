"""Find labels that are probably missing or wrong, based on out-of-sample probabilities. Keras is not needed.

Bayes' rule weighs the probability of each label on a photo against a prior of one wrong entry in twenty. Photos without
any label are rare in most tables, so removing a photo's last label needs more evidence.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polytag.auditing.findings import COLUMNS
from polytag.data.dataset import Dataset
from polytag.errors import DataError

NOISE = 0.05
"""Prior proportion of wrong entries. Northcutt et al. (2021) found 3.3% in carefully curated single-label test sets,
and assigning several labels is harder."""

FEWEST = 5
"""A label is checked only if at least this many photos have it and at least this many lack it. With fewer photos, every
one of them would look wrong."""

KINDS = ("missing", "wrong")
"""Kinds of errors, in the order of the targets 0 and 1: absent but probably present, present but probably absent."""

CHUNK = 2**22
"""Number of entries (photos × labels) processed at once, which takes about 250 MB."""


def error_probabilities(probabilities: NDArray[np.floating], targets: NDArray[np.int8]) -> NDArray[np.float64]:
    """Estimate the probability that each entry is wrong.

    Args:
        probabilities: (n, k), 0 to 1, probability of each label, estimated without using its own entry.
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
    """Compute `error_probabilities` for one chunk of photos at a time."""
    step = max(1, CHUNK // max(1, targets.shape[1]))
    chunks = [slice(start, start + step) for start in range(0, len(targets), step)]
    # Count the photos without any label, relative to the number expected if labels were independent.
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

    Unknown entries are not checked. Labels that fewer than 5 photos have, or that fewer than 5 lack, are not checked
    either.

    Args:
        dataset: n photos with k labels.
        probabilities: (n, k), out-of-sample, for example from `polytag.models.classical.probe.out_of_sample`.
        least: minimum error probability of a listed entry (exclusive).

    Returns:
        One row per entry. Columns: image, label, kind ("missing" or "wrong"), score (float, from 0, certainly an error,
        to 1, certainly right), probability (float, 0 to 1, that the label is present), flag (bool, whether an error is
        more likely than not).

    Raises:
        DataError: the probabilities have the wrong shape or are out of range.
    """
    targets = dataset.targets
    in_range = probabilities.shape == targets.shape and all(
        ((some >= 0) & (some <= 1)).all() for some in np.array_split(probabilities, 1 + targets.size // CHUNK)
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
    """Flag the entries that are more likely wrong than right."""
    errors = label_errors(dataset, probabilities, least=0.5)
    given = {"missing": "not listed", "wrong": "listed"}
    details = [
        f"{given[kind]}, probability {probability:.2f}"
        for kind, probability in zip(errors["kind"], errors["probability"], strict=True)
    ]
    return errors.assign(issue=errors["kind"] + "_label", detail=details, other="")[list(COLUMNS)]

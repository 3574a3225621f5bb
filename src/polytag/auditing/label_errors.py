"""Labels that are probably missing or wrong, from probabilities that do not depend on them (no Keras here).

The evidence against an entry is weighed by Bayes' rule: how probable its label is on this photo, that one
entry in twenty is taken to be wrong, and that a photo without any label is rare where the table has few of
them, so that what looks like the only label of a photo is not doubted lightly.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polytag.data.dataset import Dataset
from polytag.errors import DataError

NOISE = 0.05
"""The share of entries that is taken to be wrong before anything is seen: Northcutt et al. (2021) found 3.3 % in
well-kept test sets, and several labels are harder to give than one."""

FEWEST = 5
"""Photos with a label, and photos without, below which it cannot be judged: every one of them would look wrong."""

KINDS = ("missing", "wrong")
"""Absent but should be present; present but should be absent. In the order of targets 0 and 1."""


def error_probabilities(probabilities: NDArray[np.floating], targets: NDArray[np.int8]) -> NDArray[np.float64]:
    """How probably each entry is not what it should be.

    Args:
        probabilities: (n, k), how probable each label is, without regard to this entry.
        targets: int8 (n, k): 1, 0, or -1 for unknown.

    Returns:
        float64 (n, k), 0 to 1; for unknown entries, how probably the label is present.
    """
    p = np.clip(probabilities.astype(np.float64), 1e-6, 1 - 1e-6)
    given, absent = targets == 1, targets == 0
    if_present = p * np.select([given, absent], [1 - NOISE, NOISE], 1.0)
    if_absent = (1 - p) * np.select([given, absent], [NOISE, 1 - NOISE], 1.0)
    present = if_present / (if_present + if_absent)
    # Photos without any label, as a share of what there would be if labels were independent. The sums over all
    # combinations of labels but the empty one come down to a single division.
    bare = min(1.0, (absent.all(axis=1).sum() + 1) / ((1 - p).prod(axis=1).sum() + 1))
    present /= 1 - (1 - bare) * (1 - present).prod(axis=1, keepdims=True)
    return np.where(given, 1 - present, present)


def label_errors(dataset: Dataset, probabilities: NDArray[np.floating]) -> pd.DataFrame:
    """The entries against which there is evidence, worst first.

    Args:
        dataset: photos with labels; unknown entries are not judged, nor are labels with fewer than 5 photos
            known to have them, or not to.
        probabilities: (n, k), out of sample; `polytag.models.classical.probe.out_of_sample` makes them.

    Returns:
        A row for each entry that is more doubtful than one entry in twenty: image, label, kind ("missing" or
        "wrong"), score (float, 0 to 1: how probably the entry is right; 0 is surely an error), probability (float,
        0 to 1: of the label's presence), flag (bool: rather wrong than right, so worth a person's look).

    Raises:
        DataError: the probabilities do not fit the dataset, or are none.
    """
    targets = dataset.targets
    if probabilities.shape != targets.shape or not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise DataError(
            f"expected probabilities {targets.shape} from 0 to 1, one for each photo and label, "
            f"but got {probabilities.shape} or numbers out of range"
        )
    judged = (targets >= 0) & ((targets == 1).sum(axis=0) >= FEWEST) & ((targets == 0).sum(axis=0) >= FEWEST)
    wrong = error_probabilities(probabilities, targets)
    rows, columns = np.nonzero(judged & (wrong > NOISE))
    doubt = wrong[rows, columns]
    worst = np.argsort(-doubt, kind="stable")
    rows, columns, doubt = rows[worst], columns[worst], doubt[worst]
    names = np.array(dataset.names, dtype=object)
    return pd.DataFrame(
        {
            "image": names[rows],
            "label": np.array(dataset.labels, dtype=object)[columns],
            "kind": np.array(KINDS, dtype=object)[targets[rows, columns]],
            "score": 1 - doubt,
            "probability": probabilities[rows, columns].astype(np.float64),
            "flag": doubt > 0.5,
        }
    )

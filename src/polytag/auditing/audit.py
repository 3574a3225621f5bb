"""Audit photos and labels, and collect all findings in one table.

Each photo is read once. The modules in `checks/` examine photos, duplicates and the table of labels, and
`label_errors.py` examines individual labels. Photos that show the same picture share a group, so a split keeps them
together. `clean.py` proposes what to do about the findings.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polytag.auditing.checks.copies import copy_findings
from polytag.auditing.checks.labels import imbalance, label_findings
from polytag.auditing.checks.photos import listing_findings, photo_findings, scaled_scores, unreadable_findings
from polytag.auditing.checks.unlisted import unlisted_notes
from polytag.auditing.findings import findings_table
from polytag.auditing.issues import ISSUES
from polytag.auditing.label_errors import entry_findings
from polytag.data.dataset import Dataset
from polytag.data.splitting.groups import separable
from polytag.files import write_json
from polytag.photos.copies.duplicates import Pair, groups_of, recall_duplicates
from polytag.photos.measure import Measurements, measure
from polytag.photos.pixels import View


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        dataset: the readable photos. Photos that show the same picture share a group. The dataset's notes also list
            other files in the photo folder.
        findings: one row per finding, sorted by issue and then by score, worst first. Columns: image (photo name, or
            "" if the finding concerns a label of the whole table), label ("" if the finding concerns a whole photo),
            issue (a key of `ISSUES`), score (float32, from 0, the worst, to 1), detail (str), other (a second photo or
            label, or ""), probability (float32, out-of-sample probability of a suspect label, otherwise NaN).
        pairs: pairs of photos that show the same picture, as positions in `names`.
        measured: measurements of the photos in `names`.
        names: all listed photos whose files exist, readable or not.
        separable: int64, the group of each photo in ``dataset`` that a split must keep together. It is smaller than
            that of the dataset where too many photos look alike, as with a fixed camera.
        judged: whether individual labels were checked, which requires that `audit` got probabilities.
    """

    dataset: Dataset
    findings: pd.DataFrame
    pairs: tuple[Pair, ...]
    measured: Measurements
    names: tuple[str, ...]
    separable: NDArray[np.int64]
    judged: bool = False

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of findings per issue, in the order of `ISSUES`. Issues without findings are omitted."""
        counts = self.findings["issue"].value_counts()
        return {issue: int(counts[issue]) for issue in ISSUES if counts.get(issue, 0)}

    @cached_property
    def statistics(self) -> dict[str, float | int]:
        """Numbers of photos, readable photos, distinct pictures and labels, and the results of `imbalance`."""
        return {
            "photos": len(self.names) + len(self.dataset.left_out) - int((~self.measured.readable).sum()),
            "readable": len(self.dataset),
            "pictures": len(np.unique(self.dataset.groups)),
            "labels": len(self.dataset.labels),
            **imbalance(self.dataset.targets),
        }

    def scores(self, issue: str) -> NDArray[np.float32]:
        """Score every photo for an issue that is a matter of degree.

        Args:
            issue: a key of `issues.SCALED`, such as "blurry".

        Returns:
            float32 (n,) in the order of `names`, from 0 (worst) to 1. Scores below 0.5 are findings. Photos that
            cannot be scored get 1.

        Raises:
            KeyError: the issue has no score per photo.
        """
        return scaled_scores(self.measured, issue)[0]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write statistics, counts, notes and all findings as JSON.

        Raises:
            SettingsError: the file cannot be written.
        """
        rows = self.findings.astype({"issue": str, "score": float, "probability": float})
        rows = rows.round({"score": 4, "probability": 4})
        write_json(
            path,
            {
                "statistics": {name: round(value, 4) for name, value in self.statistics.items()},
                "notes": list(self.dataset.notes),
                "labels": {
                    label: int(count)
                    for label, count in zip(self.dataset.labels, (self.dataset.targets == 1).sum(axis=0), strict=True)
                },
                "counts": self.counts,
                # Empty cells and NaN are left out. A score of 0 is a value.
                "findings": [
                    {name: value for name, value in row.items() if value != "" and value == value}
                    for row in rows.to_dict("records")
                ],
            },
        )


def audit(
    dataset: Dataset,
    embeddings: NDArray[np.float32] | View | None = None,
    probabilities: NDArray[np.float32] | None = None,
    on_progress: Callable[[int], object] = lambda n: None,
) -> Audit:
    """Check every photo and every label.

    Args:
        dataset: photos and labels, preferably read with ``conflicts="unknown"``, which keeps photos with conflicting
            rows.
        embeddings: float32 (n, d), NaN in the rows of unreadable photos. Embeddings help to find more duplicates.
        probabilities: float32 (n, k), out-of-sample. They are required to find missing and wrong labels.
        on_progress: called with the number of photos measured since the last call.

    Raises:
        DataError: no photo can be read, or the probabilities have the wrong shape or are out of range.
    """
    measured = measure(dataset.paths, on_progress)
    pairs = tuple(recall_duplicates(measured, embeddings))
    connected = replace(dataset, groups=groups_of(list(pairs), dataset.groups))
    names = connected.names
    readable = connected.without({path: str(error) for path, error in measured.errors.items()})
    readable = replace(readable, notes=(*readable.notes, *unlisted_notes(connected)))
    findings = findings_table(
        [
            *unreadable_findings(connected, measured),
            *photo_findings(names, measured),
            *copy_findings(connected, pairs),
            *listing_findings(connected),
            label_findings(readable),
            *([] if probabilities is None else [entry_findings(connected, probabilities)]),
        ]
    )
    kept = separable(dataset.groups, pairs)[0][measured.readable]
    return Audit(readable, findings, pairs, measured, tuple(names), kept, probabilities is not None)

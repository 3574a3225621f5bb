"""Apply decisions to a dataset."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from polytag.auditing.decisions import VALUES, Decision
from polytag.data.dataset import Dataset
from polytag.errors import DataError, counted, listed


def apply_decisions(dataset: Dataset, decisions: Iterable[Decision]) -> tuple[Dataset, dict[str, str]]:
    """Return a cleaned copy of a dataset.

    A decision about a label takes precedence over the table and over a decision about the whole photo. After a merge,
    a photo has the common label if it had any of the merged labels, and lacks it if it lacked all of them. Otherwise,
    the label is unknown. Decisions about merged labels apply to the common label by the same rule. If two decisions
    concern the same image and label, the last one counts. Applying the same decisions again changes nothing.

    Returns:
        The cleaned dataset, and a dictionary that maps each remaining photo with a decision to its reasons, joined
        with "; ".

    Raises:
        DataError: the decisions name photos or labels that are not in the dataset, merge labels in a circle, or drop
            every photo.
    """
    latest = [decision for _, decision in sorted({d.key: d for d in decisions}.items())]
    common = _common_labels({d.label: d.into for d in latest if d.action == "merge"})
    _check_names(dataset, latest, common)
    rows = {name: row for row, name in enumerate(dataset.names)}
    dropped = {d.image: d.reason or "dropped by a decision" for d in latest if d.action == "drop" and d.image in rows}
    if len(dropped) == len(dataset):
        raise DataError(f"the decisions leave none of the {counted(len(dataset), 'image')}. Delete some of their rows")
    reasons = _reasons(dataset, latest, rows)
    merged = _merge_labels(dataset, common)
    targets, asked = _decided_targets(merged, latest, rows, common)
    changed = int((targets != merged.targets).any(axis=1).sum())
    notes = [*merged.notes]
    if dropped:
        notes.append(f"{counted(len(dropped), 'image')} dropped by decision: {listed(list(dropped))}")
    if changed:
        notes.append(f"{counted(changed, 'image')} with labels changed by decision")
    cleaned = replace(
        merged,
        targets=targets,
        notes=tuple(notes),
        left_out={**merged.left_out, **dropped},
        disputed={
            name: still
            for name, labels in merged.disputed.items()
            if (still := tuple(label for label in labels if (rows.get(name), merged.labels.index(label)) not in asked))
        },
    )
    cleaned = cleaned.take([name not in dropped for name in dataset.names]) if dropped else cleaned
    return cleaned, {
        name: "; ".join(dict.fromkeys(filter(None, reasons[name])))
        for name in rows
        if name in reasons and name not in dropped
    }


def _common_labels(merges: Mapping[str, str]) -> dict[str, str]:
    """Return the label that each merged label finally becomes, following chains of merges."""
    common = {}
    for label in merges:
        trail = [label]
        while trail[-1] in merges:
            trail.append(merges[trail[-1]])
            if trail[-1] in trail[:-1]:
                raise DataError(f"labels are merged in a circle ({' → '.join(trail)}). Delete one of these rows")
        common[label] = trail[-1]
    return common


def _check_names(dataset: Dataset, decisions: Iterable[Decision], common: Mapping[str, str]) -> None:
    """Raise an error if decisions name photos or labels that are not in the dataset."""
    photos = {"", *dataset.names, *dataset.left_out}
    # Decisions may still name a label that was merged by an earlier cleaning.
    labels = {"", *dataset.labels, *(label for label, target in common.items() if target in dataset.labels)}
    unknown_photos = [d.image for d in decisions if d.image not in photos]
    if unknown_photos:
        raise DataError(
            f"the decisions name {counted(len(unknown_photos), 'image')} that the data do not have: "
            f"{listed(unknown_photos)}. Delete these rows, or name the decisions file of these data"
        )
    unknown_labels = list(dict.fromkeys(x for d in decisions for x in (d.label, d.into) if x not in labels))
    if unknown_labels:
        raise DataError(
            f"the decisions name {counted(len(unknown_labels), 'label')} that the data do not have: "
            f"{listed(unknown_labels)}. The labels are {listed(list(dataset.labels), 20)}"
        )


def _reasons(dataset: Dataset, decisions: Iterable[Decision], rows: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the reasons of all decisions that concern each photo, in order."""
    reasons: dict[str, list[str]] = {}
    for decision in decisions:
        concerned = [decision.image] if decision.image in rows else []
        if decision.action == "merge" and decision.label in dataset.labels:
            present = dataset.targets[:, dataset.labels.index(decision.label)] == 1
            concerned = [dataset.names[row] for row in np.flatnonzero(present)]
        for name in concerned:
            reasons.setdefault(name, []).append(decision.reason)
    return reasons


def _merge_labels(dataset: Dataset, common: Mapping[str, str]) -> Dataset:
    """Combine the columns of merged labels."""
    gone = [label for label in dataset.labels if label in common]
    if not gone:
        return dataset
    ends = np.array([common.get(label, label) for label in dataset.labels])
    labels = tuple(label for label in dataset.labels if label not in common)
    return replace(
        dataset,
        targets=np.stack([_merged(dataset.targets[:, ends == label]) for label in labels], axis=1),
        labels=labels,
        notes=(*dataset.notes, *(f"label '{label}' merged into '{common[label]}'" for label in gone)),
        disputed={
            name: tuple(dict.fromkeys(common.get(label, label) for label in disputed))
            for name, disputed in dataset.disputed.items()
        },
    )


def _decided_targets(
    merged: Dataset, decisions: Iterable[Decision], rows: Mapping[str, int], common: Mapping[str, str]
) -> tuple[NDArray[np.int8], set[tuple[int, int]]]:
    """Return the targets after all decisions, and the entries (row, column) that decisions are about."""
    column = {label: j for j, label in enumerate(merged.labels)}
    targets = merged.targets.copy()
    asked: dict[tuple[int, int], set[str]] = {}
    for decision in decisions:
        if decision.image not in rows:
            continue  # The decision concerns the whole table, or a photo that has already been left out.
        if decision.label:
            entry = rows[decision.image], column[common.get(decision.label, decision.label)]
            asked.setdefault(entry, set()).add(decision.action)
        elif decision.action == "unknown":
            targets[rows[decision.image]] = -1
    for (row, j), actions in asked.items():
        values = [VALUES[action] for action in actions if action in VALUES]
        targets[row, j] = _merged(np.array([values]))[0] if values else merged.targets[row, j]
    return targets, set(asked)


def _merged(values: NDArray[np.int8]) -> NDArray[np.int8]:
    """Combine several columns of one label, (n, columns) → (n,)."""
    absent = (values == 0).all(axis=1)
    return np.where((values == 1).any(axis=1), 1, np.where(absent, 0, -1)).astype(np.int8)

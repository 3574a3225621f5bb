"""Applying decisions to a data set."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from polytag.auditing.decisions import VALUES, Decision
from polytag.data.dataset import Dataset
from polytag.errors import DataError, counted, listed


def apply_decisions(dataset: Dataset, decisions: Iterable[Decision]) -> tuple[Dataset, dict[str, str]]:
    """Clean a dataset: a new one is returned, and the one given is left as it was.

    A decision about a label outranks the table, and one about the whole photo. Where labels are merged, a
    photo has the common label if it had either, lacks it if it lacked both, and otherwise it is unknown;
    decisions about either count for the common label, by the same rule. Applying the same decisions to the
    outcome changes nothing, and their order matters only where two are about the same image and label.

    Returns:
        The cleaned dataset, and the reasons for each photo in it that a decision concerns, joined with "; ".

    Raises:
        DataError: decisions name photos or labels that are not in the dataset, merge labels in a circle, or
            leave no photo.
    """
    latest = [decision for _, decision in sorted({d.key: d for d in decisions}.items())]
    final = _final({d.label: d.into for d in latest if d.action == "merge"})
    _check(dataset, latest, final)
    names = dataset.names
    rows = {name: row for row, name in enumerate(names)}
    merged = _merge(dataset, final)
    column = {label: merged.labels.index(final.get(label, label)) for label in (*dataset.labels, *final)}

    targets = merged.targets.copy()
    reasons: dict[str, list[str]] = {}
    dropped: dict[str, str] = {}
    asked: dict[tuple[int, int], set[str]] = {}
    for decision in latest:
        if decision.action == "merge" and decision.label in dataset.labels:
            had = dataset.targets[:, dataset.labels.index(decision.label)] == 1
            for name in np.array(names)[had]:
                reasons.setdefault(str(name), []).append(decision.reason)
        if decision.image not in rows:
            continue  # About the whole table, or about a photo that is left out already.
        row = rows[decision.image]
        reasons.setdefault(decision.image, []).append(decision.reason)
        if decision.action == "drop":
            dropped[decision.image] = decision.reason or "dropped by a decision"
        elif decision.label:
            asked.setdefault((row, column[decision.label]), set()).add(decision.action)
        elif decision.action == "unknown":
            targets[row] = -1
    for (row, j), actions in asked.items():
        values = [VALUES[action] for action in actions if action in VALUES]
        targets[row, j] = _common(np.array([values]))[0] if values else merged.targets[row, j]

    if len(dropped) == len(dataset):
        raise DataError(f"the decisions leave none of the {counted(len(dataset), 'image')}: delete some of their rows")
    changed = int((targets != merged.targets).any(axis=1).sum())
    notes = [*merged.notes]
    if dropped:
        notes.append(f"{counted(len(dropped), 'image')} left out by decision: {listed(list(dropped))}")
    if changed:
        notes.append(f"{counted(changed, 'image')} with labels set by decision")
    cleaned = replace(
        merged,
        targets=targets,
        notes=tuple(notes),
        left_out={**merged.left_out, **dropped},
        disputed={
            name: still
            for name, labels in merged.disputed.items()
            if (still := tuple(label for label in labels if (rows.get(name), column[label]) not in asked))
        },
    )
    cleaned = cleaned.take([name not in dropped for name in names]) if dropped else cleaned
    return cleaned, {
        name: "; ".join(dict.fromkeys(filter(None, reasons[name])))
        for name in names
        if name in reasons and name not in dropped
    }


def _final(merges: Mapping[str, str]) -> dict[str, str]:
    """Where each merged label ends up, through chains of merges."""
    final = {}
    for label in merges:
        trail = [label]
        while trail[-1] in merges:
            trail.append(merges[trail[-1]])
            if trail[-1] in trail[:-1]:
                raise DataError(f"labels are merged in a circle ({' → '.join(trail)}): delete one of these rows")
        final[label] = trail[-1]
    return final


def _check(dataset: Dataset, decisions: Iterable[Decision], final: Mapping[str, str]) -> None:
    """Refuse decisions about what the dataset does not have."""
    photos = {"", *dataset.names, *dataset.left_out}
    # A label that is gone because it was merged earlier may still be named.
    labels = {"", *dataset.labels, *(label for label, target in final.items() if target in dataset.labels)}
    strangers = [d.image for d in decisions if d.image not in photos]
    if strangers:
        raise DataError(
            f"the decisions name {counted(len(strangers), 'image')} that the data does not have: {listed(strangers)}; "
            "delete these rows, or name the data that the decisions are about"
        )
    unheard = list(dict.fromkeys(x for d in decisions for x in (d.label, d.into) if x not in labels))
    if unheard:
        raise DataError(
            f"the decisions name {counted(len(unheard), 'label')} that the data does not have: {listed(unheard)}; "
            f"its labels are {listed(list(dataset.labels), 20)}"
        )


def _merge(dataset: Dataset, final: Mapping[str, str]) -> Dataset:
    """Fold columns into the labels where they end up."""
    gone = [label for label in dataset.labels if label in final]
    if not gone:
        return dataset
    ends = np.array([final.get(label, label) for label in dataset.labels])
    labels = tuple(label for label in dataset.labels if label not in final)
    return replace(
        dataset,
        targets=np.stack([_common(dataset.targets[:, ends == label]) for label in labels], axis=1),
        labels=labels,
        notes=(*dataset.notes, *(f"label '{label}' merged into '{final[label]}'" for label in gone)),
        disputed={
            name: tuple(dict.fromkeys(final.get(label, label) for label in disputed))
            for name, disputed in dataset.disputed.items()
        },
    )


def _common(values: NDArray[np.int8]) -> NDArray[np.int8]:
    """What several columns of one label say together, (n, columns) → (n,)."""
    absent = (values == 0).all(axis=1)
    return np.where((values == 1).any(axis=1), 1, np.where(absent, 0, -1)).astype(np.int8)

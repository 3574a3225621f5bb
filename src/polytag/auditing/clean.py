"""Turn an audit's findings into a file of decisions, and the decisions into a cleaned table.

The input is never changed. Cleaning does exactly what the decisions file says, so if you delete a row from that file,
the next cleaning no longer applies that decision.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from polytag.auditing.apply import apply_decisions
from polytag.auditing.audit import Audit
from polytag.auditing.checks.copies import disputed
from polytag.auditing.decisions import Decision, read_decisions, write_decisions
from polytag.auditing.issues import ISSUES, UNREADABLE
from polytag.data.dataset import PARTS, Dataset
from polytag.data.reading.write import write_table
from polytag.data.splitting.groups import leaks
from polytag.errors import ConflictError, PolytagError, SettingsError, counted, listed
from polytag.files import refuse_same_file


def clean(
    found: Audit,
    out: str | os.PathLike[str],
    decisions: str | os.PathLike[str],
    overwrite: bool = False,
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> tuple[Dataset, Path | None]:
    """Write a cleaned table. The column ``reasons`` says what was decided about each photo and why.

    Args:
        found: the audit.
        out: path of the table to write: .csv, .tsv or .parquet.
        decisions: the decisions file. If it does not exist, it is written with the decisions from `propose`.
        overwrite: replace ``out`` if it exists. An existing decisions file is never replaced.
        inputs: the files that the labels were read from. They are never replaced.

    Returns:
        The contents of the table, and the folder to pass as ``images`` when reading it, or ``None`` if the photos are
        found without it. If the given split leaks, it is removed.

    Raises:
        SettingsError: ``out`` already exists, is the decisions file or an input, or cannot be written.
        DataError: the decisions file is invalid, or names photos or labels that are not in the data.
        ConflictError: the rows of a photo disagree, and no decision settles the conflict.
    """
    out, decisions = Path(out), Path(decisions)
    if out.exists() and not overwrite:
        raise SettingsError(f"{out} exists already. Name another file with --clean, or add --overwrite")
    refuse_same_file(out, [decisions, *inputs, *found.dataset.paths.tolist()])
    if out.resolve() == decisions.resolve():
        raise SettingsError(f"{out} cannot be the table and the decisions: name another file with --decisions")
    decided = decisions.exists()
    cleaned, reasons, taken = plan_cleaning(found, decisions)
    if not decided:
        write_decisions(decisions, taken)
    try:
        return cleaned, write_table(out, cleaned, reasons)
    except PolytagError:
        if not decided:  # A failed cleaning leaves no files behind.
            decisions.unlink()
        raise


def plan_cleaning(found: Audit, decisions: str | os.PathLike[str]) -> tuple[Dataset, dict[str, str], list[Decision]]:
    """Return what `clean` would write, without writing anything.

    Args:
        found: the audit.
        decisions: the decisions file. If it does not exist, the decisions from `propose` are applied.

    Returns:
        The cleaned dataset, the reasons for the decisions about each remaining photo, and all decisions. If the given
        split leaks, it is removed.

    Raises:
        DataError: the decisions file is invalid, or names photos or labels that are not in the data.
        ConflictError: the rows of a photo disagree, and no decision settles the conflict.
    """
    decisions = Path(decisions)
    taken = read_decisions(decisions) if decisions.exists() else propose(found)
    _check_settled(found, taken, decisions)
    cleaned, reasons = apply_decisions(replace(found.dataset, groups=found.separable), taken)
    if cleaned.parts is not None and leaks([cleaned.take(cleaned.parts == part) for part in PARTS]):
        # A new split is better than a split that leaks.
        note = "the given split leaks, so it was left out: the next command draws a new one, or name one with --split"
        cleaned = replace(cleaned, parts=None, notes=(*cleaned.notes, note))
    return cleaned, reasons, taken


def _check_settled(found: Audit, taken: list[Decision], decisions: Path) -> None:
    """Raise an error if no decision settles a conflict between rows."""
    decided = {decision.key for decision in taken}
    unsettled = [
        f"{image} ({label})"
        for image, labels in found.dataset.disputed.items()
        for label in labels
        if not {(image, label), (image, "")} & decided
    ]
    if unsettled:
        raise ConflictError(
            f"{decisions} does not settle {counted(len(unsettled), 'conflict')} between rows of a photo: "
            f"{listed(unsettled, 20)}. Add a row for each with the action unknown, present, absent or drop"
        )


def propose(found: Audit) -> list[Decision]:
    """Propose decisions for the findings that are beyond doubt.

    Unreadable photos and redundant exact duplicates are dropped. Labels on which rows or exact duplicates disagree
    become unknown. Spelling variants of a label are merged.
    """
    decisions: list[Decision] = []
    by_issue: dict[str, list[Any]] = {}
    for row in found.findings.itertuples():
        by_issue.setdefault(str(row.issue), []).append(row)
    for issue in UNREADABLE.values():
        decisions += [Decision(row.image, "", "drop", row.detail) for row in by_issue.get(issue, [])]
    for issue in ("conflicting_rows", "names_against_columns"):
        for row in by_issue.get(issue, []):
            for label in found.dataset.disputed.get(row.image, ()):
                decisions.append(Decision(row.image, label, "unknown", f"{ISSUES[issue].title}: {row.detail}"))
    decisions += _of_exact_duplicates(found)
    for row in by_issue.get("label_variant", []):
        decisions.append(Decision("", row.label, "merge", f"two spellings: {row.detail}", into=row.other))
    return decisions


def _of_exact_duplicates(found: Audit) -> list[Decision]:
    """Keep the first of several identical files and drop the others.

    The kept file takes on any labels that are known only for its copies. Labels on which the files disagree become
    unknown.
    """
    place = {name: i for i, name in enumerate(found.dataset.names)}
    conflicts: dict[tuple[str, str], str] = {}
    known: dict[tuple[str, str], dict[str, str]] = {}
    drops = []
    for pair in found.pairs:
        first, copy = found.names[pair.a], found.names[pair.b]
        if pair.kind != "exact" or first not in place or copy not in place:
            continue
        drops.append(Decision(copy, "", "drop", f"exact duplicate of {first}"))
        for label in disputed(found.dataset, place[first], place[copy]):
            conflicts.setdefault((first, label), f"its exact duplicate {copy} disagrees")
        kept, dropped = (found.dataset.targets[place[name]] for name in (first, copy))
        for j in np.flatnonzero((kept < 0) & (dropped >= 0)):
            label = found.dataset.labels[j]
            if label not in found.dataset.disputed.get(first, ()):
                known.setdefault((first, label), {}).setdefault("present" if dropped[j] else "absent", copy)
    return [
        *(Decision(image, label, "unknown", reason) for (image, label), reason in conflicts.items()),
        *(
            Decision(image, label, action, f"copied from its exact duplicate {copy}")
            for (image, label), actions in known.items()
            for action, copy in actions.items()
            if len(actions) == 1
        ),
        *drops,
    ]

"""Cleaning: an audit's findings become decisions in a plain file, and the decisions become a new table.

The input is never touched. What the file says is done and nothing else, so deleting one of its rows undoes
that decision the next time.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from polytag.auditing.apply import apply_decisions
from polytag.auditing.audit import Audit, disputed
from polytag.auditing.decisions import Decision, read_decisions, write_decisions
from polytag.auditing.issues import ISSUES, UNREADABLE
from polytag.data.dataset import Dataset
from polytag.data.reading.write import write_table
from polytag.data.splitting.groups import leaks
from polytag.data.splitting.stratify import PARTS
from polytag.errors import ConflictError, PolytagError, SettingsError, counted, listed


def clean(
    found: Audit, out: str | os.PathLike[str], decisions: str | os.PathLike[str], overwrite: bool = False
) -> tuple[Dataset, Path | None]:
    """Write a cleaned table; its column ``reasons`` says what was done to a photo and why.

    Args:
        found: the audit.
        out: the table to write, .csv, .tsv or .parquet.
        decisions: the decisions file. Where there is none, it is written, with what `propose` proposes.
        overwrite: replace ``out`` if it exists. The decisions file is never replaced.

    Returns:
        What the table holds, less a given split that leaks; and the folder to name with ``images`` where the photos
        are not found from it.

    Raises:
        SettingsError: ``out`` exists already or cannot be written.
        DataError: the decisions file cannot be understood, or names what the data do not have.
        ConflictError: rows of a photo contradict each other and no decision says what becomes of that.
    """
    out, decisions = Path(out), Path(decisions)
    if out.exists() and not overwrite:
        raise SettingsError(f"{out} exists already: name another file with --clean, or add --overwrite")
    decided = decisions.exists()
    taken = read_decisions(decisions) if decided else propose(found)
    _check_settled(found, taken, decisions)
    cleaned, reasons = apply_decisions(found.dataset, taken)
    if cleaned.parts is not None and leaks([cleaned.take(cleaned.parts == part) for part in PARTS]):
        # A split that leaks is better made anew than passed on.
        cleaned = replace(cleaned, parts=None)
    if not decided:
        write_decisions(decisions, taken)
    try:
        return cleaned, write_table(out, cleaned, reasons)
    except PolytagError:
        if not decided:  # What failed leaves nothing behind.
            decisions.unlink()
        raise


def _check_settled(found: Audit, taken: list[Decision], decisions: Path) -> None:
    """Refuse conflicts of rows that nobody decided, as reading does."""
    decided = {decision.key for decision in taken}
    open_ones = [
        f"{image} ({label})"
        for image, labels in found.dataset.disputed.items()
        for label in labels
        if not {(image, label), (image, "")} & decided
    ]
    if open_ones:
        raise ConflictError(
            f"{decisions} says nothing about {counted(len(open_ones), 'label')} on which rows contradict each other: "
            f"{listed(open_ones, 20)}; give each a row with the action unknown, present, absent or drop"
        )


def propose(found: Audit) -> list[Decision]:
    """What cleaning would do about an audit's findings: only what is certain.

    Photos that cannot be read and further exact copies are left out, labels on which rows or exact copies
    contradict each other become unknown, labels that differ in case, blanks or punctuation are merged.
    """
    decisions: list[Decision] = []
    flagged: dict[str, list[Any]] = {}
    for row in found.flagged.itertuples():
        flagged.setdefault(str(row.issue), []).append(row)
    for issue in UNREADABLE.values():
        decisions += [Decision(row.image, "", "drop", row.detail) for row in flagged.get(issue, [])]
    for issue in ("conflicting_rows", "names_against_columns"):
        for row in flagged.get(issue, []):
            for label in found.dataset.disputed.get(row.image, ()):
                decisions.append(Decision(row.image, label, "unknown", f"{ISSUES[issue].title}: {row.detail}"))
    decisions += _of_copies(found)
    for row in flagged.get("label_variant", []):
        decisions.append(Decision("", row.label, "merge", f"written in two ways: {row.detail}", into=row.other))
    return decisions


def _of_copies(found: Audit) -> list[Decision]:
    """Keep the first of exact copies, with what the others know and it does not; where they contradict each other, the
    label becomes unknown in it."""
    place = {name: i for i, name in enumerate(found.dataset.names)}
    unknown: dict[tuple[str, str], str] = {}
    told: dict[tuple[str, str], dict[str, str]] = {}
    drops = []
    for pair in found.pairs:
        first, copy = found.names[pair.a], found.names[pair.b]
        if pair.kind != "exact" or first not in place or copy not in place:
            continue
        drops.append(Decision(copy, "", "drop", f"exact copy of {first}"))
        for label in disputed(found.dataset, place[first], place[copy]):
            unknown.setdefault((first, label), f"exact copy {copy} contradicts it")
        kept, dropped = (found.dataset.targets[place[name]] for name in (first, copy))
        for j in np.flatnonzero((kept < 0) & (dropped >= 0)):
            label = found.dataset.labels[j]
            if label not in found.dataset.disputed.get(first, ()):
                told.setdefault((first, label), {}).setdefault("present" if dropped[j] else "absent", copy)
    return [
        *(Decision(image, label, "unknown", reason) for (image, label), reason in unknown.items()),
        *(
            Decision(image, label, action, f"exact copy {copy} says so")
            for (image, label), said in told.items()
            for action, copy in said.items()
            if len(said) == 1
        ),
        *drops,
    ]

"""Write the audit page, which shows every kind of finding with its worst cases, their photos, and advice."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytag.auditing.audit import Audit
from polytag.auditing.contact_sheet import CELLS, contact_sheet
from polytag.auditing.issues import ISSUES
from polytag.auditing.label_errors import KINDS
from polytag.errors import ImageError, counted, listed
from polytag.files import write_atomically
from polytag.pages.page import environment, new_page
from polytag.pages.thumbnails import thumbnails

CASES, ENTRIES = 12, CELLS
"""Maximum number of photos shown per issue, and of suspect labels shown per kind."""

LABEL_ROWS, LABELS_OF_PHOTO, NOTES = 100, 20, 50
"""Maximum numbers of label findings, of labels per photo and of notes, so that the page stays small for any dataset."""

LONGEST = 200
"""Length of a thumbnail's longer side, in pixels."""

WEIGHTS = {"error": "fix first", "warning": "worth a look", "note": "good to know"}
"""The page's description of each severity level, most severe first."""


def write_report(found: Audit, folder: str | os.PathLike[str], name: str, overwrite: bool = False) -> Path:
    """Write the audit page, and contact sheets of the most suspect labels (one sheet per kind: missing and wrong).

    Args:
        found: the audit.
        folder: folder of the page, which is created if needed.
        name: name of the dataset.
        overwrite: replace an existing page.

    Returns:
        Path of the page, ``folder/index.html``. The page is self-contained.

    Raises:
        SettingsError: a page already exists, or the folder cannot be written to.
    """
    page = new_page(folder, "--report", overwrite)
    words = {
        "question": f"Can {name} be trusted?",
        "answer": answer(found),
        "facts": _facts(found),
        "notes": _capped(found.dataset.notes, NOTES),
        "weights": WEIGHTS,
        "rows": _summary(found),
        "clean": _not_found(found),
        "sections": _sections(found),
        **_label_rows(found),
    }
    text = environment(Path(__file__).parent, autoescape=True).get_template("audit.html").render(words)
    with write_atomically(page) as file:
        file.write(text)
    for kind in KINDS:
        doubtful = _findings(found, f"{kind}_label").assign(kind=kind)
        if len(doubtful):
            contact_sheet(found.dataset, doubtful, page.parent / f"{kind}-labels.png")
    return page


def answer(found: Audit) -> str:
    """Summarize the audit in one or two sentences."""
    if not found.counts:
        return f"The audit found nothing odd in {counted(int(found.statistics['photos']), 'photo')} and their labels."
    errors = [issue for issue in found.counts if ISSUES[issue].weight == "error"]
    if errors:
        worst = sorted(errors, key=lambda issue: -found.counts[issue])
        return f"Fix this first: {listed([_named(found, issue) for issue in worst])}."
    most = _named(found, max(found.counts, key=lambda issue: found.counts[issue]))
    if len(found.counts) == 1:
        return f"Nothing needs to be fixed. One thing is good to know: {most}."
    return f"Nothing needs to be fixed. {len(found.counts)} findings are good to know. The most frequent is {most}."


def _named(found: Audit, issue: str) -> str:
    about, count = ISSUES[issue].about, found.counts[issue]
    title = _lower_first(ISSUES[issue].title)
    return title if about == "table" else f"{title} ({counted(count, about)})"


def _lower_first(title: str) -> str:
    return title[0].lower() + title[1:]


def _findings(found: Audit, issue: str) -> pd.DataFrame:
    return found.findings[found.findings["issue"] == issue]


def _by_weight(found: Audit) -> list[str]:
    """Return the issues that were found, most serious first."""
    return sorted(found.counts, key=lambda issue: list(WEIGHTS).index(ISSUES[issue].weight))


def _capped(items: Iterable[str], at_most: int) -> list[str]:
    items = list(items)
    return items if len(items) <= at_most else [*items[:at_most], f"and {len(items) - at_most:,} more"]


def _summary(found: Audit) -> list[dict[str, Any]]:
    return [
        {
            "target": issue if ISSUES[issue].about in ("photo", "entry") else "labels",
            "count": found.counts[issue],
            "issue": ISSUES[issue],
        }
        for issue in _by_weight(found)
    ]


def _not_found(found: Audit) -> list[str]:
    """Return the issues that were checked but not found. Leaks need a given split; label errors need probabilities."""
    not_checked = set() if found.judged else {name for name, issue in ISSUES.items() if issue.about == "entry"}
    if found.dataset.parts is None:
        not_checked.add("leak")
    return [
        _lower_first(issue.title) for name, issue in ISSUES.items() if name not in not_checked | found.counts.keys()
    ]


def _facts(found: Audit) -> dict[str, str]:
    s = found.statistics
    return {
        "Photos listed": f"{s['photos']:,}",
        "Readable": f"{s['readable']:,}",
        "Different pictures": f"{s['pictures']:,}",
        "Labels": f"{s['labels']:,}",
        "Labels per photo": f"{s['cardinality']:.2f}",
        "Density": f"{s['density']:.3f}",
        "Combinations": f"{s['combinations']:,}",
        "Mean imbalance ratio": f"{s['mean_imbalance_ratio']:.1f}",
    }


def _sections(found: Audit) -> list[dict[str, Any]]:
    """Return the worst cases of each issue that concerns photos or entries."""
    cases = {
        issue: _findings(found, issue).head(ENTRIES if ISSUES[issue].about == "entry" else CASES).to_dict("records")
        for issue in _by_weight(found)
        if ISSUES[issue].about in ("photo", "entry")
    }
    named = {str(row[key]) for rows in cases.values() for row in rows for key in ("image", "other")}
    shown = _pictures(found, named)
    labels = _labels_of(found, named)
    return [
        {
            "name": issue,
            "issue": ISSUES[issue],
            "count": found.counts[issue],
            "cases": [
                {
                    **row,
                    "pictures": [shown[name] for name in (row["image"], row["other"]) if name in shown],
                    "labels": [
                        (name, listed(labels.get(name, []), LABELS_OF_PHOTO) or "none")
                        for name in (row["image"], row["other"])
                        if name
                    ],
                }
                for row in rows
            ],
        }
        for issue, rows in cases.items()
    ]


def _labels_of(found: Audit, names: set[str]) -> dict[str, list[str]]:
    """Return the labels of the given photos."""
    data = found.dataset
    return {
        name: [data.labels[j] for j in np.flatnonzero(data.targets[i] == 1)]
        for i, name in enumerate(data.names)
        if name in names
    }


def _pictures(found: Audit, names: set[str]) -> dict[str, str]:
    """Return thumbnails of the readable photos among those given."""
    wanted = [i for i, name in enumerate(found.names) if name in names and found.measured.readable[i]]
    records = found.measured.records[wanted]
    sizes = list(zip(records["width"].tolist(), records["height"].tolist(), strict=True))
    made = thumbnails([found.measured.paths[i] for i in wanted], sizes, LONGEST)
    return {
        found.names[i]: picture for i, picture in zip(wanted, made, strict=True) if not isinstance(picture, ImageError)
    }


def _label_rows(found: Audit) -> dict[str, Any]:
    """Return the first label findings of each issue, most serious first, and the total number of label findings."""
    issues = [issue for issue in _by_weight(found) if ISSUES[issue].about in ("label", "table")]
    each = max(1, LABEL_ROWS // max(1, len(issues)))
    rows = [(ISSUES[issue], row) for issue in issues for row in _findings(found, issue).head(each).to_dict("records")]
    return {"labels": rows, "labels_in_all": sum(found.counts[issue] for issue in issues)}

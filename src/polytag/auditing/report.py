"""The report of an audit: one page with every kind of finding, its worst cases as pictures, and what to do."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from polytag.auditing.audit import Audit
from polytag.auditing.contact_sheet import contact_sheet
from polytag.auditing.issues import ISSUES
from polytag.auditing.label_errors import KINDS
from polytag.errors import ImageError, counted, listed
from polytag.files import write_atomically
from polytag.pages.page import environment, new_page
from polytag.pages.thumbnails import thumbnails

CASES = 12
"""Photos shown for one issue, at most."""

ENTRIES = 60
"""Doubtful labels shown of each kind, at most."""

LONGEST = 200
"""Longest side of a picture, in pixels."""

WEIGHTS = {"error": "spoils results", "warning": "worth a look", "note": "good to know"}


def write_report(found: Audit, folder: str | os.PathLike[str], name: str, overwrite: bool = False) -> Path:
    """Write the page, and contact sheets of the most doubtful labels, missing and wrong ones apart.

    Args:
        found: the audit.
        folder: folder of the page; made where it is missing.
        name: what the data are called.
        overwrite: replace the page that is there.

    Returns:
        The page, ``folder/index.html``, which refers to nothing outside itself.

    Raises:
        SettingsError: there is a page already, or the folder cannot be written.
    """
    page = new_page(folder, "--report", overwrite)
    words = {
        "question": f"Can {name} be trusted?",
        "answer": answer(found),
        "facts": _facts(found),
        "notes": found.dataset.notes,
        "weights": WEIGHTS,
        "rows": [{"name": issue, "count": count, "issue": ISSUES[issue]} for issue, count in found.counts.items()],
        "clean": _not_found(found),
        "photos": len(found.names),
        "sections": _sections(found),
        "labels": _label_rows(found),
    }
    text = environment(Path(__file__).parent, autoescape=True).get_template("audit.html").render(words)
    with write_atomically(page) as file:
        file.write(text)
    for kind in KINDS:
        doubtful = found.flagged[found.flagged["issue"] == f"{kind}_label"].assign(kind=kind)
        if len(doubtful):
            contact_sheet(found.dataset, doubtful, page.parent / f"{kind}-labels.png", ENTRIES)
    return page


def answer(found: Audit) -> str:
    """The outcome in a sentence or two."""
    total = found.statistics["photos"]
    errors = [issue for issue in found.counts if ISSUES[issue].weight == "error"]
    if not found.counts:
        return f"Nothing odd was found about {counted(int(total), 'photo')} and their labels."
    if not errors:
        most = _named(found, max(found.counts, key=lambda issue: found.counts[issue]))
        if len(found.counts) == 1:
            return f"Nothing was found that spoils results. One thing is worth knowing: {most}."
        return (
            f"Nothing was found that spoils results. {len(found.counts)} kinds of finding are worth knowing, "
            f"the most frequent being {most}."
        )
    worst = sorted(errors, key=lambda issue: -found.counts[issue])
    return f"Mend this first: {listed([_named(found, issue) for issue in worst])}."


def _named(found: Audit, issue: str) -> str:
    noun = {"photo": "photo", "label": "label", "entry": "entry"}[ISSUES[issue].about]
    number = counted(found.counts[issue], noun)
    return f"{ISSUES[issue].title.lower()} ({number})"


def _not_found(found: Audit) -> list[str]:
    """What was looked for in vain; doubtful labels are only looked for on request, and leaks in a given split."""
    not_asked = {name for name, issue in ISSUES.items() if issue.about == "entry"} - set(found.findings["issue"])
    if found.dataset.parts is None:
        not_asked.add("leak")
    return [issue.title.lower() for name, issue in ISSUES.items() if name not in not_asked | found.counts.keys()]


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
    """For each issue about photos or entries its worst cases, with pictures."""
    cases: dict[str, list[dict[str, Any]]] = {}
    for issue in found.counts:
        if ISSUES[issue].about != "label":
            rows = found.flagged[found.flagged["issue"] == issue].head(
                ENTRIES if ISSUES[issue].about == "entry" else CASES
            )
            cases[issue] = _records(rows)
    shown = _pictures(found, (row[key] for rows in cases.values() for row in rows for key in ("image", "other")))
    place = {name: i for i, name in enumerate(found.dataset.names)}

    def listed_labels(name: str) -> list[str]:
        if name not in place:
            return []
        return [found.dataset.labels[j] for j in np.flatnonzero(found.dataset.targets[place[name]] == 1)]

    return [
        {
            "name": issue,
            "issue": ISSUES[issue],
            "count": found.counts[issue],
            "cases": [
                {
                    **row,
                    "pictures": [shown[name] for name in (row["image"], row["other"]) if name in shown],
                    "labels": listed_labels(row["image"]),
                }
                for row in rows
            ],
        }
        for issue, rows in cases.items()
    ]


def _pictures(found: Audit, names: Iterable[str]) -> dict[str, str]:
    """Thumbnails of those photos that can be read."""
    place = {name: i for i, name in enumerate(found.names)}
    wanted = sorted({place[name] for name in names if name in place and found.measured.readable[place[name]]})
    records = found.measured.records[wanted]
    sizes = list(zip(records["width"].tolist(), records["height"].tolist(), strict=True))
    made = thumbnails([found.measured.paths[i] for i in wanted], sizes, LONGEST)
    return {
        found.names[i]: picture for i, picture in zip(wanted, made, strict=True) if not isinstance(picture, ImageError)
    }


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.itertuples(index=False)]


def _label_rows(found: Audit) -> list[dict[str, Any]]:
    rows = found.flagged[found.flagged["issue"].isin([name for name, i in ISSUES.items() if i.about == "label"])]
    return [{**row, "issue": ISSUES[row["issue"]]} for row in _records(rows)]

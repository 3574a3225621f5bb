"""Convert the findings of an audit into questions for the review."""

from typing import Any

from polytag.auditing.audit import Audit
from polytag.auditing.checks.copies import disputed
from polytag.auditing.clean import propose
from polytag.auditing.decisions import Decision
from polytag.auditing.issues import ISSUES
from polytag.serving.review.review import Suspect

PHOTOS = ("blank", "blurry", "dark", "bright", "tiny", "extreme_aspect")
"""Issues that concern an entire photo, most serious first. The review suggests leaving these photos out."""


def suspects_of(found: Audit) -> list[Suspect]:
    """Return everything that a person should decide about.

    Contradictions come first, then suspect labels, then suspect photos. Findings that a person cannot inspect on the
    page, such as missing files, are left out.
    """
    place = {name: i for i, name in enumerate(found.dataset.names)}
    proposed = {decision.key: decision for decision in propose(found)}
    flagged: dict[str, list[Any]] = {}
    for row in found.findings.itertuples():
        flagged.setdefault(str(row.issue), []).append(row)
    asked: dict[tuple[str, str], Suspect] = {}

    def ask(suspect: Suspect) -> None:
        asked.setdefault(suspect.key, suspect)

    def unknown(image: str, label: str, why: str) -> Decision:
        return proposed.get((image, label)) or Decision(image, label, "unknown", why)

    for image, labels in found.dataset.disputed.items():
        for label in labels if image in place else ():
            why = f"the rows of this photo contradict each other about '{label}'"
            ask(Suspect(image, label, "conflicting rows", unknown(image, label, why), why))
    for pair in found.pairs:
        first, copy = found.names[pair.a], found.names[pair.b]
        if first not in place or copy not in place:
            continue
        for label in disputed(found.dataset, place[first], place[copy]):
            why = f"{first} and {copy} are copies of the same photo, but only one of them has the label '{label}'"
            for image, other in ((first, copy), (copy, first)):
                if proposed.get((image, "")) is None:
                    suggestion = unknown(image, label, f"conflicts with {other}, a copy of the same photo")
                    ask(Suspect(image, label, "conflicting copies", suggestion, why, other=other))
    for issue, action in (("missing_label", "present"), ("wrong_label", "absent")):
        for row in flagged.get(issue, []):
            suggestion = Decision(row.image, row.label, action, f"{ISSUES[issue].title.lower()}, {row.detail}")
            ask(Suspect(row.image, row.label, ISSUES[issue].title.lower(), suggestion, row.detail, row.probability))
    for issue in ("label_variant", "similar_labels"):
        for row in flagged.get(issue, []):
            merge = Decision("", row.label, "merge", f"the same label: {row.detail}", into=row.other)
            suggestion = proposed.get(merge.key) or merge
            ask(Suspect("", row.label, ISSUES[issue].title.lower(), suggestion, row.detail))
    for issue in PHOTOS:
        for row in flagged.get(issue, []):
            suggestion = Decision(row.image, "", "drop", f"{ISSUES[issue].title.lower()}: {row.detail}")
            ask(Suspect(row.image, "", ISSUES[issue].title.lower(), suggestion, row.detail))
    return list(asked.values())

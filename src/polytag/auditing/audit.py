"""The audit: everything that is odd about photos and labels, in one table.

Each photo is read once (`measure.py`); duplicates are told by `duplicates.py`, odd labels by
`label_checks.py`, likely label errors by `label_errors.py`. What is found goes on by itself: photos of the
same picture share a group, which a split keeps together, and `clean.py` proposes what to mend.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polytag.auditing.issues import ISSUES, SCALED, UNREADABLE
from polytag.auditing.label_checks import imbalance, label_findings
from polytag.auditing.label_errors import label_errors
from polytag.data.dataset import Dataset
from polytag.data.reading.table import NOT_ANNOTATED
from polytag.files import write_json
from polytag.photos.duplicates import KINDS, Pair, groups_of, recall_duplicates
from polytag.photos.measure import Measurements, measure

COLUMNS = ("image", "label", "issue", "score", "flag", "detail", "other", "probability")

ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
}
"""File name endings of each format."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        dataset: the readable photos; those that show the same picture share a group.
        findings: one row for each photo and issue, and for each odd label: image (name; "" for a finding
            on a label of the whole table), label ("" for one on a photo), issue (a name of `ISSUES`), score
            (float32, 0 worst to 1), flag (bool), detail (in words), other (the photo or label it concerns too),
            probability (of a doubtful label, out of sample; NaN elsewhere).
        pairs: photos of one picture; positions in the dataset that was audited.
        measured: the measurements of that dataset's photos.
        names: that dataset's photos.
    """

    dataset: Dataset
    findings: pd.DataFrame
    pairs: tuple[Pair, ...]
    measured: Measurements
    names: tuple[str, ...]

    @cached_property
    def flagged(self) -> pd.DataFrame:
        """The flagged findings, worst first within each issue, issues in the order of `ISSUES`."""
        found = self.findings[self.findings["flag"]]
        return found.sort_values(["issue", "score"], kind="stable").reset_index(drop=True)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many findings each issue has, in the order of `ISSUES`; issues without any are left out."""
        counts = self.flagged["issue"].value_counts()
        return {issue: int(counts[issue]) for issue in ISSUES if counts.get(issue, 0)}

    @cached_property
    def statistics(self) -> dict[str, float | int]:
        """Photos, readable photos, labels, pictures (groups) and the figures of `imbalance`."""
        return {
            "photos": len(self.names) + len(self.dataset.left_out) - int((~self.measured.readable).sum()),
            "readable": len(self.dataset),
            "pictures": len(np.unique(self.dataset.groups)),
            "labels": len(self.dataset.labels),
            **imbalance(self.dataset.targets),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write statistics, counts, notes and the flagged findings as JSON."""
        rows = self.flagged.astype({"image": str, "issue": str, "score": float, "probability": float})
        rows = rows.drop(columns="flag").round({"score": 4, "probability": 4})
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
                # Empty cells are left out; a score of 0 is none.
                "findings": [
                    {name: value for name, value in row.items() if value != "" and value == value}
                    for row in rows.to_dict("records")
                ],
            },
        )


def audit(
    dataset: Dataset,
    embeddings: NDArray[np.float32] | None = None,
    probabilities: NDArray[np.float32] | None = None,
    on_progress: Callable[[int], object] = lambda n: None,
) -> Audit:
    """Look at every photo and every label, and tell what is odd.

    Args:
        dataset: photos and labels as they were read (``conflicts="unknown"`` keeps the photos whose rows conflict).
        embeddings: float32 (n, d), rows of NaN where there is none; finds more copies.
        probabilities: float32 (n, k), out of sample; finds missing and wrong labels.
        on_progress: called with the number of photos that became ready.

    Raises:
        DataError: no photo can be read, or the probabilities are not of these photos and labels.
    """
    names = dataset.names
    measured = measure(dataset.paths, on_progress)
    pairs = recall_duplicates(measured, embeddings)
    joined = replace(dataset, groups=groups_of(pairs, dataset.groups))
    readable = joined.without({path: str(error) for path, error in measured.errors.items()})

    table = _Table([*names, *dataset.left_out])
    _unreadable(table, measured, dataset)
    _measured(table, measured)
    _copies(table, joined, pairs)
    _listing(table, joined)
    frames = [table.frame()]
    frames.append(
        pd.DataFrame(
            [
                ("", label, issue, score, True, detail, other)
                for issue, label, score, detail, other in label_findings(readable)
            ],
            columns=list(COLUMNS[:-1]),
        )
    )
    if probabilities is not None:
        frames.append(_entries(label_errors(joined, probabilities)))
    findings = pd.concat([frame for frame in frames if len(frame)], ignore_index=True).reindex(columns=list(COLUMNS))
    findings["issue"] = pd.Categorical(findings["issue"], list(ISSUES), ordered=True)
    findings["image"] = findings["image"].astype("category")
    findings = findings.astype({"score": np.float32, "flag": bool, "probability": np.float32})
    return Audit(readable, findings, tuple(pairs), measured, tuple(names))


class _Table:
    """A score, a flag, a detail and another photo for each photo and issue, before they become rows."""

    def __init__(self, names: list[str]):
        self.names = names
        self.place = {name: i for i, name in enumerate(names)}
        self.scores: dict[str, NDArray[np.float32]] = {}
        self.flags: dict[str, NDArray[np.bool_]] = {}
        self.words: dict[tuple[str, int], tuple[str, str]] = {}

    def scale(self, issue: str, scores: NDArray, flags: NDArray[np.bool_]) -> None:
        """Scores and flags of the first photos; the others are fine."""
        self.scores[issue] = np.ones(len(self.names), np.float32)
        self.flags[issue] = np.zeros(len(self.names), bool)
        self.scores[issue][: len(scores)] = scores
        self.flags[issue][: len(flags)] = flags

    def flag(self, issue: str, photo: int, detail: str = "", other: str = "", score: float = 0.0) -> None:
        if issue not in self.scores:
            self.scale(issue, np.ones(0), np.zeros(0, bool))
        self.scores[issue][photo] = score
        self.flags[issue][photo] = True
        self.words[issue, photo] = (detail, other)

    def frame(self) -> pd.DataFrame:
        n = len(self.names)
        names = pd.Categorical(self.names, self.names)
        parts = []
        for issue, about in ISSUES.items():
            if about.about != "photo":
                continue
            detail, other = np.full(n, "", object), np.full(n, "", object)
            for photo in np.flatnonzero(self.flags.get(issue, ())):
                detail[photo], other[photo] = self.words.get((issue, int(photo)), ("", ""))
            parts.append(
                pd.DataFrame(
                    {
                        "image": names,
                        "label": "",
                        "issue": issue,
                        "score": self.scores.get(issue, np.ones(n, np.float32)),
                        "flag": self.flags.get(issue, np.zeros(n, bool)),
                        "detail": detail,
                        "other": other,
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)


def _unreadable(table: _Table, measured: Measurements, dataset: Dataset) -> None:
    for i, path in enumerate(measured.paths):
        if path in measured.errors:
            error = measured.errors[path]
            table.flag(UNREADABLE[error.problem], i, str(error))
    for name, reason in dataset.left_out.items():
        if reason == NOT_ANNOTATED:
            table.flag("all_unknown", table.place[name], reason)
        elif not os.access(dataset.root / name, os.R_OK):
            table.flag("missing", table.place[name], reason)


def _measured(table: _Table, measured: Measurements) -> None:
    m, readable = measured.records, measured.readable
    shorter, longer = np.minimum(m["width"], m["height"]), np.maximum(m["width"], m["height"])
    values = {
        "tiny": shorter,
        "extreme_aspect": shorter / np.maximum(longer, 1),
        "blank": m["contrast"],
        "dark": m["p99"],
        "bright": 1 - m["p01"],
        "blurry": m["sharpness"],
    }
    blank = readable & (m["contrast"] < SCALED["blank"][1])
    for issue, (measure_name, least) in SCALED.items():
        judged = readable if issue in ("tiny", "extreme_aspect", "blank") else readable & ~blank
        value = values[issue].astype(np.float32)
        flags = judged & (value < least)
        # Half the score is reached at the limit, so that what is just passed is told from what is far from it.
        table.scale(issue, np.where(judged, 1 - 1 / (1 + value / least), 1), flags)
        for i in np.flatnonzero(flags).tolist():
            table.words[issue, i] = (f"{measure_name} {value[i]:.4g}, limit {least:.2g}", "")

    for i in np.flatnonzero(readable).tolist():
        record = m[i]
        ending = Path(measured.paths[i]).suffix.lower()
        if ending and ending not in ENDINGS.get(record["format"], (ending,)):
            table.flag("wrong_extension", i, f"{record['format']}, named {ending}")
        if record["frames"] > 1:
            table.flag("animated", i, f"{record['frames']} pictures, {record['format']}")
        modes = {
            "CMYK": record["mode"] == "CMYK",
            "more than 8 bits a channel": record["deep"],
            "transparency": record["alpha"],
            "palette": record["mode"] in ("P", "PA"),
            f"mode {record['mode']}": record["mode"] in ("LAB", "HSV", "YCbCr", "1"),
        }
        if any(modes.values()):
            table.flag("unusual_mode", i, ", ".join(name for name, is_so in modes.items() if is_so))
        if record["orientation"] > 1:
            table.flag("exif_rotated", i, f"EXIF orientation {record['orientation']}")
    grey = readable & m["grey"] & ~blank
    if 2 * grey.sum() < readable.sum():
        for i in np.flatnonzero(grey).tolist():
            table.flag("grey", i, "red, green and blue are equal everywhere")


def _copies(table: _Table, dataset: Dataset, pairs: list[Pair]) -> None:
    """Flag the later photo of each pair, once, for its closest relation to an earlier one."""
    names = table.names
    closest: dict[int, Pair] = {}
    for pair in pairs:
        before = closest.get(pair.b)
        if before is None or (KINDS.index(pair.kind), -pair.similarity) < (
            KINDS.index(before.kind),
            -before.similarity,
        ):
            closest[pair.b] = pair
    for b, pair in closest.items():
        detail = f"of {names[pair.a]}" + ("" if pair.kind == "exact" else f", similarity {pair.similarity:.2f}")
        table.flag(f"{pair.kind}_duplicate", b, detail, names[pair.a], max(0.0, 1 - pair.similarity))
    for pair in pairs:
        labels = disputed(dataset, pair.a, pair.b)
        if labels and ("conflicting_duplicate", pair.b) not in table.words:
            table.flag("conflicting_duplicate", pair.b, f"{', '.join(labels)}; {pair.kind} copy", names[pair.a])
    if dataset.parts is None:
        return
    by_group: dict[int, list[int]] = {}
    for i, group in enumerate(dataset.groups.tolist()):
        by_group.setdefault(group, []).append(i)
    for members in by_group.values():
        here = {str(dataset.parts[i]): i for i in reversed(members)}
        # The training part keeps its photo; what leaks is the one that judges.
        home = min(here, key=("train", "validation", "test").index)
        for i in members:
            if dataset.parts[i] != home:
                other = names[here[home]]
                table.flag("leak", i, f"in {dataset.parts[i]}, its picture is in {home} too ({other})", other)


def disputed(dataset: Dataset, a: int, b: int) -> list[str]:
    """The labels on which two photos, named by their positions, contradict each other."""
    first, second = dataset.targets[a], dataset.targets[b]
    return [dataset.labels[j] for j in np.flatnonzero((first >= 0) & (second >= 0) & (first != second))]


def _listing(table: _Table, dataset: Dataset) -> None:
    for name, labels in dataset.disputed.items():
        lines = dataset.repeats.get(name, ())
        where = f" (lines {', '.join(map(str, lines))})" if lines else ""
        if name in table.place:
            issue = "conflicting_rows" if lines else "names_against_columns"
            table.flag(issue, table.place[name], f"{', '.join(labels)}{where}")
    for name, lines in dataset.repeats.items():
        if name not in dataset.disputed and name in table.place:
            table.flag("listed_twice", table.place[name], f"lines {', '.join(map(str, lines))}", score=0.5)
    for i in np.flatnonzero((dataset.targets == 0).all(axis=1)).tolist():
        table.flag("no_label", i, score=0.5)
    for i in np.flatnonzero((dataset.targets < 0).all(axis=1)).tolist():
        table.flag("all_unknown", i)


def _entries(errors: pd.DataFrame) -> pd.DataFrame:
    """The rows of `label_errors` as findings."""
    words = {"missing": "not listed", "wrong": "listed"}
    return pd.DataFrame(
        {
            "image": errors["image"],
            "label": errors["label"],
            "issue": errors["kind"].astype(str) + "_label",
            "score": errors["score"],
            "flag": errors["flag"],
            "detail": [
                f"{words[kind]}, probability {probability:.2f}"
                for kind, probability in zip(errors["kind"].astype(str), errors["probability"], strict=True)
            ],
            "other": "",
            "probability": errors["probability"],
        }
    )

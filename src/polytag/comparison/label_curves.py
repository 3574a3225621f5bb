"""Label curves: the effect of each possible threshold of a label, for the interactive part of the report."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from polytag.evaluation.evaluate import Evaluation
from polytag.evaluation.reliability import reliability_bins

MOST_LABELS = 100
"""Maximum number of labels with curves, the most frequent first. The limit keeps the page small."""

CUTS = np.unique(np.concatenate([[0.001, 0.002, 0.005, 0.995, 0.998, 0.999], np.arange(1, 100) / 100]))
"""Thresholds that the slider offers."""

SCRIPT = (Path(__file__).parent / "label_curves.js").read_text(encoding="utf-8")
"""The script that draws the curves. By its hash, the page allows only this script to run."""


def label_curves(evaluation: Evaluation) -> dict[str, Any]:
    """Return the data and the script that the page needs to draw the curves.

    Returns:
        "curves": JSON with the thresholds. For each label, it also has the number of photos with the label, the label's
        own threshold, the numbers of assigned and correctly assigned photos at each threshold, and the reliability
        bins. "curve_labels": the labels in "curves". "script": the script. "script_hash": its hash, for the page's
        content security policy.
    """
    support = {label: evaluation.per_label[label]["support"] for label in evaluation.labels}
    frequent = sorted(evaluation.labels, key=lambda label: -support[label])[:MOST_LABELS]
    at = {label: j for j, label in enumerate(evaluation.labels)}
    labels = [_curve(evaluation, at[label]) for label in frequent if support[label]]
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return {
        "curves": json.dumps({"cuts": CUTS.round(3).tolist(), "labels": labels}, separators=(",", ":")),
        "curve_labels": [curve["label"] for curve in labels],
        "script": SCRIPT,
        "script_hash": f"sha256-{digest}",
    }


def _curve(evaluation: Evaluation, j: int) -> dict[str, Any]:
    known = evaluation.targets[:, j] >= 0
    targets, p = evaluation.targets[known, j], evaluation.probabilities[known, j].astype(np.float64)
    cuts = CUTS.astype(np.float32)
    given = len(p) - np.searchsorted(np.sort(p), cuts, side="left")
    hits = np.sort(p[targets == 1])
    mean, share, count = reliability_bins(targets, p)
    return {
        "label": evaluation.labels[j],
        "photos": int((targets == 1).sum()),
        "threshold": round(float(evaluation.thresholds[j]), 4),
        "given": given.tolist(),
        "hits": (len(hits) - np.searchsorted(hits, cuts, side="left")).tolist(),
        "bins": np.stack([mean, share, count], axis=1).round(3).tolist(),
    }

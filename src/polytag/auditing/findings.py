"""Build the table of findings, which has one row for each flagged photo, label or entry."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from polytag.auditing.issues import ISSUES

COLUMNS = ("image", "label", "issue", "score", "detail", "other", "probability")


def rows(
    issue: str,
    images: Sequence[str],
    details: Sequence[str] | str = "",
    others: Sequence[str] | str = "",
    scores: Sequence[float] | float = 0.0,
) -> pd.DataFrame:
    """Make findings about photos. A single value applies to all of them."""
    columns = {"image": images, "label": "", "issue": issue, "score": scores, "detail": details, "other": others}
    return pd.DataFrame(columns, index=range(len(images)))


def findings_table(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Combine findings into one table with the columns `COLUMNS`.

    Returns:
        The table, sorted by issue in the order of `ISSUES`, then by score, worst first. ``issue`` is an ordered
        categorical, ``score`` and ``probability`` are float32, and the other columns are str.
    """
    frames = [frame for frame in frames if len(frame)]
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))
    table = table.reindex(columns=list(COLUMNS))
    table["issue"] = pd.Categorical(table["issue"], list(ISSUES), ordered=True)
    table = table.astype({"score": np.float32, "probability": np.float32})
    return table.sort_values(["issue", "score"], kind="stable", ignore_index=True)

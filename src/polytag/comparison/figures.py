"""The figures of a report. Each function turns numbers into one Matplotlib figure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from polytag.comparison.contest import Contestant, Pair
from polytag.evaluation.evaluate import Difference, Evaluation
from polytag.evaluation.reliability import BINS
from polytag.pages.figures import (
    COLOURS,
    INK,
    LINE,
    MUTED,
    PAPER,
    axes_at,
    heatmap,
    name_rows,
    panel,
    room,
    short,
)

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
"""Marker of each model, in the same order as `COLOURS` and the columns of the tables."""

SYMBOLS = ("●", "■", "◆", "▲", "▼", "✚", "✖", "★")
"""The same markers as text."""


def colour_of(index: int) -> str:
    """Return the color of the model in this column of the tables."""
    return COLOURS[index % len(COLOURS)]


def difference_intervals(pairs: Sequence[Pair], metric: str, order: Sequence[str]) -> Figure:
    """Draw the difference of each pair in one score with its 95% interval, and a line at zero.

    A filled marker in the color of the leading model means that the difference is more than chance. A hollow gray
    marker means that the difference may be chance.
    """
    names = [f"{short(p.a, 16)} − {short(p.b, 16)}" for p in pairs]
    left = room(names)
    figure, axes = panel(4.4, 0.6 + 0.34 * len(pairs), left=left, right=0.6, bottom=0.32)
    for y, pair in enumerate(pairs):
        difference = _of_metric(pair, metric)
        if not math.isfinite(difference.difference):
            axes.text(0, y, " not defined", va="center", color=MUTED)
            continue
        ahead = order.index(pair.a if difference.difference > 0 else pair.b)
        colour = colour_of(ahead) if difference.beyond_chance else MUTED
        if math.isfinite(difference.low):
            axes.plot([difference.low, difference.high], [y, y], color=colour, linewidth=2, solid_capstyle="round")
        face = colour if difference.beyond_chance else PAPER
        marker = MARKERS[ahead % len(MARKERS)] if difference.beyond_chance else "o"
        axes.plot(difference.difference, y, marker, color=colour, markerfacecolor=face, markersize=6.5)
        axes.text(1.02, y, f"{difference.difference:+.3f}", **_beside(axes))
    axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (3, 2)))
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(max(1, int((3.8 - left) / 0.55))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.2g}" if abs(value) > 1e-9 else "0"))
    name_rows(axes, names, left)
    return figure


def _of_metric(pair: Pair, metric: str) -> Difference:
    return next(d for d in pair.differences if d.metric == metric)


def label_f1(evaluations: Sequence[Evaluation], labels: Sequence[str]) -> Figure:
    """Draw the F1 of some labels, one row per label, with a marker and an interval per model, and the photo count."""
    # All charts leave the same room for label names, so that charts side by side have the same scale.
    left = room([short(label) for label in evaluations[0].labels])
    height = 0.16 + 0.06 * len(evaluations)
    figure, axes = panel(4.4, 0.54 + height * len(labels), left=left, right=0.6, top=0.24, bottom=0.3)
    for i, evaluation in enumerate(evaluations):
        f1 = [evaluation.per_label[label]["f1"] for label in labels]
        apart = (i - (len(evaluations) - 1) / 2) * 0.7 / len(evaluations)
        rows, marker = np.arange(len(labels)) + apart, MARKERS[i % len(MARKERS)]
        for y, label in zip(rows, labels, strict=True):
            ends = evaluation.label_intervals[label]["f1"]
            axes.plot(ends, [y, y], color=colour_of(i), alpha=0.55, linewidth=1.8, solid_capstyle="round")
        axes.plot(f1, rows, marker, color=colour_of(i), markersize=4, clip_on=False)
    for y, label in enumerate(labels):
        axes.text(1.12, y, f"{evaluations[0].per_label[label]['support']:,}", ha="right", **_beside(axes))
        if not any(math.isfinite(e.per_label[label]["f1"]) for e in evaluations):
            axes.text(0.01, y, "not in the test set", va="center", color=MUTED)
    axes.text(1.12, -0.9, "photos", ha="right", **_beside(axes) | {"color": MUTED})
    axes.set_xlim(0, 1)
    name_rows(axes, [short(label) for label in labels], left)
    return figure


def _beside(axes: Axes) -> dict[str, Any]:
    return {"transform": axes.get_yaxis_transform(), "va": "center", "color": INK}


def learning_curve(contestants: Sequence[Contestant], validation: str, training: str | None = None) -> Figure:
    """Draw one quantity on the validation photos (solid) and one on the training photos (dotted), by epoch.

    A marker shows the epoch whose weights are in the bundle.
    """
    figure, axes = panel(4.4, 2.9, left=0.5, right=0.15, bottom=0.5)
    heights: list[float] = []
    for i, contestant in enumerate(contestants):
        epochs = np.arange(1, len(contestant.history) + 1)
        for name, style, width in ((training, (0, (1, 1.5)), 1.4), (validation, "-", 1.8)):
            if name and len(epochs):
                values = np.array([epoch.get(name, math.nan) for epoch in contestant.history], dtype=float)
                heights += values[np.isfinite(values) & (values > 0)].tolist()
                lone = "." if len(epochs) == 1 else ""
                axes.plot(epochs, values, color=colour_of(i), linestyle=style, linewidth=width, marker=lone)
        kept = contestant.kept_epoch
        if kept is not None:
            value = contestant.history[kept].get(validation, math.nan)
            axes.plot(kept + 1, value, MARKERS[i % len(MARKERS)], color=colour_of(i), markersize=7)
    # The loss in the first epochs can be many times the loss in later epochs.
    if training and heights and max(heights) > 6 * min(heights):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)
    axes.set_xlim(0.5, max([2, *(len(c.history) for c in contestants)]) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_xlabel("epoch", color=MUTED)
    return figure


def trial_scores(trials: Sequence[Mapping[str, Any]], best: int | None, colour: str) -> Figure:
    """Draw the score of each trial of a search.

    The marker is filled if the trial was completed, hollow if it was stopped early, and × if it failed. The line shows
    the best completed trial so far.
    """
    figure, axes = panel(4.4, 2.4, left=0.5, right=0.15, bottom=0.5)
    scored = [trial["score"] for trial in trials if trial.get("score") is not None]
    floor = min(scored, default=0.0)
    for number, trial in enumerate(trials, start=1):
        if trial.get("score") is None:
            axes.plot(number, floor, "x", color=MUTED, markersize=6)
        else:
            face = colour if trial.get("state") == "complete" else PAPER
            axes.plot(number, trial["score"], "o", color=colour, markerfacecolor=face, markersize=6)
    complete = [
        t["score"] if t.get("state") == "complete" and t.get("score") is not None else -math.inf for t in trials
    ]
    so_far = np.maximum.accumulate(complete) if complete else np.empty(0)
    so_far = np.where(np.isfinite(so_far), so_far, np.nan)
    axes.plot(np.arange(1, len(trials) + 1), so_far, color=colour, linewidth=1.4, drawstyle="steps-post", zorder=1)
    if best is not None:
        axes.plot(best + 1, trials[best]["score"], "o", color=INK, markerfacecolor="none", markersize=12)
    axes.margins(x=0.06, y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_xlabel("trial", color=MUTED)
    return figure


def importance_bars(importance: Mapping[str, float], colour: str) -> Figure:
    """Draw, one row per hyperparameter, the fraction of the differences between trials that it explains."""
    names = [short(name.replace("_", " ")) for name in importance]
    left = room(names)
    figure, axes = panel(4.4, 0.4 + 0.26 * len(names), left=left, right=0.6, bottom=0.3)
    axes.barh(np.arange(len(names)), list(importance.values()), 0.5, color=colour, alpha=0.55, linewidth=0)
    for y, share in enumerate(importance.values()):
        axes.text(1.02, y, f"{share:.0%}", **_beside(axes))
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    name_rows(axes, names, left)
    return figure


def confusion_heatmap(counts: NDArray[np.integer], labels: Sequence[str]) -> Figure:
    """Draw the number of photos in which the row's label was missed and the column's label was wrongly assigned.

    Args:
        counts: int (k, k), the number of photos. All-zero rows and columns are omitted.
        labels: the k labels.
    """
    missed, given = (np.flatnonzero(counts.sum(axis=axis)) for axis in (1, 0))
    counts = counts[np.ix_(missed, given)]
    rows, columns = [short(labels[int(i)]) for i in missed], [short(labels[int(i)]) for i in given]
    return heatmap(np.where(counts, counts, np.nan), rows, columns, "given", "missed")


def reliability(mean: NDArray[np.float64], share: NDArray[np.float64], count: NDArray[np.int64], index: int) -> Figure:
    """Draw how often labels were present against their predicted probability; a perfect model is on the diagonal.

    The bars below show, on a logarithmic scale, the number of probabilities behind each point.

    Args:
        mean, share, count: as `polytag.evaluation.reliability.reliability_bins` returns them.
        index: column of the model in the tables, which determines its color.
    """
    figure, axes = panel(2.9, 3.55, left=0.5, right=0.12, bottom=1.35)
    counts = axes_at(figure, 0.5, 0.5, 2.9 - 0.5 - 0.12, 0.65)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
    axes.plot(mean, share, color=colour_of(index), linewidth=1.4)
    axes.scatter(mean, share, s=22, color=colour_of(index), linewidths=0, zorder=3, clip_on=False)
    ticks, named = [0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"]
    axes.set_ylim(0, 1)
    axes.set_xticks(ticks, [""] * 5)
    axes.set_yticks(ticks, named)
    axes.set_ylabel("fraction with the label", color=MUTED)
    # Each bar stands at its bin, not at the mean probability. Bars start at 0.5, because a log scale cannot show 0.
    middles = (np.floor(mean * BINS).clip(max=BINS - 1) + 0.5) / BINS
    counts.bar(middles, count - 0.5, 0.8 / BINS, 0.5, color=colour_of(index), alpha=0.55, linewidth=0)
    counts.set_yscale("log")
    counts.set_ylim(0.5, 3 * max(10, count.max(initial=1)))
    counts.yaxis.set_major_locator(LogLocator(numticks=4))
    counts.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _thousands(value)))
    counts.yaxis.set_minor_formatter(NullFormatter())
    counts.tick_params(which="minor", length=0)
    counts.set_xticks(ticks, named)
    counts.set_xlabel("probability", color=MUTED)
    counts.set_ylabel("how many", color=MUTED)
    for each in (axes, counts):
        each.set_xlim(0, 1)
        each.grid(color=LINE, linewidth=0.8)
    return figure


def _thousands(value: float) -> str:
    """Format a number as 1, 10, 100, 1k, 10k, …"""
    return f"{value:g}" if value < 1000 else f"{value / 1000:g}k"


def by_f1(evaluation: Evaluation) -> list[str]:
    """Return the labels by F1, best first. Labels that are too rare to score or have no F1 come last."""

    def key(label: str) -> tuple[bool, float]:
        f1 = evaluation.per_label[label]["f1"]
        return label in evaluation.too_rare, -f1 if math.isfinite(f1) else 1.0

    return sorted(evaluation.labels, key=key)


def outcomes(evaluation: Evaluation, photos: slice = slice(None)) -> dict[str, NDArray[np.bool_]]:
    """Return where labels were wrong, missed, right, assigned with an unknown truth, or correctly not assigned.

    Labels that were correctly not assigned are called "absent". Each array is bool (n, k) for the given photos.
    """
    targets, given = evaluation.targets[photos], evaluation.probabilities[photos] >= evaluation.thresholds
    present, absent = targets == 1, targets == 0
    return {
        "wrong": given & absent,
        "missed": ~given & present,
        "right": given & present,
        "unknown": given & (targets < 0),
        "absent": ~given & absent,
    }

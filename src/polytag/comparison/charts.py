"""The charts of a report. Each comes with the finding that it shows and an explanation of how to read it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from polytag.comparison import figures
from polytag.comparison.contest import Contest, Contestant
from polytag.comparison.doubts import FEW_TRIALS, in_text
from polytag.errors import counted
from polytag.evaluation.evaluate import MAIN_SCORES, Evaluation
from polytag.evaluation.metrics import TITLES
from polytag.evaluation.reliability import reliability_bins
from polytag.evaluation.selection import SCORE_TITLE, VALIDATION_SCORE
from polytag.pages.figures import Chart, svg
from polytag.pages.text import joined

LABELS_IN_COLUMN = 12
"""Maximum number of labels drawn in one column. With more labels, two columns are used."""

LABELS_IN_MATRIX = 60
"""Maximum number of labels in the confusion matrix. With more labels, the confusions are listed instead."""

CONFUSIONS = 20
"""Maximum number of confusions listed."""


def charts(contest: Contest) -> dict[str, Any]:
    """Draw the charts, and collect the numbers shown next to them."""
    contestants, best = contest.contestants, contest.ranked[0].evaluation
    order = figures.by_f1(best)
    columns = 1 if len(order) <= LABELS_IN_COLUMN else 2
    parts = [order[i * len(order) // columns : (i + 1) * len(order) // columns] for i in range(columns)]
    drawn = [figures.label_f1([c.evaluation for c in contestants], part) for part in parts]
    return {
        "symbols": [(c.name, figures.SYMBOLS[i % 8], i % 8) for i, c in enumerate(contestants)],
        "differences": [_difference_chart(contest, metric) for metric in MAIN_SCORES if contest.pairs],
        "label_finding": _label_finding(contest),
        "label_pictures": [Markup(svg(figure, f"labels{i}")) for i, figure in enumerate(drawn)],
        "learning": _learning_charts(contestants) if any(c.history for c in contestants) else [],
        "searches": [_search(c, i) for i, c in enumerate(contestants) if c.trials],
        "outcomes": _outcome_rows(best),
        **_confusions(best),
        "calibration": [_calibration_chart(c, i) for i, c in enumerate(contestants)],
    }


def _difference_chart(contest: Contest, metric: str) -> Chart:
    leader = max(contest.ranked, key=lambda c: np.nan_to_num(contest.score(c, metric), nan=-1.0))
    doubtful = [
        other.name
        for other in contest.ranked
        if other is not leader and not contest.between(leader.name, other.name)[metric].beyond_chance
    ]
    finding = f"its lead over {joined(doubtful)} may be chance" if doubtful else "beyond chance"
    title = f"{leader.name.capitalize()} leads in {in_text(metric)}, {finding}"
    if not np.isfinite(contest.score(leader, metric)):
        title = f"{TITLES[metric]} is not defined on these photos"
    if len(contest.ranked) == 1:
        title = f"{TITLES[metric]} of the quantized model and its original"
    numbers = [(p, d) for p in contest.pairs for d in p.differences if d.metric == metric]
    return Chart.of(
        f"difference-{metric}",
        figures.difference_intervals(contest.pairs, metric, [c.name for c in contest.contestants]),
        title,
        "; ".join(
            f"{p.a} minus {p.b} {d.difference:+.3f}, from {d.low:+.3f} to {d.high:+.3f}"
            for p, d in numbers
            if np.isfinite(d.difference)
        ),
    )


def _label_finding(contest: Contest) -> str:
    """Say on how many labels each model comes first."""
    rare = contest.contestants[0].evaluation.too_rare
    labels = [label for label in contest.labels if label not in rare]
    models = contest.ranked
    f1 = np.array([[c.evaluation.per_label[label]["f1"] for label in labels] for c in models])
    f1 = f1[:, np.isfinite(f1).any(axis=0)]
    if len(models) == 1 or not f1.size:
        return f"F1 ranges from {np.min(f1):.2f} to {np.max(f1):.2f}" if f1.size else "No label can be scored"
    first = (f1 == np.nanmax(f1, axis=0)).sum(axis=1)
    name = models[int(first.argmax())].name
    return f"{name.capitalize()} has the highest F1 on {first.max()} of {counted(f1.shape[1], 'label')}"


def _learning_charts(contestants: Sequence[Contestant]) -> list[Chart]:
    overfitted, reached = [], []
    for c in contestants:
        losses = np.array([epoch.get("validation_loss", math.nan) for epoch in c.history])
        if np.isfinite(losses).any() and losses[-1] > 1.1 * np.nanmin(losses):
            overfitted.append((c.name, f"{c.name} after epoch {np.nanargmin(losses) + 1}"))
        if c.history:
            # Weights averaged over several training runs do not belong to one epoch.
            epoch = max(c.history, key=_validation_score) if c.kept_epoch is None else c.history[c.kept_epoch]
            kept = (
                "best of the averaged trainings"
                if c.kept_epoch is None
                else f"epoch {c.kept_epoch + 1} of {len(c.history)}"
            )
            reached.append((_validation_score(epoch), c.name, kept))
    reached.sort(reverse=True)
    first = f"{reached[0][1]} reached {reached[0][0]:.3f}" if reached else "not defined"
    kept_epochs = joined([f"{name} {score:.3f} ({epoch})" for score, name, epoch in reached])
    rose = f" Validation loss rose for {joined([when for _, when in overfitted])}." if overfitted else ""
    return [
        Chart.of(
            "loss",
            figures.learning_curve(contestants, "validation_loss", "loss"),
            f"Loss: {joined([name for name, _ in overfitted]) or 'no model'} overfitted in the end",
            f"Solid: validation photos. Dotted: training photos. Marker: the epoch whose weights were kept.{rose}",
        ),
        Chart.of(
            "map",
            figures.learning_curve(contestants, VALIDATION_SCORE),
            f"{SCORE_TITLE[0].upper()}{SCORE_TITLE[1:]}: {first}",
            f"Kept: {kept_epochs or 'none'}.",
        ),
    ]


def _validation_score(epoch: Mapping[str, float]) -> float:
    return epoch.get(VALIDATION_SCORE, math.nan)


def _search(contestant: Contestant, index: int) -> dict[str, Any]:
    """Return the trials of a search; ``best`` is the row of the trial that was trained in full."""
    trials = contestant.trials
    scored = [i for i, trial in enumerate(trials) if trial.get("score") is not None]
    complete = [i for i in scored if trials[i].get("state") == "complete"]
    best = max(complete or scored, key=lambda i: trials[i]["score"], default=None)
    states = [str(trial.get("state", "complete")) for trial in trials]
    meaning = {"complete": "completed (full)", "pruned": "stopped early as hopeless (hollow)", "fail": "failed (×)"}
    title = f"Search for {contestant.name}: none of {counted(len(trials), 'trial')} was scored"
    if best is not None:
        score = trials[best]["score"]
        title = f"Search for {contestant.name}: trial {best + 1} of {len(trials)} was best, {SCORE_TITLE} {score:.3f}"
    counts = joined([f"{states.count(state)} {meaning.get(state, state)}" for state in dict.fromkeys(states)])
    chart = Chart.of(
        f"trials{index}",
        figures.trial_scores(trials, best, figures.colour_of(index)),
        title,
        f"{counts}. The line is the best so far. Trials are shorter than the full training, which used the ringed "
        "settings.",
    )
    names = list(dict.fromkeys(name for trial in trials for name in trial if name not in ("score", "state")))
    return {
        "model": contestant.name,
        "chart": chart,
        "importance": _importance_chart(contestant, index) if contestant.importance else None,
        "names": names,
        "trials": trials,
        "best": best,
    }


def _importance_chart(contestant: Contestant, index: int) -> Chart:
    """Show how much each hyperparameter mattered in the search."""
    name, share = max(contestant.importance.items(), key=lambda item: item[1])
    complete = sum(trial.get("state") == "complete" for trial in contestant.trials)
    few = " With so few trials this is only a hint." if complete < FEW_TRIALS else ""
    return Chart.of(
        f"importance{index}",
        figures.importance_bars(contestant.importance, figures.colour_of(index)),
        f"{name.replace('_', ' ').capitalize()} mattered most: {share:.0%} of the differences between trials",
        f"Share of each hyperparameter in the variance of the scores of {counted(complete, 'completed trial')}, alone "
        f"and averaged over all others (fANOVA).{few}",
    )


def _outcome_rows(e: Evaluation) -> list[dict[str, Any]]:
    """Count how often each label was right, missed, wrong and correctly not assigned, and add its scores."""
    counts = {kind: where.sum(axis=0) for kind, where in figures.outcomes(e).items()}
    at = {label: j for j, label in enumerate(e.labels)}
    return [
        {
            "label": label,
            **e.per_label[label],
            "intervals": e.label_intervals[label],
            **{kind: int(counts[kind][at[label]]) for kind in counts},
        }
        for label in figures.by_f1(e)
    ]


def _confusions(e: Evaluation) -> dict[str, Any]:
    """Show which label was assigned when another was missed, as a matrix or, with too many labels, only as a list."""
    outcome = figures.outcomes(e)
    missed, wrong = outcome["missed"].astype(np.int32), outcome["wrong"].astype(np.int32)
    counts = missed.T @ wrong
    if not counts.any():
        return {"matrix": None, "confusions": [], "more_confusions": 0}
    pairs = np.flatnonzero(counts)
    pairs = pairs[np.argsort(-counts.ravel()[pairs], kind="stable")]
    times_missed = missed.sum(axis=0)
    listed = [
        {"missed": e.labels[a], "given": e.labels[b], "count": int(counts[a, b]), "of": int(times_missed[a])}
        for a, b in (divmod(int(pair), len(e.labels)) for pair in pairs[:CONFUSIONS])
    ]
    involved = max(np.count_nonzero(counts.sum(axis=0)), np.count_nonzero(counts.sum(axis=1)))
    matrix = _matrix(counts, e, listed[0]) if involved <= LABELS_IN_MATRIX else None
    return {"matrix": matrix, "confusions": listed, "more_confusions": len(pairs) - len(listed)}


def _matrix(counts: NDArray[np.int32], e: Evaluation, first: dict[str, Any]) -> Chart:
    return Chart.of(
        "confusions",
        figures.confusion_heatmap(counts, e.labels),
        f"Most frequent confusion: {first['given']} instead of {first['missed']}",
        f"{first['missed']} was missed in {counted(first['of'], 'photo')}; {first['count']:,} of them got "
        f"{first['given']}, which was not there. Each cell counts photos. A photo with several errors counts in "
        "several cells.",
    )


def _calibration_chart(contestant: Contestant, index: int) -> Chart:
    e = contestant.evaluation
    known = e.targets >= 0
    error = e.scores["calibration_error"]
    excess = float((e.probabilities[known] - e.targets[known]).mean()) if known.any() else math.nan
    direction = "mostly too low" if excess < -error / 2 else "mostly too high" if excess > error / 2 else "in both ways"
    likely = known & (e.probabilities >= 0.5)
    reading = "No label got a probability of 0.5 or more."
    if likely.any():
        said, was = float(e.probabilities[likely].mean()), float(e.targets[likely].mean())
        reading = f"Probabilities of 0.5 or more are {said:.2f} on average, and {was:.0%} of those labels were there."
    title = f"{contestant.name.capitalize()}: calibration error {error:.3f}"
    bins = reliability_bins(e.targets, e.probabilities)
    suffix = f", {direction}" if error > 0.02 else ""
    return Chart.of(f"calibration{index}", figures.reliability(*bins, index), f"{title}{suffix}", reading)

"""The report: what a contest found, as one page to look at (report.html) and as text (report.md).

Findings are put into words here, from the numbers alone; the words that never change are in the two
templates.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from numpy.typing import NDArray

from polytag.comparison import figures
from polytag.comparison.contest import DECISIVE, Contest, Contestant, Pair, table
from polytag.errors import ImageError, counted, listed
from polytag.evaluation.calibration import in_words
from polytag.evaluation.evaluate import MAIN_SCORES, Evaluation
from polytag.evaluation.metrics import TITLES, VALIDATION_SCORE
from polytag.evaluation.objectives import aim
from polytag.files import write_atomically
from polytag.pages.figures import Chart, svg
from polytag.pages.markdown import as_it_is
from polytag.pages.page import environment
from polytag.pages.text import joined
from polytag.pages.thumbnails import thumbnail

PHOTOS_SHOWN = 8
LABELS_IN_COLUMN = 12

FEW_TEST_PHOTOS, FEW_POSITIVES, FEW_TRIALS = 300, 20, 20
"""Below these a number is called uncertain."""

NAMED = 20
"""Most labels or photos that one sentence names."""


def write_report(folder: Path, contest: Contest, photos: Mapping[str, str]) -> Path:
    """Write report.html and report.md.

    Args:
        folder: that exists.
        contest: with at least one contestant.
        photos: the file of each test photo, by its name in `Evaluation.names`, for thumbnails. A photo that
            is missing here or on disk is shown as a placeholder.

    Returns:
        The path of report.html, which refers to nothing outside itself.
    """
    words = _words(contest)
    pictures = _charts(contest) | _photos(contest.ranked[0].evaluation, photos)
    page = _environment(autoescape=True).get_template("report.html").render(words | pictures)
    text = _environment(finalize=as_it_is).get_template("report.md").render(words)
    for name, content in (("report.md", text), ("report.html", page)):
        with write_atomically(folder / name) as file:
            file.write(content)
    return folder / "report.html"


def _environment(**escaping: Any) -> Environment:
    templates = environment(Path(__file__).parent, **escaping)
    templates.filters |= {
        "score": lambda value: f"{value:.3f}" if math.isfinite(value) else "–",
        "setting": lambda value: f"{value:.3g}" if isinstance(value, float) else value,
        "signed": lambda value: f"{value:+.3f}" if math.isfinite(value) else "–",
    }
    return templates


def _words(contest: Contest) -> dict[str, Any]:
    """What both forms of the report tell."""
    best = contest.ranked[0]
    return {
        "contest": contest,
        "best": best,
        "question": f"Which approach tags {contest.data_name} best?"
        if contest.pairs
        else f"How well does {best.name} tag {contest.data_name}?",
        "facts": {
            "Photos": f"{contest.images:,}",
            "Labels": f"{len(contest.labels):,}",
            "Split": " · ".join(f"{n:,} {part}" for part, n in contest.parts.items()),
            "Seed": contest.seed,
            "polytag": contest.version,
            "Fingerprint": contest.fingerprint,
        },
        "titles": TITLES,
        "rows": _rows(contest),
        "comparisons": [(pair, _compared(pair)) for pair in contest.pairs],
        "labels": figures.by_f1(best.evaluation),
        "calibrated": [(c.name, in_words(**c.calibration)) for c in contest.contestants],
        "aims": [(c.name, c.objective, aim(c.objective, c.out_of_reach)) for c in contest.contestants],
        "doubts": _doubts(contest),
        "notes": list(dict.fromkeys((*contest.notes, *best.evaluation.notes))),
    }


def _rows(contest: Contest) -> list[dict[str, Any]]:
    """The table, each cell with its interval apart and whether it is the best of its row."""
    metrics = {title: name for name, title in TITLES.items()} | {"Average per-label accuracy": "label_accuracy"}
    rows = []
    for title, *texts in table(contest)[1:]:
        metric = metrics.get(title, "")
        lower = metric.endswith(("loss", "error"))
        # Compared as they are shown: what reads the same is equally good.
        values = [float(text.split()[0]) if metric else math.nan for text in texts]
        finite = [value for value in values if math.isfinite(value)]
        top = (min if lower else max)(finite) if len(finite) > 1 else None
        cells = []
        for text, value in zip(texts, values, strict=True):
            number, _, interval = text.partition(" ") if metric else (text, "", "")
            undefined = metric and not math.isfinite(value)
            cells.append(("–", "", False) if undefined else (number, interval, value == top))
        ranked = "" if top is None else "ranked"
        rows.append({"title": title, "lower": lower, "main": metric in MAIN_SCORES, "ranked": ranked, "cells": cells})
    return rows


def _compared(pair: Pair) -> str:
    """What the intervals of a pair say, in one sentence."""
    found: dict[str, list[str]] = {"better": [], "worse": [], "unclear": []}
    for d in pair.differences:
        if math.isfinite(d.difference):
            verdict = ("better" if d.difference > 0 else "worse") if d.beyond_chance else "unclear"
            found[verdict].append(f"{_in_text(d.metric)} ({d.difference:+.3f})")
    told = [f"{way} beyond chance in {joined(found[way])}" for way in ("better", "worse") if found[way]]
    if found["unclear"]:
        told.append(f"the difference in {joined(found['unclear'])} may be chance")
    return f"{'; '.join(told) or 'no score is defined for both'}."


def _charts(contest: Contest) -> dict[str, Any]:
    """The pictures of the page, and the numbers that stand beside them."""
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
        "confusion": _confusion_rows(best),
        "mistaken": _mistaken_chart(best),
        "calibration": [_calibration_chart(c, i) for i, c in enumerate(contestants)],
    }


def _difference_chart(contest: Contest, metric: str) -> Chart:
    leader = max(contest.contestants, key=lambda c: np.nan_to_num(c.evaluation.scores[metric], nan=-1.0))
    doubtful = [
        other.name
        for other in contest.contestants
        if other is not leader and not contest.between(leader.name, other.name)[metric].beyond_chance
    ]
    finding = f"its lead over {joined(doubtful)} may be chance" if doubtful else "beyond chance"
    numbers = [(p, d) for p in contest.pairs for d in p.differences if d.metric == metric]
    return Chart.of(
        f"difference-{metric}",
        figures.difference_intervals(contest.pairs, metric, [c.name for c in contest.contestants]),
        f"{leader.name.capitalize()} leads in {_in_text(metric)}, {finding}",
        "; ".join(f"{p.a} minus {p.b} {d.difference:+.3f}, from {d.low:+.3f} to {d.high:+.3f}" for p, d in numbers),
    )


def _label_finding(contest: Contest) -> str:
    """Which model is first on how many labels."""
    f1 = np.array([[c.evaluation.per_label[label]["f1"] for label in contest.labels] for c in contest.contestants])
    f1 = f1[:, np.isfinite(f1).any(axis=0)]
    if not contest.pairs or not f1.size:
        return f"F1 runs from {np.min(f1):.2f} to {np.max(f1):.2f}" if f1.size else "F1 is defined for no label"
    first = (f1 == np.nanmax(f1, axis=0)).sum(axis=1)
    name = contest.contestants[int(first.argmax())].name
    return f"{name.capitalize()} has the highest F1 on {first.max()} of {counted(f1.shape[1], 'label')}"


def _learning_charts(contestants: Sequence[Contestant]) -> list[Chart]:
    overfitted, reached = [], []
    for c in contestants:
        losses = np.array([epoch.get("validation_loss", math.nan) for epoch in c.history])
        if np.isfinite(losses).any() and losses[-1] > 1.1 * np.nanmin(losses):
            overfitted.append((c.name, f"{c.name} after epoch {np.nanargmin(losses) + 1}"))
        if c.history:
            # The mean of several trainings is of no epoch.
            kept = "averaged trainings" if c.kept_epoch is None else f"epoch {c.kept_epoch + 1} of {len(c.history)}"
            reached.append((c.validation_score, c.name, kept))
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
            f"Validation mAP: {first}",
            f"Kept: {kept_epochs or 'none'}.",
        ),
    ]


def _search(contestant: Contestant, index: int) -> dict[str, Any]:
    """The trials of a search; ``best`` is the row of the one that was trained in full."""
    trials = contestant.trials
    scored = [i for i, trial in enumerate(trials) if trial.get("score") is not None]
    complete = [i for i in scored if trials[i].get("state") == "complete"]
    best = max(complete or scored, key=lambda i: trials[i]["score"], default=None)
    states = [str(trial.get("state", "complete")) for trial in trials]
    meaning = {"complete": "completed (full)", "pruned": "stopped early as hopeless (hollow)", "fail": "failed (×)"}
    title = f"Search for {contestant.name}: none of {counted(len(trials), 'trial')} was scored"
    if best is not None:
        score = trials[best]["score"]
        title = f"Search for {contestant.name}: trial {best + 1} of {len(trials)} was best, validation mAP {score:.3f}"
    chart = Chart.of(
        f"trials{index}",
        figures.trial_scores(trials, best, figures.colour_of(index)),
        title,
        f"{joined([f'{states.count(state)} {meaning.get(state, state)}' for state in dict.fromkeys(states)])}. "
        "The line is the best so far. Trials are cheaper than the full training, which the ringed one's settings got.",
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
    """Which hyperparameters made the difference in the search."""
    name, share = max(contestant.importance.items(), key=lambda item: item[1])
    complete = sum(trial.get("state") == "complete" for trial in contestant.trials)
    few = " With so few it is a hint, no more." if complete < FEW_TRIALS else ""
    return Chart.of(
        f"importance{index}",
        figures.importance_bars(contestant.importance, figures.colour_of(index)),
        f"{name.replace('_', ' ').capitalize()} mattered most: {share:.0%} of the differences between trials",
        f"The share of each hyperparameter in the variance of the {counted(complete, 'completed trial')}' scores, "
        f"alone and averaged over all others (fANOVA).{few}",
    )


def _confusion_rows(e: Evaluation) -> list[dict[str, Any]]:
    """Of each label how often it was right, missed, wrong and rightly not given, and its scores."""
    counts = {kind: where.sum(axis=0) for kind, where in figures.outcomes(e).items()}
    return [
        {"label": label, **e.per_label[label], **{kind: int(counts[kind][e.labels.index(label)]) for kind in counts}}
        for label in figures.by_f1(e)
    ]


def _mistaken_chart(e: Evaluation) -> Chart | None:
    """What was given where something else was missed; ``None`` if that never happened."""
    outcome = figures.outcomes(e)
    counts = outcome["missed"].T.astype(np.int64) @ outcome["wrong"].astype(np.int64)
    if not counts.any():
        return None
    a, b = np.unravel_index(counts.argmax(), counts.shape)
    missed = counted(int(outcome["missed"][:, a].sum()), "photo")
    most = max(np.count_nonzero(counts.sum(axis=0)), np.count_nonzero(counts.sum(axis=1)))
    rest = f" The {figures.LABELS_IN_HEATMAP} most frequent are shown." if most > figures.LABELS_IN_HEATMAP else ""
    return Chart.of(
        "mistaken",
        figures.confusion_heatmap(counts, e.labels),
        f"The commonest confusion: {e.labels[a]} is missed and {e.labels[b]} given",
        f"Of the {missed} in which {e.labels[a]} was missed, {counts[a, b]:,} were given {e.labels[b]} though it was "
        f"not there. Each cell counts photos; a photo with several errors counts in several cells.{rest}",
    )


def _calibration_chart(contestant: Contestant, index: int) -> Chart:
    e = contestant.evaluation
    known = e.targets >= 0
    error = e.scores["calibration_error"]
    excess = float((e.probabilities[known] - e.targets[known]).mean()) if known.any() else math.nan
    manner = "mostly too low" if excess < -error / 2 else "mostly too high" if excess > error / 2 else "either way"
    likely = known & (e.probabilities >= 0.5)
    reading = "No label was given a probability of 0.5 or more."
    if likely.any():
        said, was = float(e.probabilities[likely].mean()), float(e.targets[likely].mean())
        reading = f"Where it said 0.5 or more it said {said:.2f} on average, and {was:.0%} of those labels were there."
    title = f"{contestant.name.capitalize()}: off by {error:.3f}{', ' + manner if error > 0.02 else ''}"
    return Chart.of(f"calibration{index}", figures.reliability(e, index), title, reading)


def _photos(e: Evaluation, files: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The photos that were tagged worst and best, each picture once."""
    outcome = figures.outcomes(e)
    known, present = e.targets >= 0, e.targets == 1
    p = np.clip(e.probabilities.astype(float), 1e-6, 1 - 1e-6)
    losses = np.where(known, -np.log(np.where(present, p, 1 - p)), 0)
    loss = losses.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    flawed: NDArray[np.bool_] = np.any(outcome["missed"] | outcome["wrong"], axis=1)

    def shown(rows: Iterable[int]) -> list[dict[str, Any]]:
        first: dict[int, int] = {}
        for i in rows:
            first.setdefault(int(e.groups[i]), int(i))
        return [_photo(e, i, files) for i in list(first.values())[:PHOTOS_SHOWN]]

    several_first = np.lexsort((loss, present.sum(axis=1) < 2))
    return {
        "worst_photos": shown(i for i in np.argsort(-loss, kind="stable") if flawed[i]),
        "best_photos": shown(i for i in several_first if present[i].any() and not flawed[i]),
    }


def _photo(e: Evaluation, i: int, files: Mapping[str, str]) -> dict[str, Any]:
    """A photo with its tags (kind, label, probability), and either its picture or the reason why there is none."""
    outcome = figures.outcomes(e)
    tags = [
        (kind, e.labels[j], float(e.probabilities[i, j]))
        for kind in ("wrong", "missed", "right", "unknown")
        for j in sorted(np.flatnonzero(outcome[kind][i]), key=lambda j: -e.probabilities[i, j])
    ]
    try:
        picture, reason = thumbnail(files.get(e.names[i], "")), ""
    except ImageError as error:
        picture, reason = "", str(error)
    return {"name": e.names[i], "tags": tags, "picture": picture, "reason": reason}


def _doubts(contest: Contest) -> list[str]:
    """Why not to trust these numbers too far, as far as the numbers themselves tell."""
    best, *others = contest.ranked
    e = best.evaluation
    n, unknown = len(e.names), e.targets < 0
    support = {label: int(e.per_label[label]["support"]) for label in e.labels}
    never = [label for label, photos in support.items() if not photos]
    few = [f"{label} ({photos})" for label, photos in support.items() if 0 < photos < FEW_POSITIVES]
    copies = n - len(np.unique(e.groups))
    judged = ~unknown.all(axis=0)
    absent = np.mean((e.targets == 0).sum(axis=0)[judged] / (~unknown).sum(axis=0)[judged])
    unproven = [c.name for c in others if not contest.between(best.name, c.name)[DECISIVE].beyond_chance]
    left_out = [f"{name} ({reason})" for name, reason in contest.left_out.items()]
    doubts = [
        (n < FEW_TEST_PHOTOS, f"The test set is small: {counted(n, 'photo')}. Rare errors go unseen."),
        (never, f"No test photo shows {listed(never, NAMED)}: how well that is tagged is not known."),
        (few, f"Fewer than {FEW_POSITIVES} test photos show {listed(few, NAMED)}: these scores are rough."),
        (unproven, f"The lead of {best.name} over {joined(unproven)} in samples-F1 may be chance."),
        (others, "The winner was picked by these same test photos, which flatters its score a little."),
        (
            True,
            f"Each model was trained once (seed {contest.seed}): intervals tell what other test photos would change, "
            "not what another training would.",
        ),
        *((True, doubt) for c in contest.contestants for doubt in _doubts_about_training(c)),
        (
            absent > 0.8,
            "Most labels are absent from most photos, so per-label accuracy is easily high: giving no label at all "
            f"would reach {absent:.3f}.",
        ),
        (
            unknown.any(),
            f"Unknown and not judged: {unknown.sum():,} of {unknown.size:,} test entries ({unknown.mean():.1%}).",
        ),
        (copies, f"Copies of others among the test photos: {copies:,}. Intervals count such a picture once."),
        (left_out, f"{counted(len(left_out), 'photo')} could not be used: {listed(left_out, NAMED)}."),
        (
            True,
            "Photos from elsewhere (other cameras, places, seasons, ways of labelling) may look different from these: "
            "expect lower scores there, and evaluate on some of your own.",
        ),
    ]
    return [doubt for applies, doubt in doubts if applies]


def _doubts_about_training(c: Contestant) -> list[str]:
    doubts = []
    if 0 < len(c.trials) < FEW_TRIALS:
        doubts.append(f"The search for {c.name} made only {counted(len(c.trials), 'trial')}: more may find better.")
    validation = c.validation_score
    test = c.evaluation.scores["mean_average_precision"]
    if abs(validation - test) > 0.05:
        why = "choosing by validation photos flattered it, or one" if validation > test else "one"
        numbers = f"{validation:.3f} on validation photos but {test:.3f} on test photos"
        doubts.append(f"The mAP of {c.name} is {numbers}: {why} of the two sets is small or peculiar.")
    return doubts


def _in_text(metric: str) -> str:
    """What a score is called within a sentence."""
    return TITLES[metric][0].lower() + TITLES[metric][1:]

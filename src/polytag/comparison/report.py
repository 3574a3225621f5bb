"""The report of a contest, as a page (report.html) and as text (report.md).

This package writes sentences that depend on the numbers. Sentences that never change are in the templates.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray

from polytag.comparison import figures
from polytag.comparison.charts import charts
from polytag.comparison.contest import Contest, Pair, rows
from polytag.comparison.doubts import doubts, in_text
from polytag.comparison.label_curves import label_curves
from polytag.errors import ImageError
from polytag.evaluation.evaluate import MAIN_SCORES, Evaluation
from polytag.evaluation.metrics import TITLES
from polytag.evaluation.objectives import aim
from polytag.evaluation.reliability import in_words
from polytag.files import write_atomically
from polytag.pages.markdown import as_it_is
from polytag.pages.page import environment
from polytag.pages.text import joined
from polytag.pages.thumbnails import thumbnail

PHOTOS_SHOWN = 8
"""Maximum number of photos in each gallery."""


def write_report(folder: Path, contest: Contest, photos: Mapping[str, str]) -> Path:
    """Write report.html and report.md.

    Args:
        folder: an existing folder.
        contest: the contest, with at least one contestant.
        photos: the file of each test photo, by its name in `Evaluation.names`, for thumbnails. If a photo is missing
            here or on disk, the report shows a placeholder.

    Returns:
        The path of report.html, which does not depend on any other file.
    """
    words = _words(contest)
    pictures = (
        charts(contest) | label_curves(contest.ranked[0].evaluation) | _photos(contest.ranked[0].evaluation, photos)
    )
    page = _environment(autoescape=True).get_template("report.html").render(words | pictures)
    text = _environment(finalize=as_it_is).get_template("report.md").render(words)
    for name, content in (("report.md", text), ("report.html", page)):
        with write_atomically(folder / name) as file:
            file.write(content)
    return folder / "report.html"


def _environment(**escaping: Any) -> Environment:
    templates = environment(Path(__file__).parent, **escaping)
    templates.filters |= {
        "ends": lambda ends: f"{ends[0]:.3f} to {ends[1]:.3f}" if math.isfinite(ends[0]) else "–",
        "score": lambda value: f"{value:.3f}" if math.isfinite(value) else "–",
        "setting": lambda value: f"{value:.3g}" if isinstance(value, float) else value,
        "signed": lambda value: f"{value:+.3f}" if math.isfinite(value) else "–",
    }
    return templates


def _words(contest: Contest) -> dict[str, Any]:
    """Return the content that both formats of the report share."""
    best = contest.ranked[0]
    return {
        "contest": contest,
        "best": best,
        "question": f"Which model tags {contest.data_name} best?"
        if contest.pairs
        else f"How well does {best.name} tag {contest.data_name}?",
        "facts": {
            "Photos": f"{contest.images:,}",
            "Labels": f"{len(contest.labels):,}",
            "Split": " · ".join(f"{n:,} {part}" for part, n in contest.parts.items()),
            **_seeds(contest),
            "polytag": contest.version,
            "Fingerprint": contest.fingerprint,
        },
        "titles": TITLES,
        "main_scores": MAIN_SCORES,
        "rows": rows(contest),
        "comparisons": [(pair, _compared(pair)) for pair in contest.pairs],
        "varied": _varied(contest),
        "labels": figures.by_f1(best.evaluation),
        "slices": contest.slice_scores(),
        "calibrated": [(c.name, in_words(**c.calibration)) for c in contest.contestants],
        "aims": [(c.name, c.objective, aim(c.objective, c.out_of_reach)) for c in contest.contestants],
        "doubts": doubts(contest),
        "notes": list(dict.fromkeys((*contest.notes, *best.evaluation.notes))),
    }


def _seeds(contest: Contest) -> dict[str, Any]:
    if contest.repeats is None:
        return {"Seed": contest.seed}
    return {"Seeds": f"{contest.repeats.seeds[0]} to {contest.repeats.seeds[-1]}"}


def _varied(contest: Contest) -> str:
    """Describe the sources of variation that the intervals of differences account for."""
    if contest.repeats is None:
        models = "Every model was scored on the same test photos."
        changes = "other test photos would change, not what another training or split would"
    elif contest.repeats.one_split:
        models = "Every model was trained several times on the split that came with the data."
        changes = "other test photos and trainings would change, not what another split would"
    else:
        models = "Each repeat drew a new split and trained every model anew."
        changes = "other splits and trainings would change (corrected resampled t-test, Nadeau & Bengio 2003)"
    return (
        f"{models} The intervals say what {changes}. They hold together: if all models were equally good, the chance "
        "that this report finds any difference would be at most 5%."
    )


def _compared(pair: Pair) -> str:
    """Summarize in one sentence what the intervals of a pair show."""
    found: dict[str, list[str]] = {"better": [], "worse": [], "unclear": []}
    for d in pair.differences:
        if math.isfinite(d.difference):
            verdict = ("better" if d.difference > 0 else "worse") if d.beyond_chance else "unclear"
            found[verdict].append(f"{in_text(d.metric)} ({d.difference:+.3f})")
    said = [f"{way} beyond chance in {joined(found[way])}" for way in ("better", "worse") if found[way]]
    if found["unclear"]:
        said.append(f"the difference in {joined(found['unclear'])} may be chance")
    return f"{'; '.join(said) or 'no score is defined for both'}."


def _photos(e: Evaluation, files: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Return the photos with the worst and the best tags, at most one from each group."""
    outcome = figures.outcomes(e)
    known, present = e.targets >= 0, e.targets == 1
    p = np.clip(e.probabilities.astype(float), 1e-6, 1 - 1e-6)
    losses = np.where(known, -np.log(np.where(present, p, 1 - p)), 0)
    loss = losses.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    flawed: NDArray[np.bool_] = np.any(outcome["missed"] | outcome["wrong"], axis=1)

    def shown(photos: Iterable[int]) -> list[dict[str, Any]]:
        first: dict[int, int] = {}
        for i in photos:
            first.setdefault(int(e.groups[i]), int(i))
        return [_photo(e, i, files) for i in list(first.values())[:PHOTOS_SHOWN]]

    several_first = np.lexsort((loss, present.sum(axis=1) < 2))
    return {
        "worst_photos": shown(i for i in np.argsort(-loss, kind="stable") if flawed[i]),
        "best_photos": shown(i for i in several_first if present[i].any() and not flawed[i]),
    }


def _photo(e: Evaluation, i: int, files: Mapping[str, str]) -> dict[str, Any]:
    """Return a photo's tags (kind, label, probability), and its thumbnail or the reason why there is no thumbnail."""
    tags = [
        (kind, e.labels[j], float(e.probabilities[i, j]))
        for kind, where in figures.outcomes(e, slice(i, i + 1)).items()
        if kind != "absent"
        for j in sorted(np.flatnonzero(where[0]), key=lambda j: -e.probabilities[i, j])
    ]
    try:
        picture, reason = thumbnail(files.get(e.names[i], "")), ""
    except ImageError as error:
        picture, reason = "", str(error)
    return {"name": e.names[i], "tags": tags, "picture": picture, "reason": reason}

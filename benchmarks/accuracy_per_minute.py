"""Accuracy per minute: polytag and transfer learning as in a typical notebook, on the same photos in one run.

    python benchmarks/accuracy_per_minute.py DATA --out FOLDER [--methods M,M] [--minutes 60] [--resume]

Methods: reference-frozen and reference-unfrozen (see reference.py), polytag-frozen, polytag (its defaults) and
polytag-N, which fine-tunes for N epochs. All share the split, the weights and the machine. Each method runs in its own
process, one after the other, with an empty cache. Its time runs from the start of the process to the written model
and includes imports, decoding and embedding, but not the measurements of this benchmark. Validation photos score each
epoch; test photos are scored once, after the clock has stopped.

FOLDER receives accuracy_per_minute.json after each method, which --resume continues, and a plot of the curves.
"""

import argparse
import json
import os
import re
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from processes import Clock, in_fresh_process, peak_megabytes

import polytag as pt
from polytag.data.dataset import PARTS, Dataset
from polytag.evaluation.evaluate import judge
from polytag.evaluation.metrics import scores
from polytag.evaluation.selection import VALIDATION_SCORE
from polytag.evaluation.thresholds import choose_thresholds
from polytag.files import write_json
from polytag.models.backbones.weights import find_weights, how_to_get_weights
from polytag.photos.measure import measure

METHODS = ("reference-frozen", "reference-unfrozen", "polytag-frozen", "polytag")
SCORES = ("mean_average_precision", "samples_f1", "subset_accuracy")

NAME_HEIGHT = 0.06
"""Height of a method's name in the plot, as a share of the axes."""

Result = dict[str, Any]


def reference(
    parts: Sequence[Dataset], image_size: int, weights: str, seed: int, unfrozen: bool, cap: float, started: float
) -> Result:
    """Train and score the reference in a new process; ``cap`` is in minutes."""
    clock = Clock(started)
    import reference

    imported = clock.seconds
    train, validation, test = parts
    curve: list[Result] = []
    capped = False

    def on_epoch(network: Any) -> bool:
        nonlocal capped
        minutes = clock.seconds / 60
        with clock.stopped():
            curve.append(point(minutes, validation, reference.predict(network, validation, image_size)))
        capped = minutes >= cap and len(curve) < reference.EPOCHS and not network.stop_training
        return capped

    network = reference.train(train, validation, image_size, weights, unfrozen, seed, on_epoch)
    with tempfile.TemporaryDirectory() as folder:
        network.save(Path(folder) / "model.keras")
    seconds, memory = clock.seconds, peak_megabytes()
    on_validation, on_test = (reference.predict(network, part, image_size) for part in (validation, test))
    return {
        "seconds": seconds,
        "import_seconds": imported,
        "epochs": len(curve),
        "capped": capped,
        "peak_megabytes": memory,
        "curve": [*curve, point(seconds / 60, validation, on_validation)],
        "test": judged(test, on_test, np.full(len(test.labels), 0.5, np.float32)),
        "test_with_chosen_thresholds": judged(test, on_test, choose_thresholds(validation.targets, on_validation)),
    }


def polytag(
    parts: Sequence[Dataset], image_size: int, weights: str, seed: int, fine_tune: int | None, started: float
) -> Result:
    """Train and score polytag's transfer model in a new process."""
    clock = Clock(started)
    from polytag.models.backend import keras

    imported = clock.seconds
    train, validation, test = parts
    curve: list[Result] = []

    def on_epoch_end(epoch: int, logs: dict[str, float]) -> None:
        if VALIDATION_SCORE in logs:
            curve.append({"minutes": clock.seconds / 60, "validation_map": logs[VALIDATION_SCORE]})

    plain_fit = keras.Model.fit

    def fit(self: keras.Model, *args: Any, callbacks: Sequence[Any] = (), **settings: Any) -> Any:
        # Must be the last callback: polytag's own write the epoch's score into the logs first.
        noting = keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)
        return plain_fit(self, *args, callbacks=[*callbacks, noting], **settings)

    keras.Model.fit = fit
    with tempfile.TemporaryDirectory() as folder:
        bundle = pt.fit(
            train,
            validation,
            "transfer",
            out=Path(folder) / "bundle",
            show_progress=False,
            image_size=image_size,
            weights=weights,
            seed=seed,
            fine_tune=fine_tune,
        )
        seconds, memory = clock.seconds, peak_megabytes()
        on_validation, on_test = (bundle.predict(part.paths)[0] for part in (validation, test))
        return {
            "seconds": seconds,
            "import_seconds": imported,
            "epochs": len(curve),
            "fine_tune": bundle.manifest["recipe"]["fine_tune"],
            "capped": False,
            "peak_megabytes": memory,
            "curve": [*curve, point(seconds / 60, validation, on_validation)],
            "test": judged(test, on_test, bundle.thresholds),
        }


def point(minutes: float, validation: Dataset, probabilities: NDArray[np.float32]) -> Result:
    """One point of the curve."""
    score = scores(validation.targets, probabilities)["mean_average_precision"]
    return {"minutes": minutes, "validation_map": score}


def judged(test: Dataset, probabilities: NDArray[np.float32], thresholds: NDArray[np.float32]) -> Result:
    """Each of `SCORES` with its 95 % interval."""
    evaluation = judge(test.labels, thresholds, test, test.targets, probabilities, 0.0, [])
    return {name: {"score": evaluation.scores[name], "interval": evaluation.intervals[name]} for name in SCORES}


def ratios(results: dict[str, Result]) -> list[Result]:
    """Ratios of each reference's time to each of polytag's: until the model is written, and until the reference's best
    validation mAP is reached (``None`` if polytag never reaches it)."""
    rows = []
    for slow, theirs in results.items():
        for quick, ours in results.items():
            if slow.startswith("reference") and quick.startswith("polytag"):
                level = max(p["validation_map"] for p in theirs["curve"])
                there, here = minutes_to(theirs["curve"], level), minutes_to(ours["curve"], level)
                rows.append(
                    {
                        "reference": slow,
                        "polytag": quick,
                        "to_model": theirs["seconds"] / ours["seconds"],
                        "level": level,
                        "to_level": None if there is None or here is None else there / here,
                        "capped": theirs["capped"],
                    }
                )
    return rows


def minutes_to(curve: Sequence[Result], level: float) -> float | None:
    """Minutes until a curve reaches this validation mAP; ``None`` if it never does."""
    return next((point["minutes"] for point in curve if point["validation_map"] >= level), None)


def table(results: dict[str, Result]) -> list[str]:
    """The printed lines."""
    rows = [["", "epochs", "minutes", "imports s", "peak MB", "validation mAP", "test mAP"]]
    rows[0] += ["samples-F1", "subset accuracy", "… F1", "… accuracy with thresholds from validation photos"]
    for name, result in results.items():
        own, chosen = result["test"], result.get("test_with_chosen_thresholds", result["test"])
        rows.append(
            [
                name + (" (stopped by --minutes)" if result["capped"] else ""),
                str(result["epochs"]),
                f"{result['seconds'] / 60:.2f}",
                f"{result['import_seconds']:.1f}",
                f"{result['peak_megabytes']:,.0f}",
                f"{result['curve'][-1]['validation_map']:.4f}",
                *(f"{own[score]['score']:.4f}" for score in SCORES),
                *(f"{chosen[score]['score']:.4f}" for score in SCORES[1:]),
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for row in ratios(results):
        least = "at least " if row["capped"] else ""
        level = (
            f"does not reach its best validation mAP ({row['level']:.4f})"
            if row["to_level"] is None
            else f"reaches its best validation mAP ({row['level']:.4f}) {row['to_level']:.1f} times as fast"
        )
        lines.append(
            f"{row['polytag']} is {least}{row['to_model']:.1f} times as fast as {row['reference']}, and {level}"
        )
    return lines


def draw(path: Path, results: dict[str, Result]) -> None:
    """Plot validation mAP over minutes, one line per method; it ends where the model is written."""
    # Imported late: the measured processes load this module too.
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from polytag.comparison.figures import MARKERS
    from polytag.pages.figures import COLOURS, INK, LINE, MUTED, panel

    figure, axes = panel(7.5, 4.2, left=0.7, right=2.1, bottom=0.55, top=0.2)
    axes.set_xscale("log")
    ends = []
    for i, (name, result) in enumerate(results.items()):
        minutes, values = np.array([(p["minutes"], p["validation_map"]) for p in result["curve"]]).T
        colour, style = COLOURS[i % len(COLOURS)], "--" if name.startswith("reference") else "-"
        axes.plot(minutes, values, style, color=colour, linewidth=1.8, marker=".", markersize=5)
        axes.plot(minutes[-1], values[-1], MARKERS[i % len(MARKERS)], color=colour, markersize=8)
        ends.append((values[-1], minutes[-1], f"{name}, {minutes[-1]:.1f} min", colour))
    # What matters is where each method ends; first epochs may lie far below.
    best = [max(p["validation_map"] for p in result["curve"]) for result in results.values()]
    low, high = min(best) - 0.05, max(best) + 0.01
    axes.set_ylim(low, high)
    ends.sort()
    heights = [(value - low) / (high - low) for value, *_ in ends]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + NAME_HEIGHT)
    for i, (value, minute, text, colour) in enumerate(ends):
        # Put each name beside the end of its line; no two overlap and none leaves the plot.
        height = min(heights[i], 1 - NAME_HEIGHT * (len(ends) - 1 - i))
        leader = {"arrowstyle": "-", "color": colour, "alpha": 0.6, "linewidth": 0.8, "shrinkB": 5, "relpos": (0, 0.5)}
        axes.annotate(
            text,
            (minute, max(value, low)),
            (1.03, height),
            textcoords="axes fraction",
            va="center",
            color=INK,
            fontsize=9,
            arrowprops=leader,
        )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_xlabel("minutes since the start", color=MUTED)
    axes.set_ylabel("validation mAP", color=MUTED)
    figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated methods")
    parser.add_argument(
        "--minutes", type=float, default=np.inf, help="the reference stops after the epoch that exceeds this"
    )
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0, help="seed of the split and of all training")
    parser.add_argument("--resume", action="store_true", help="keep the methods in FOLDER's JSON")
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    unknown = [m for m in methods if m not in METHODS and not re.fullmatch(r"polytag-\d+", m)]
    if unknown:
        raise SystemExit(f"--methods: expected {', '.join(METHODS)} or polytag-N, got {', '.join(unknown)}")
    file = arguments.out / "accuracy_per_minute.json"
    if file.exists() and not arguments.resume:
        raise SystemExit(f"{file} exists already: add --resume or name another folder")
    weights = find_weights().path
    if weights is None:
        raise SystemExit(f"this benchmark needs pretrained weights: {how_to_get_weights()}")

    data = pt.read(arguments.data, conflicts="unknown")
    data = data.without({path: str(error) for path, error in measure(data.paths).errors.items()})
    parts = pt.split(data, seed=arguments.seed)
    setting = {
        "data": data.title,
        "fingerprint": data.fingerprint,
        "photos": {name: len(part) for name, part in zip(PARTS, parts, strict=True)},
        "labels": len(data.labels),
        "image_size": arguments.image_size,
        "seed": arguments.seed,
        "cores": os.cpu_count(),
        "polytag": pt.__version__,
    }
    results = resumed(file, setting) if arguments.resume else {}
    arguments.out.mkdir(parents=True, exist_ok=True)
    given = (parts, arguments.image_size, str(weights), arguments.seed)
    for method in methods:
        if method in results:
            continue
        print(f"{method} …", flush=True)
        if method.startswith("reference"):
            run = partial(reference, *given, method == "reference-unfrozen", arguments.minutes)
        else:
            number = {"polytag": None, "polytag-frozen": 0}
            run = partial(polytag, *given, number[method] if method in number else int(method.rpartition("-")[2]))
        results[method] = rounded(in_fresh_process(run, time.time()))
        write_json(file, {**setting, "methods": results, "ratios": rounded(ratios(results))})
    draw(file.with_suffix(".png"), results)
    print(*table(results), file, sep="\n")


def resumed(file: Path, setting: Result) -> dict[str, Result]:
    """Read the finished methods; refuse those of other settings, which cannot be compared."""
    if not file.exists():
        return {}
    before = json.loads(file.read_text())
    changed = [name for name in setting if before.get(name) != setting[name]]
    if changed:
        raise SystemExit(f"{file} was made with another {', '.join(changed)}: name another folder with --out")
    return before["methods"]


def rounded(value: Any) -> Any:
    """Round to five digits, more than any of these figures is worth."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    main()

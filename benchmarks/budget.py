"""What a number of minutes gives, and whether runs end in time.

    python benchmarks/budget.py DATA --minutes 2 5 15 --out FILE [--seeds 0 1 2] [--model best]
                                [--picture FILE.png] [--beside accuracy_per_minute.json]

Each run is `polytag train --minutes` in a process of its own, with an empty cache; minutes count from its start to its
end. Its test photos are those of the split with the same seed, scored once. The JSON FILE keeps finished runs; run the
command again to add missing ones. Alone on the machine only: other work makes the budget buy less.

The picture shows test mAP over the minutes that all runs in FILE took: the mean and the range of the seeds. --beside
adds the methods of `accuracy_per_minute.py`, measured on the same data and machine (its polytag is called transfer).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import polytag as pt
from polytag.files import write_json

CPU_INFO = Path("/proc/cpuinfo")

SCORES = ("mean_average_precision", "samples_f1", "subset_accuracy")


def processor() -> str:
    """Return the processor's name, its cores and its instructions for bfloat16."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    fields = dict(line.partition(":")[::2] for line in lines if ":" in line)
    found = {name.strip(): value.strip() for name, value in fields.items()}
    flags = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in found.get("flags", "").split()]
    return f"{found.get('model name', 'unknown')}, {os.cpu_count()} cores, {' '.join(flags) or 'no bfloat16'}"


def measured(data: pt.Dataset, source: str, model: str, minutes: float, seed: int) -> dict:
    """Train in a process of its own, and score the model."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        command = [sys.executable, "-m", "polytag", "train", source, "--model", model, "--conflicts", "unknown"]
        command += ["--minutes", str(minutes), "--seed", str(seed), "--out", str(bundle)]
        start = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | {"POLYTAG_CACHE": f"{folder}/cache"}, capture_output=True)
        taken = (time.perf_counter() - start) / 60
        trained = pt.Bundle(bundle)
        evaluation = pt.evaluate(trained, pt.split(data, seed=seed)[2])
        facts = trained.manifest
        return {
            "taken": taken,
            "budget": facts["budget"],
            "fine_tuning": facts.get("fine_tuning"),
            **{score: evaluation.scores[score] for score in SCORES},
        }


def every(runs: dict[str, dict]) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return the mean time and mAP of all runs with the same minutes, and the lowest and highest mAP."""
    by_minutes: dict[float, list[dict]] = {}
    for key, run in runs.items():
        by_minutes.setdefault(float(key.split()[0]), []).append(run)
    same = [by_minutes[minutes] for minutes in sorted(by_minutes)]
    means = [tuple(float(np.mean([run[name] for run in group])) for name in ("taken", SCORES[0])) for group in same]
    maps = [[run[SCORES[0]] for run in group] for group in same]
    return means, [(min(group), max(group)) for group in maps]


def draw(
    path: Path, means: list[tuple[float, float]], spread: list[tuple[float, float]], beside: dict[str, dict]
) -> None:
    """Plot test mAP over minutes, with one more point for each method beside."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    from polytag.comparison.figures import MARKERS
    from polytag.pages.figures import COLOURS, INK, LINE, MUTED, panel

    figure, axes = panel(7.5, 4.2, left=0.7, right=0.3, bottom=0.55, top=0.2)
    minutes, values = zip(*means, strict=True)
    below, above = zip(
        *((mean - low, high - mean) for (_, mean), (low, high) in zip(means, spread, strict=True)), strict=True
    )
    axes.errorbar(
        minutes,
        values,
        (below, above),
        color=COLOURS[0],
        marker=MARKERS[0],
        linewidth=1.8,
        capsize=3,
    )
    left = {"xytext": (-10, 0), "textcoords": "offset points", "ha": "right", "va": "center", "fontsize": 9}
    axes.annotate("best --minutes", (minutes[0], values[0]), color=INK, **left)
    for i, (name, result) in enumerate(beside.items(), 1):
        score = result["test"]["mean_average_precision"]["score"]
        marker, colour = MARKERS[i % len(MARKERS)], COLOURS[i % len(COLOURS)]
        axes.plot(result["seconds"] / 60, score, marker, color=colour, markersize=8)
        right = left | {"xytext": (10, 0), "ha": "left"}
        axes.annotate(name.replace("polytag", "transfer"), (result["seconds"] / 60, score), color=INK, **right)
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 5, 10, 20, 40])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_xlabel("minutes since the start", color=MUTED)
    axes.set_ylabel("test mAP", color=MUTED)
    figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 5, 15])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default="best")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--beside", type=Path)
    arguments = parser.parse_args()
    data = pt.read(arguments.data, conflicts="unknown")
    setting = {"data": data.fingerprint, "model": arguments.model, "processor": processor()}
    found = json.loads(arguments.out.read_text()) if arguments.out.exists() else setting | {"runs": {}}
    if {name: found[name] for name in setting} != setting:
        raise SystemExit(f"{arguments.out} was made with other data, another model or on another machine")
    print(setting["processor"])
    print(f"{'minutes':>7} {'seed':>4} {'taken':>6} {'mAP':>7} {'F1':>7} {'subset':>7}")
    for minutes in arguments.minutes:
        for seed in arguments.seeds:
            key = f"{minutes:g} minutes, seed {seed}"
            if key not in found["runs"]:
                found["runs"][key] = measured(data, arguments.data, arguments.model, minutes, seed)
                write_json(arguments.out, found)
            run = found["runs"][key]
            values = " ".join(f"{run[score]:7.4f}" for score in SCORES)
            print(f"{minutes:7g} {seed:4} {run['taken']:6.2f} {values}  {run['budget']}", flush=True)
        runs = [found["runs"][f"{minutes:g} minutes, seed {seed}"] for seed in arguments.seeds]
        for name, of in (("mean", np.mean), ("sd", lambda values: np.std(values, ddof=min(1, len(values) - 1)))):
            values = " ".join(f"{of([run[score] for run in runs]):7.4f}" for score in SCORES)
            print(f"{minutes:7g} {name:>4} {of([run['taken'] for run in runs]):6.2f} {values}")
    if arguments.picture is not None:
        means, spread = every(found["runs"])
        beside = {} if arguments.beside is None else json.loads(arguments.beside.read_text())["methods"]
        draw(arguments.picture, means, spread, beside)


if __name__ == "__main__":
    main()

"""The main job through the command line, from a folder of photos to a report and a tagged photo."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ALONE = ["--image-size", "48", "--epochs", "2"]
SETTINGS = [*ALONE, "--fine-tune", "0"]
EFFORT = ["--trials", "2"]


def polytag(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "polytag", *map(str, arguments)], capture_output=True, text=True, timeout=500
    )


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("main") / "sample"
    done = polytag("sample", folder, "--images", 90, "--size", 64)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def run(sample) -> tuple[Path, str]:
    folder = sample.parent / "run"
    done = polytag("compare", sample, "--out", folder, *SETTINGS, *EFFORT)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_table_and_the_answer_are_printed(run) -> None:
    folder, out = run
    for words in ("90 images, 10 labels", "separated by '|'", "Samples-F1", "Weakest labels", "Trainable parameters"):
        assert words in out
    assert "tags these photos best" in out
    assert out.strip().endswith(str(folder / "report.html"))


def test_everything_is_written(run) -> None:
    folder, _ = run
    assert {p.name for p in folder.iterdir()} - {".lock"} == {
        "run.json", "split.csv", "baseline", "tuned", "transfer",
        "results.json", "report.html", "report.md",
    }  # fmt: skip
    results = json.loads((folder / "results.json").read_text())
    assert list(results["models"]) == ["baseline", "tuned", "transfer"]
    assert sum(results["data"]["split"].values()) == results["data"]["images"] == 90
    assert len(results["comparisons"]) == 12
    with (folder / "split.csv").open() as file:
        parts = [row["part"] for row in csv.DictReader(file)]
    assert {part: parts.count(part) for part in set(parts)} == results["data"]["split"]
    for name, model in results["models"].items():
        bundle = json.loads((folder / name / "bundle.json").read_text())
        assert bundle["test"]["samples_f1"] == model["samples_f1"]["value"]
        assert bundle["recipe"]["image_size"] == 48
        card = (folder / name / "MODEL_CARD.md").read_text()
        f1, split = model["samples_f1"], results["data"]["split"]
        assert f"| Samples-F1 | {f1['value']:.3f} | {f1['low']:.3f} to {f1['high']:.3f} |" in card
        assert (
            f"{split['train']} for training, {split['validation']} for validation, {split['test']} for testing" in card
        )
        assert all(f"| {label} | " in card for label in results["data"]["labels"])
    # The report loads nothing; the name of SVG's namespace only looks like an address.
    assert "://" not in (folder / "report.html").read_text().replace("http://www.w3.org/2000/svg", "")


def test_the_same_seed_gives_the_same_scores_and_a_stopped_run_goes_on(run, sample) -> None:
    folder, _ = run
    before = json.loads((folder / "results.json").read_text())

    # As if the run had been killed while transfer was being trained.
    stopped = folder.parent / "stopped"
    shutil.copytree(folder, stopped)
    shutil.rmtree(stopped / "transfer")
    (stopped / "results.json").unlink()
    refused = polytag("compare", sample, "--out", stopped, *SETTINGS)
    assert refused.returncode == 2 and "--resume" in refused.stderr
    other = polytag("compare", sample, "--out", stopped, *SETTINGS, "--seed", 1, "--resume")
    assert other.returncode == 2 and "started with other seed" in other.stderr

    done = polytag("compare", sample, "--out", stopped, *SETTINGS, *EFFORT, "--resume")
    assert done.returncode == 0, done.stderr
    assert "baseline: already trained" in done.stdout and "transfer: already trained" not in done.stdout
    after = json.loads((stopped / "results.json").read_text())
    for results in (before, after):
        for model in results["models"].values():
            del model["fit_seconds"], model["tag_images_per_second"]
    assert after == before


def test_evaluate_leaves_out_what_training_has_seen(run, sample) -> None:
    folder, _ = run
    test = json.loads((folder / "results.json").read_text())["data"]["split"]["test"]
    done = polytag("evaluate", folder / "baseline", sample)
    assert done.returncode == 0, done.stderr
    assert f"on {test} images" in done.stdout
    assert f"{90 - test} images left out because the model has seen them in training" in done.stdout


def test_tag(run, sample, tmp_path) -> None:
    folder, _ = run
    photo = sample / "images" / "scene0001.jpg"
    done = polytag("tag", folder / "transfer", photo)
    assert done.returncode == 0 and done.stdout.startswith(f"{photo}: ")
    (tmp_path / "bad.jpg").write_text("no photo")
    mixed = polytag("tag", folder / "transfer", tmp_path / "bad.jpg", photo)
    assert mixed.returncode == 0
    bad, good = mixed.stdout.splitlines(keepends=True)
    assert good == done.stdout and "bad.jpg: not an image" in bad and "1 of 2 photos" in mixed.stderr
    failed = polytag("tag", folder / "transfer", tmp_path / "bad.jpg")
    assert failed.returncode == 2


def test_train_then_evaluate_with_a_given_split(run, sample, tmp_path) -> None:
    folder, _ = run
    out = tmp_path / "bundle"
    done = polytag("train", sample, "--model", "baseline", "--out", out, "--split", folder / "split.csv", *ALONE)
    assert done.returncode == 0, done.stderr
    card = (out / "MODEL_CARD.md").read_text()
    assert "Not tested yet" in card and "as split.csv says" in card
    scores = json.loads((folder / "results.json").read_text())["models"]["baseline"]
    evaluated = polytag("evaluate", out, sample)
    assert f"Samples-F1         {scores['samples_f1']['value']:7.4f}" in evaluated.stdout
    again = polytag("train", sample, "--model", "baseline", "--out", out)
    assert again.returncode == 2 and "exists already" in again.stderr

"""Rare labels never stop a run: what was left out, and what is too rare to score, is named with the reason."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import polytag as pt
from polytag.cli.app import app
from polytag.comparison.doubts import doubts
from polytag.errors import SettingsError
from polytag.models.classical import methods

COUNTS = (0, 1, 2, 3, 6, 9, 9, 17, 17, 24, 30, 30, 36, 40, 44, 50, 60, 75, 90)
"""Photos with each of the 19 labels."""

PHOTOS = 150


@pytest.fixture(scope="module")
def long_tail(tmp_path_factory) -> Path:
    """A folder of photos in which each label is a square of a certain color, with a table of 19 columns."""
    folder = tmp_path_factory.mktemp("long-tail")
    random = np.random.default_rng(0)
    targets = np.zeros((PHOTOS, len(COUNTS)), int)
    for j, count in enumerate(COUNTS):
        targets[random.choice(PHOTOS, count, replace=False), j] = 1
    colors = random.integers(0, 256, (len(COUNTS), 3))
    lines = ["image," + ",".join(f"label{count}-{j}" for j, count in enumerate(COUNTS))]
    for i, row in enumerate(targets):
        photo = random.integers(90, 170, (48, 48, 3))
        for j in np.flatnonzero(row):
            y, x = 9 * (j // 5), 9 * (j % 5)
            photo[y : y + 9, x : x + 9] = colors[j]
        Image.fromarray(photo.astype(np.uint8)).save(folder / f"{i}.png")
        lines.append(f"{i}.png," + ",".join(map(str, row)))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


LEFT_OUT = {"label0-0": "no training photo has it", "label1-1": "only one photo has it"}


def test_a_long_tail_of_labels_is_compared(long_tail, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(methods, "STRENGTHS", (1e-2,))
    lines: list[str] = []
    settings = {"models": ["baseline", "binary_relevance"], "image_size": 48, "show_progress": False}
    settings |= {"epochs": 1, "min_photos": 6}
    done = pt.compare(pt.read(long_tail), tmp_path / "run", say=lines.append, **settings)
    said = "2 labels left out of training: label0-0 (no training photo has it), label1-1 (only one photo has it)"
    assert said in lines
    assert lines[-1].startswith(
        "too rare to score, with fewer than 6 photos, so left out of mAP and macro-F1: label2-2 (0)"
    )

    assert {c.evaluation.labels for c in done.contest.contestants} == {done.contest.labels}

    bundle = done.bundle("baseline")
    assert len(bundle.labels) == 17 and not LEFT_OUT.keys() & {*bundle.labels}
    assert bundle.manifest["data"]["labels_left_out"] == LEFT_OUT
    card = (bundle.path / "MODEL_CARD.md").read_text()
    assert "Labels that could not be learned, which the model never assigns: label0-0" in card

    # With 3 or more photos, a label is in every part. Few of them can be judged, and none of the others is averaged.
    assert all(counts["train"] > 0 for counts in bundle.manifest["data"]["labels"].values())
    evaluation = done.contest.contestants[0].evaluation
    support = {label: row["support"] for label, row in evaluation.per_label.items()}
    rare = [label for label in bundle.labels if support[label] < 6]
    assert list(evaluation.too_rare) == rare and {"label2-2", "label3-3", "label17-7"} <= {*rare}
    judged = [row["average_precision"] for label, row in evaluation.per_label.items() if label not in rare]
    assert evaluation.scores["mean_average_precision"] == pytest.approx(np.mean(judged))

    why = " ".join(doubts(done.contest))
    assert "2 labels could not be learned: label0-0 (no training photo has it), label1-1 (only one photo has it)" in why
    assert "Too rare to score, with fewer than 6 test photos: label2-2 (0), label3-3 (1)" in why
    for file in ("report.html", "report.md"):
        assert "2 labels could not be learned" in (done.folder / file).read_text(), file
    results = json.loads((done.folder / "results.json").read_text())
    assert results["data"]["labels_left_out"] == LEFT_OUT and len(results["data"]["labels"]) == 17
    assert results["models"]["baseline"]["too_rare"] == rare and results["models"]["baseline"]["min_photos"] == 6

    with pytest.raises(SettingsError, match="started with other min_photos"):
        pt.compare(pt.read(long_tail), done.folder, resume=True, **settings | {"min_photos": 7})
    with pytest.raises(SettingsError, match="min_photos must be at least 1"):
        pt.compare(pt.read(long_tail), tmp_path / "other", **settings | {"min_photos": 0})

    # Data with all 19 labels can be evaluated with the bundle: the two are named.
    arguments = ["evaluate", str(bundle.path), str(long_tail), "--min-photos", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert (
        "too rare to score, with fewer than 1 photo, so left out of mAP and macro-F1: label2-2 (0)\n" in result.output
    )
    assert "labels unknown to the model, ignored: label0-0, label1-1" in result.output


def test_a_given_split_may_leave_a_label_out_of_training(squares, tmp_path) -> None:
    photos = pt.read(Path(squares[0].root))
    parts = np.array(["train", "train", "validation", "test"])[np.arange(len(photos)) % 4]
    # Only test photos show red, and validation photos alone would not be enough to learn it.
    targets = np.array(photos.targets)
    targets[:, photos.labels.index("red")] *= parts == "test"
    split = tmp_path / "split.csv"
    split.write_text(
        "image,part\n" + "".join(f"{name},{part}\n" for name, part in zip(photos.names, parts, strict=True))
    )
    train, validation, test = pt.split(replace(photos, targets=targets), given=split)
    assert "red" in train.labels
    bundle = pt.fit(train, validation, "baseline", image_size=32, epochs=1, show_progress=False)
    assert bundle.labels == tuple(label for label in photos.labels if label != "red")
    assert bundle.manifest["data"]["labels_left_out"] == {"red": "no training photo has it"}
    assert all("red" not in bundle.tag(path) for path in test.paths[:3])

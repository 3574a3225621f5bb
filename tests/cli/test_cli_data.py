"""The commands that look at data, as a person calls them: convert, audit, explore, split; and what they refuse."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import polytag as pt
from colours import write_colour_bundle
from polytag.auditing.decisions import default_decisions, read_decisions
from polytag.cli import app
from polytag.data.sample.scenes import draw_scene
from polytag.models.backbones.weights import find_weights

LABELS = [["bus"], ["bus", "truck"], ["truck"], ["sitar"], ["sitar", "tabla"], ["tabla"]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """24 drawn scenes, four of each combination, and a mirrored copy of the first."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for i in range(24):
        names = LABELS[i % len(LABELS)]
        Image.fromarray(np.asarray(draw_scene(names, 96, i))).save(folder / f"{i}.jpg", quality=92)
        rows.append([f"{i}.jpg", "|".join(names)])
    with Image.open(folder / "0.jpg") as photo:
        photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "mirror.jpg", quality=92)
    rows.append(["mirror.jpg", "bus"])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "labels"], *rows])
    return folder


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.strip().splitlines() if line.startswith("polytag: ")]
    assert "Traceback" not in result.output
    return line


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_convert_writes_what_reads_the_same(data: Path, tmp_path: Path, ending: str) -> None:
    out = data / f"table.{ending}"
    assert f"25 rows in {out}" in run("convert", data, out)
    before, after = pt.read(data), pt.read(out)
    assert after.names == before.names and after.labels == before.labels
    assert np.array_equal(after.targets, before.targets)
    away = tmp_path / f"away.{ending}"
    run("convert", data, away)
    assert pt.read(away, images=data).names == before.names


@pytest.mark.parametrize("name", ["metadata.jsonl", "fiftyone.json", "coco.json"])
def test_convert_writes_other_forms(data: Path, name: str) -> None:
    assert f"25 photos in {data / name}" in run("convert", data, data / name)
    before, after = pt.read(data), pt.read(data / name)
    assert after.names == before.names and set(after.labels) == set(before.labels)
    place = [after.labels.index(label) for label in before.labels]
    assert np.array_equal(after.targets[:, place], before.targets)


def test_convert_adds_the_predictions_of_a_bundle(tmp_path: Path) -> None:
    write_colour_bundle(tmp_path / "bundle")
    colours = {"a.png": (250, 10, 10), "b.png": (10, 250, 250), "c.png": (10, 10, 10)}
    for name, colour in colours.items():
        Image.new("RGB", (40, 30), colour).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text("image,labels\na.png,red\nb.png,blue|sea\nc.png,\n")
    command = ["convert", tmp_path / "labels.csv", tmp_path / "tasks.json", "--to", "label-studio"]
    command += ["--bundle", tmp_path / "bundle"]
    run(*command)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    chosen = [[one["value"]["choices"] for one in task["predictions"][0]["result"]] for task in tasks]
    assert chosen == [[["red"]], [["blue"]], []]  # The data have no label "green", and the bundle has no "sea".
    assert pt.read(tmp_path / "tasks.json").labels == ("red", "blue", "sea")
    (tmp_path / "labels.csv").write_text("image,labels\na.png,sand\nb.png,sea\nc.png,sea\n")
    assert "none of the labels" in refused(*command[:2], tmp_path / "x.json", *command[3:])


def test_convert_refuses_before_it_reads(data: Path, tmp_path: Path) -> None:
    assert "is the same file as the input" in refused("convert", data, data / "labels.csv", "--overwrite")
    link = tmp_path / "link.csv"
    link.symlink_to(data / "labels.csv")
    assert "is the same file as the input" in refused("convert", data, link, "--overwrite")
    assert "choose with --to" in refused("convert", data, tmp_path / "x.json")
    assert "works only with --to label-studio" in refused("convert", data, tmp_path / "x.csv", "--bundle", tmp_path)
    assert f"would write 25 photos to {tmp_path / 'x.csv'}" in run("convert", data, tmp_path / "x.csv", "--dry-run")
    assert not (tmp_path / "x.csv").exists()


def test_what_exists_is_not_replaced(data: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious.csv"
    precious.write_text("mine")
    (tmp_path / "index.html").write_text("mine")
    for arguments in (
        ("convert", data, precious),
        ("audit", data, "--json", precious),
        ("audit", data, "--clean", precious),
        ("audit", data, "--report", tmp_path),
        ("explore", data, "--out", tmp_path),
        ("split", data, "--out", precious),
    ):
        assert "exists already" in refused(*arguments), arguments
    assert precious.read_text() == (tmp_path / "index.html").read_text() == "mine"
    assert not list(tmp_path.glob("*.decisions.csv"))


def test_other_refusals(data: Path, tmp_path: Path) -> None:
    assert ".csv, .tsv" in refused("convert", data, tmp_path / "table.xlsx")
    assert "--clean" in refused("audit", data, "--decisions", tmp_path / "d.csv")
    assert "--dry-run works only with --clean" in refused("audit", data, "--dry-run")
    assert "cannot be read" in refused("audit", data, "--split", tmp_path / "none.csv")
    assert "cannot be" in refused("explore", data, "--out", data / "labels.csv" / "page")
    damaged = tmp_path / "d.csv"
    damaged.write_text("image,label\n")
    assert "d.csv" in refused("audit", data, "--clean", tmp_path / "c.csv", "--decisions", damaged)
    assert not (tmp_path / "c.csv").exists()


def test_audit_finds_the_copy_and_split_keeps_it_with_its_source(data: Path, tmp_path: Path) -> None:
    said = run("audit", data, "--json", tmp_path / "f.json", "--report", tmp_path / "page")
    assert "Mirrored duplicate" in said and "mirror.jpg · of 0.jpg" in said
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["counts"]["mirrored_duplicate"] == 1 and found["statistics"]["pictures"] == 24
    assert [f["image"] for f in found["findings"] if f["issue"] == "mirrored_duplicate"] == ["mirror.jpg"]
    assert "mirror.jpg" in (tmp_path / "page" / "index.html").read_text()

    for seed in range(5):
        said = run("split", data, "--out", tmp_path / "s.csv", "--seed", seed, "--overwrite")
        assert "0 groups of photos in more than one part" in said
        assert "1 group of images kept together (2 images, up to 2 per group)" in said
        with (tmp_path / "s.csv").open() as file:
            part = {row["image"]: row["part"] for row in csv.DictReader(file)}
        assert part["mirror.jpg"] == part["0.jpg"]
    assert "bus + truck" in said and "most common combinations" in said


def test_audit_of_a_given_split_names_its_leaks(data: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.csv"
    with given.open("w", newline="") as file:
        names = [*(f"{i}.jpg" for i in range(24)), "mirror.jpg"]
        csv.writer(file).writerows(
            [["image", "part"], *([name, "test" if name == "mirror.jpg" else "train"] for name in names)]
        )
    said = run("audit", data, "--split", given)
    assert "Split leak" in said and "train has the same picture (0.jpg)" in said


def test_clean_writes_its_decisions_beside_the_data(data: Path, tmp_path: Path) -> None:
    (data / "3.jpg").write_bytes(b"")
    table = data / "labels.csv"
    table.write_text(table.read_text() + "5.jpg,bus\n")
    before = {path: path.read_bytes() for path in data.iterdir()}
    out = tmp_path / "elsewhere" / "cleaned.csv"
    out.parent.mkdir()
    planned = run("audit", data, "--clean", out, "--dry-run")
    assert f"would write 24 rows to {out}" in planned and "drop     3.jpg" in planned
    assert not out.exists() and not default_decisions(data).exists()
    said = run("audit", data, "--clean", out)
    assert f"24 rows in {out} (read it with --images {data})" in said
    assert {path: path.read_bytes() for path in data.iterdir()} == before
    with default_decisions(data).open() as file:
        decisions = [(row["image"], row["label"], row["action"]) for row in csv.DictReader(file)]
    assert sorted(decisions) == [("3.jpg", "", "drop"), ("5.jpg", "bus", "unknown"), ("5.jpg", "tabla", "unknown")]
    cleaned = pt.read(out, images=data)
    row = cleaned.targets[cleaned.names.index("5.jpg")]
    assert [row[cleaned.labels.index(name)] for name in ("bus", "tabla")] == [-1, -1]
    with out.open() as file:
        reasons = {row["image"]: row["reasons"] for row in csv.DictReader(file)}
    assert "Conflicting rows" in reasons["5.jpg"] and reasons["4.jpg"] == ""


def test_explore_writes_its_page(data: Path, tmp_path: Path) -> None:
    said = run("explore", data, "--out", tmp_path / "page")
    page = tmp_path / "page" / "index.html"
    assert str(page) in said and "sitar" in page.read_text()


def test_label_errors_are_judged_by_models_that_saw_no_copy(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[np.ndarray] = []

    def out_of_sample(features: np.ndarray, targets: np.ndarray, groups: np.ndarray, **settings: object) -> np.ndarray:
        asked.append(groups)
        probabilities = np.where(targets == 1, 0.9, 0.1).astype(np.float32)
        probabilities[2, 0] = 0.99
        return probabilities

    monkeypatch.setattr("polytag.models.classical.probe.out_of_sample", out_of_sample)
    told = run("audit", data, "--label-errors")
    (groups,) = asked
    assert groups[24] == groups[0] and len(set(groups.tolist())) == 24, "the mirrored photo is no other picture"
    assert "missing label" in told.lower()


def test_without_weights_there_are_no_label_errors(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(find_weights(), path=None)
    monkeypatch.setattr("polytag.models.backbones.weights.find_weights", lambda: found)
    result = CliRunner().invoke(app, ["audit", str(data), "--label-errors"])
    assert result.exit_code == 2 and "--label-errors needs pretrained weights" in result.stderr.splitlines()[-1]
    assert "without pretrained weights" in run("audit", data)


def test_a_review_begins_with_what_is_certain_and_never_forgets(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    monkeypatch.setattr(
        "polytag.serving.review.review.serve_review", lambda data, suspects, *rest, **on: shown.append(1)
    )
    (data / "3.jpg").write_text("no photo")
    decisions = tmp_path / "decisions.csv"
    run("review", data, "--decisions", decisions)
    assert [d.image for d in read_decisions(decisions) if d.action == "drop"] == ["3.jpg"]
    decisions.write_text("image,label,action,into,reason,by\n5.jpg,bus,absent,,seen,review\n")
    before = decisions.read_bytes()
    run("review", data, "--decisions", decisions)
    assert decisions.read_bytes() == before and len(shown) == 2


@pytest.mark.parametrize("how", ["name", "link", "hard link"])
def test_an_output_that_is_an_input_is_refused(data: Path, tmp_path: Path, how: str) -> None:
    given = tmp_path / "given.csv"
    run("split", data, "--out", given)
    before = {path: path.read_bytes() for path in [*data.iterdir(), given]}

    def other_name(path: Path) -> Path:
        other = path.with_name(f"other-{path.name}")
        if how == "link":
            other.symlink_to(path)
        elif how == "hard link":
            other.hardlink_to(path)
        return path if how == "name" else other

    table, split = other_name(data / "labels.csv"), other_name(given)
    for words in (
        ("convert", data, table),
        ("convert", data / "labels.csv", table),
        ("audit", data, "--clean", table),
        ("audit", data, "--json", table),
        ("audit", data, "--split", given, "--json", split),
        ("split", data, "--out", table),
        ("split", data, "--split", given, "--out", split),
    ):
        assert "is the same file as the input" in refused(*words, "--overwrite"), words
    assert {path: path.read_bytes() for path in before} == before


def test_one_file_for_two_outputs_is_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    assert "used for two outputs" in refused("audit", data, "--json", out, "--clean", out)
    assert not out.exists()


def test_quiet_prints_results_and_errors_only(data: Path, tmp_path: Path) -> None:
    (data / "3.jpg").write_bytes(b"")
    loud = CliRunner().invoke(app, ["split", str(data), "-o", str(tmp_path / "a.csv")])
    quiet = CliRunner().invoke(app, ["split", str(data), "-o", str(tmp_path / "b.csv"), "-q"])
    assert quiet.exit_code == loud.exit_code == 0
    assert "25 images" in loud.stdout and "3.jpg" in loud.stdout, "what cannot be read is said"
    assert "25 images" not in quiet.stdout and "3.jpg" not in quiet.stdout and quiet.stderr == ""
    assert "validation" in quiet.stdout and "b.csv" in quiet.stdout
    assert "exists already" in refused("split", data, "-o", tmp_path / "b.csv", "-q")


def test_verbose_logs_what_happens(data: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "polytag", "split", str(data), "-o", str(tmp_path / "s.csv")]
    for flags, logged in (([], False), (["-v"], True)):
        done = subprocess.run([*words, "--overwrite", *flags], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("polytag.cli.app: read 25 images" in done.stderr) == logged


def test_conflicts_that_are_decided_are_not_decided_again(tmp_path: Path) -> None:
    for i in range(6):
        Image.new("RGB", (32, 32), (40 * i, 10, 90)).save(tmp_path / f"{i}.png")
    rows = [f"{i}.png,{i % 2},{(i + 1) % 2}" for i in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,cat,dog", *rows, "0.png,1,0"]) + "\n")
    for conflicts, expected in (("union", "1,1"), ("unknown", ",")):
        out = tmp_path / f"{conflicts}.csv"
        words = ["audit", tmp_path / "labels.csv", "--clean", out, "--conflicts", conflicts]
        words += ["--decisions", tmp_path / f"{conflicts}.decisions.csv"]
        result = CliRunner().invoke(app, [*map(str, words)])
        assert result.exit_code == 0, result.output
        (row,) = [line for line in out.read_text().splitlines() if line.startswith("0.png")]
        assert row.startswith(f"0.png,{expected}"), row

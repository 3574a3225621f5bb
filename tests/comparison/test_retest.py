"""Existing bundles on the same unseen photos: side by side, with everything that another program needs."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import polytag as pt
from colours import LABELS, write_colour_bundle
from polytag.cli import app
from polytag.data.dataset import Dataset
from polytag.data.sample.scenes import LABELS as OBJECTS
from polytag.data.sample.scenes import draw_scene
from polytag.errors import SettingsError
from polytag.evaluation.metrics import scores
from polytag.models.bundle.rethreshold import set_thresholds
from polytag.models.bundle.seen import seen_photos


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """40 scenes; labels say which channels are bright."""
    folder = tmp_path_factory.mktemp("retest") / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["image,red,green,blue,split"]
    for i in range(40):
        bright = rng.random(3) < 0.5
        scene = np.asarray(draw_scene([OBJECTS[i % 5]], 96, 300 + i)) * np.where(bright, 1.0, 0.6)
        Image.fromarray(scene.astype(np.uint8)).save(folder / f"{i:02}.png")
        rows.append(f"{i:02}.png,{','.join(map(str, bright.astype(int)))},{'test' if i >= 10 else 'train'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return pt.read(folder)


@pytest.fixture(scope="module")
def bundles(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bundles")
    seen = seen_photos(data.take(np.arange(10)), "train")
    first, second = (write_colour_bundle(folder / name, seen) for name in ("first", "second"))
    set_thresholds(second, dict.fromkeys(LABELS, 0.3))
    return [first.path, second.path]


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_two_bundles_side_by_side(data: Dataset, bundles: list[Path], tmp_path: Path) -> None:
    out, json_file = tmp_path / "out", tmp_path / "results.json"
    code, output = run("evaluate", *bundles, data.root, "--out", out, "--json", json_file)
    assert code == 0, output
    assert "second − first: samples_f1" in output and "10 images left out because a model has seen them" in output
    assert {path.name for path in out.iterdir()} == {"report.html", "report.md", "results.json", "predictions.parquet"}
    report = (out / "report.md").read_text()
    assert "in this evaluation: samples-F1" in report and "The models existed before this evaluation" in report
    for untrue in ("trained once", "one split", "on the training photos"):
        assert untrue not in report, untrue
    results = json.loads(json_file.read_text())
    assert results == json.loads((out / "results.json").read_text())
    assert list(results["models"]) == ["first", "second"] and len(results["comparisons"]) == 4

    table = pq.read_table(out / "predictions.parquet").to_pandas()
    assert table["image"].tolist() == data.names[10:] and table["group"].nunique() == 30
    targets = table[[f"target {label}" for label in LABELS]].to_numpy(np.int8)
    for name, model in results["models"].items():
        probabilities = table[[f"{name} {label}" for label in LABELS]].to_numpy(np.float32)
        thresholds = np.array([model["per_label"][label]["threshold"] for label in LABELS], np.float32)
        again = scores(targets, probabilities, thresholds)
        assert again["samples_f1"] == pytest.approx(model["samples_f1"]["value"])
        assert again["mean_average_precision"] == pytest.approx(model["mean_average_precision"]["value"])


def test_resaved_training_photos_are_recognized(data: Dataset, bundles: list[Path], tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    for path, name in zip(data.paths, data.names, strict=True):
        Image.open(path).save(again / name.replace("png", "jpg"), quality=60)
    (again / "labels.csv").write_text((data.root / "labels.csv").read_text().replace("png", "jpg"))
    code, output = run("evaluate", bundles[0], again)
    assert code == 0 and "on 30 images" in output
    assert "10 images left out because the model has seen them" in output


def test_a_part_of_the_split(data: Dataset, bundles: list[Path], tmp_path: Path) -> None:
    code, output = run("evaluate", bundles[0], data.root, "--part", "test")
    assert code == 0 and "on 30 images" in output and "left out" not in output
    split = tmp_path / "split.csv"
    split.write_text("image,part\n" + "".join(f"{name},test\n" for name in data.names[15:]))
    code, output = run("evaluate", bundles[0], data.root, "--split", split, "--part", "test")
    assert code == 0 and "on 25 images" in output


def test_what_cannot_work_is_refused_before_photos_are_read(data: Dataset, bundles: list[Path], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there.json").write_text("{}")
    for words, told in (
        ([bundles[0], bundles[0], data.root], "each bundle and each engine once"),
        ([bundles[0], data.root, "--out", tmp_path / "there"], "exists already"),
        ([bundles[0], data.root, "--json", tmp_path / "there.json"], "exists already"),
        ([bundles[0], data.root, "--engine", "int8"], "has no engine 'int8'"),
        ([bundles[0], data.root, "--part", "validation"], "no image into the validation part"),
    ):
        code, output = run("evaluate", *words)
        assert code == 2 and told in output, output


def test_bundles_of_the_same_name_are_told_apart(bundles: list[Path], tmp_path: Path) -> None:
    from polytag.comparison.retest import open_bundles

    other = pt.Bundle(bundles[0]).save(tmp_path / "first")
    assert list(open_bundles([bundles[0], other.path])) == [str(bundles[0]), str(other.path)]
    with pytest.raises(SettingsError):
        open_bundles([bundles[0]], ["float32", "float32"])


def test_one_group_and_no_known_label_are_no_crash(
    data: Dataset, bundles: list[Path], tmp_path: Path, monkeypatch
) -> None:
    lines = (data.root / "labels.csv").read_text().splitlines()
    table = data.root / "sites.csv"
    table.write_text("\n".join([f"{lines[0]},site", *(f"{line},north" for line in lines[11:])]) + "\n")
    monkeypatch.setattr("polytag.evaluation.slices.MIN_SLICE", 3)
    words = ["--group-column", "site", "--json", tmp_path / "results.json", "--out", tmp_path / "out"]
    code, output = run("evaluate", *bundles, table, *words)
    assert code == 0 and json.loads((tmp_path / "results.json").read_text())["slices"], output
    table.write_text("\n".join([lines[0], *(f"{line.split(',')[0]},?,?,?,test" for line in lines[1:])]) + "\n")
    code, output = run("evaluate", bundles[0], table)
    assert code == 2 and "unknown" in output, output


def test_columns_of_two_models_never_merge(bundles: list[Path], data: Dataset, tmp_path: Path) -> None:
    other = pt.Bundle(bundles[0]).save(tmp_path / "target")
    code, output = run("evaluate", other.path, data.root, "--out", tmp_path / "out")
    assert code == 2 and "two columns would be called 'target red': rename the folder of target" in output


def test_slices_by_a_column_of_the_table(data: Dataset, bundles: list[Path], tmp_path: Path, monkeypatch) -> None:
    lines = (data.root / "labels.csv").read_text().splitlines()
    cameras = ["camera", *("old" if i % 3 else "new" for i in range(40))]
    table = data.root / "cameras.csv"
    table.write_text("\n".join(f"{line},{camera}" for line, camera in zip(lines, cameras, strict=True)) + "\n")
    out = tmp_path / "out"
    code, output = run("evaluate", bundles[0], table, "--slice", "camera", "--out", out)
    assert code == 0, output
    assert "--slice camera: no scores, because a value needs 20 test photos" in (out / "report.md").read_text()
    monkeypatch.setattr("polytag.evaluation.slices.MIN_SLICE", 8)
    code, output = run("evaluate", *bundles, table, "--slice", "camera", "--json", tmp_path / "results.json")
    assert code == 0, output
    found = json.loads((tmp_path / "results.json").read_text())["slices"]
    by_value = {one["value"]: one for one in found if one["column"] == "camera"}
    assert {value: one["photos"] for value, one in by_value.items()} == {"old": 20, "new": 10}
    assert by_value["old"]["difference"] == pytest.approx(-by_value["new"]["difference"])
    code, output = run("evaluate", bundles[0], table, "--slice", "lens")
    assert code == 2 and "no column 'lens' (--slice)" in output

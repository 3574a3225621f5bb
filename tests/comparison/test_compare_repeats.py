"""Repeats of a comparison: where they are kept, what they share, and how they continue after an interruption."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import polytag as pt
from polytag.comparison import compare as comparing
from polytag.comparison.run_folder import repeat_folder
from polytag.data.dataset import Dataset
from polytag.errors import SettingsError
from polytag.models import fit as fitting
from polytag.models.bundle.bundle import Bundle
from polytag.photos.array_cache import ArrayCache

MODELS = ["powerset", "binary_relevance"]
SETTINGS = {"image_size": 48, "show_progress": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("repeats") / "sample"
    pt.write_sample(folder, n_images=60, size=64)
    return pt.read(folder)


@pytest.fixture(scope="module")
def cached() -> list[tuple[Path, str]]:
    """What `done` added to the cache: a folder and a photo's key each."""
    return []


@pytest.fixture(scope="module")
def done(data, cached, tmp_path_factory) -> pt.Comparison:
    add = ArrayCache.add

    def watched(self, keys, arrays) -> None:
        cached.extend((self.folder, key) for key in keys)
        add(self, keys, arrays)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ArrayCache, "add", watched)
        return pt.compare(data, tmp_path_factory.mktemp("runs") / "run", MODELS, repeats=2, **SETTINGS)


@pytest.fixture
def retrained(done, monkeypatch) -> list[str]:
    """Training takes no time: each model is a copy of the one that `done` trained with this seed."""
    trained: list[str] = []

    def copied(train, validation, model, options, *, out, **settings) -> Bundle:
        shutil.copytree(repeat_folder(done.folder, options.seed + 1) / model, out)
        manifest = json.loads((out / "bundle.json").read_text())
        for name in ("test", "tested", "split"):
            del manifest[name]
        (out / "bundle.json").write_text(json.dumps(manifest))
        trained.append(f"{model} {options.seed}")
        return Bundle(out)

    monkeypatch.setattr(fitting, "fit", copied)
    return trained


def recorded(folder: Path) -> dict:
    """The content of results.json without measured times."""
    found = json.loads((folder / "results.json").read_text())
    for model in found["models"].values():
        del model["fit_seconds"], model["tag_images_per_second"]
    return found


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != ".lock"}


def test_each_repeat_has_a_split_and_bundles_of_its_own(done, data) -> None:
    run = done.folder
    assert files(run) == {
        *MODELS, "repeat-2", "split.csv", "run.json", "results.json", "report.html", "report.md",
    }  # fmt: skip
    assert files(run / "repeat-2") == {*MODELS, "split.csv"}
    assert (run / "split.csv").read_text() != (run / "repeat-2" / "split.csv").read_text()
    for repeat in (1, 2):
        manifest = done.bundle("powerset", repeat).manifest
        assert manifest["recipe"]["seed"] == repeat - 1
        scores = recorded(run)["repeats"]["models"]["powerset"]["scores"][repeat - 1]
        assert {name: value for name, value in scores.items() if value is not None} == manifest["test"]
    # The seed alone decides: a single run with the second seed has the scores of the second repeat.
    alone = pt.compare(data, run.parent / "alone", ["powerset"], seed=1, **SETTINGS)
    assert alone.contest.contestants[0].evaluation.scores == pytest.approx(
        done.contest.repeats.scores["powerset"][1], nan_ok=True
    )


def test_the_report_shows_means_and_says_what_varied(done) -> None:
    contest, text = done.contest, (done.folder / "report.md").read_text()
    f1 = [scores["samples_f1"] for scores in contest.repeats.scores["powerset"]]
    cell = f"{np.mean(f1):.3f}** ± {np.std(f1, ddof=1):.3f}"
    assert cell in text or cell.replace("**", "") in text
    assert "over 2 splits and trainings" in contest.answer()
    assert "corrected resampled t-test" in text and "show the first repeat (seed 0)" in text
    assert "| Repeats | 2 | 2 |" in text and "- Seeds: 0 to 1" in text
    assert "one training" not in text
    assert "over 2 splits and trainings" in done.report.read_text()


def test_nothing_is_cached_twice(done, cached, data) -> None:
    assert len(cached) == len(set(cached))
    assert {folder.name.split("-")[0] for folder, _ in cached} >= {"pixels", "features"}


@pytest.mark.parametrize("stop", range(1, 5))
def test_a_run_stopped_anywhere_continues_to_the_same_result(
    done, data, tmp_path, retrained, monkeypatch, stop
) -> None:
    run, kept = tmp_path / "run", comparing.evaluate
    calls: list[str] = []

    def stopping(bundle, test, min_photos):
        calls.append(str(bundle.path.relative_to(run)))
        if len(calls) == stop:
            raise KeyboardInterrupt
        return kept(bundle, test, min_photos)

    monkeypatch.setattr(comparing, "evaluate", stopping)
    with pytest.raises(KeyboardInterrupt):
        pt.compare(data, run, MODELS, repeats=2, **SETTINGS)
    assert not (run / "results.json").exists()
    pt.compare(data, run, MODELS, repeats=2, resume=True, **SETTINGS)
    assert recorded(run) == recorded(done.folder)
    assert len(retrained) == 4
    # Of the second repeat, nothing is tested twice.
    assert sum(call.startswith("repeat-2") for call in calls) == 2 + (stop > 2)


def test_repeats_may_be_added_but_not_taken_away(done, data, tmp_path, retrained) -> None:
    run = tmp_path / "run"
    once = pt.compare(data, run, MODELS, **SETTINGS)
    assert once.contest.repeats is None and "in this one training on this one split" in once.contest.answer()
    pt.compare(data, run, MODELS, repeats=2, resume=True, **SETTINGS)
    assert recorded(run) == recorded(done.folder) and len(retrained) == 4
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(SettingsError, match="started with 2 repeats of powerset"):
        pt.compare(data, run, MODELS, resume=True, **SETTINGS)
    with pytest.raises(SettingsError, match="started with other seed, split"):
        pt.compare(data, run, MODELS, repeats=2, resume=True, seed=1, **SETTINGS)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (run / "repeat-2" / "photo.jpg").write_text("precious")
    pt.compare(data, run, ["powerset"], overwrite=True, **SETTINGS)
    assert files(run) == {
        "powerset", "repeat-2", "split.csv", "run.json", "results.json", "report.html", "report.md",
    }  # fmt: skip
    assert files(run / "repeat-2") == {"photo.jpg"}


def test_a_model_with_fewer_repeats(data, tmp_path, retrained) -> None:
    made = pt.compare(data, tmp_path / "run", MODELS, repeats=2, fewer_repeats={"powerset": 1}, **SETTINGS)
    assert files(made.folder / "repeat-2") == {"binary_relevance", "split.csv"}
    text = (made.folder / "report.md").read_text()
    assert "| Repeats | 1 | 2 |" in text and "Models with fewer repeats: powerset (1)." in text
    assert "over 1 to 2 splits and trainings" in made.contest.answer()
    assert "on the 1 repeat that both have, which may be chance" in made.contest.answer()
    f1 = made.contest.between(*MODELS)["samples_f1"]
    first = [made.bundle(model).manifest["test"]["samples_f1"] for model in MODELS]
    assert f1.difference == pytest.approx(first[0] - first[1]) and np.isnan(f1.low)
    assert recorded(made.folder)["repeats"]["models"]["powerset"]["scores"][1] is None


def test_a_split_of_the_data_is_kept_and_only_trainings_vary(data, tmp_path) -> None:
    parts = np.array(["train", "train", "validation", "test"])[np.arange(len(data)) % 4]
    made = pt.compare(replace(data, parts=parts), tmp_path / "run", ["powerset"], repeats=2, **SETTINGS)
    run = made.folder
    assert (run / "split.csv").read_bytes() == (run / "repeat-2" / "split.csv").read_bytes()
    assert [Bundle(folder / "powerset").manifest["recipe"]["seed"] for folder in (run, run / "repeat-2")] == [0, 1]
    answer, text = made.contest.answer(), (run / "report.md").read_text()
    assert "over 2 trainings on one split" in answer and "splits and trainings" not in answer
    assert "what another split would change" in text.split("## What to keep in mind")[1]


def test_a_repeat_with_other_labels_is_named(data) -> None:
    rare = data.labels[0]
    parts = (data.without_labels({rare: "no training photo has it"}), data, data)
    first = comparing._Repeat(1, 0, (data, data, data), [], {})
    digests, notes = comparing._check_splits(iter([first, replace(first, number=2, parts=parts)]))
    assert len(digests) == 2
    assert notes == [
        f"repeat 2 scores other labels than the first: 1 label left out of training: {rare} (no training photo has it)"
    ]


def test_wrong_numbers_of_repeats_are_refused_before_anything_is_read(tmp_path, data) -> None:
    for settings, message in (
        ({"repeats": 0}, "repeats must be 1 or more, not 0"),
        ({"repeats": 2, "fewer_repeats": {"mlknn": 1}}, "mlknn is not compared"),
        ({"repeats": 2, "fewer_repeats": {"powerset": 3}}, "powerset can have 1 to 2 repeats, not 3"),
        ({"repeats": 2, "seed": 2**32 - 1}, "seed"),
    ):
        with pytest.raises(SettingsError, match=message):
            pt.compare(data, tmp_path / "run", MODELS, **settings, **SETTINGS)
    assert not (tmp_path / "run").exists()

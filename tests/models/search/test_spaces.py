"""What is searched: every candidate can be trained, short trainings judge them, and the winner is trained in full."""

import inspect
from dataclasses import replace

import numpy as np
import optuna
import pytest

import polytag as pt
from polytag.errors import DivergedError, SettingsError
from polytag.models.fit import count
from polytag.models.networks.architectures import MODELS, cnn, head
from polytag.models.recipe import LOSS_NAMES, SEARCHED, Recipe
from polytag.models.search.spaces import SPACES, cnn_score, reduction
from polytag.models.training import cnn as cnn_module
from polytag.photos.pixels import pixels


def drawn(model: str, n: int, image_size: int = 48) -> list[Recipe]:
    """Candidates drawn at random from a model's space."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    recipe = Recipe.of(model, image_size=image_size)
    return [SPACES[model][0](study.ask(), recipe, ()) for _ in range(n)]


def test_what_can_be_searched_has_a_space() -> None:
    assert tuple(SPACES) == SEARCHED


@pytest.mark.parametrize("model", SEARCHED)
def test_a_search_begins_with_what_is_known(model: str) -> None:
    space, first = SPACES[model]
    recipe = Recipe.of(model, image_size=224)
    candidates = [space(optuna.trial.FixedTrial(params), recipe, ()) for params in first]
    defaults = {
        name: p.default
        for name, p in inspect.signature(MODELS[model]).parameters.items()
        if p.default is not inspect.Parameter.empty
    }
    chosen = candidates[0].hyperparameters
    assert chosen == {name: defaults[name] for name in chosen} | ({"reduce": 4} if model == "tuned" else {})
    plain = Recipe.of("baseline" if model == "tuned" else model)
    assert candidates[0].learning_rate == plain.learning_rate and candidates[0].loss == plain.loss
    # Nothing but what is searched is changed.
    searched = ("learning_rate", "weight_decay", "loss", "hyperparameters")
    for candidate in candidates:
        assert replace(candidate, **{name: getattr(recipe, name) for name in searched}) == recipe


@pytest.mark.parametrize("model", SEARCHED)
def test_what_was_asked_for_is_not_searched(model: str) -> None:
    recipe = Recipe.of(model, learning_rate=0.5, weight_decay=0.25, loss="bce")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(8):
        trial = study.ask()
        candidate = SPACES[model][0](trial, recipe, ("learning_rate", "weight_decay", "loss", "seed"))
        assert (candidate.learning_rate, candidate.weight_decay, candidate.loss) == (0.5, 0.25, "bce")
        assert trial.params and not {"learning_rate", "weight_decay", "loss"} & trial.params.keys()


def test_every_cnn_can_be_built_and_is_no_larger_than_the_baseline() -> None:
    for size in (32, 48, 95, 96, 129, 224, 500):
        for candidate in drawn("tuned", 4, size):
            model = cnn(2, size, **candidate.hyperparameters)
            assert model.output_shape == (None, 2) and count(model.weights) < 22_247_690
    # Smaller photos are not reduced at all.
    assert [reduction(size) for size in (32, 95, 96, 191, 192, 224, 384, 1024)] == [1, 1, 2, 2, 4, 4, 8, 16]


def test_every_head_can_be_built() -> None:
    candidates = drawn("transfer", 30)
    sizes = {candidate.hyperparameters["dense"] for candidate in candidates}
    assert sizes == {0, 256, 512, 1024} and {candidate.loss for candidate in candidates} == set(LOSS_NAMES)
    for dense in sizes:
        expected = 5 * dense + dense + dense * 3 + 3 if dense else 5 * 3 + 3
        assert count(head(5, 3, dense=dense).weights) == expected


def test_a_short_training_reports_each_epoch_and_stops_when_told(squares) -> None:
    train, validation, _ = squares
    for data in (train, validation):
        pixels(data.paths, 48)  # decoded, as `fit` does before it searches
    (recipe,) = drawn("tuned", 1)
    heard: list[tuple[int, float]] = []
    score = cnn_score(train, validation, replace(recipe, epochs=3), lambda epoch, value: heard.append((epoch, value)))
    assert [epoch for epoch, _ in heard] == [0, 1, 2] and score == max(value for _, value in heard)

    def stop(epoch: int, value: float) -> None:
        heard.append((epoch, value))
        raise optuna.TrialPruned

    with pytest.raises(optuna.TrialPruned):
        cnn_score(train, validation, replace(recipe, epochs=3), stop)
    assert len(heard) == 4
    # The same candidate scores the same, whatever was trained before it.
    assert cnn_score(train, validation, replace(recipe, epochs=3), lambda *_: None) == score


@pytest.mark.parametrize("reduce", [1, 3])
def test_what_learned_from_reduced_photos_tags_whole_ones(squares, reduce: int) -> None:
    train, validation, _ = squares
    recipe = Recipe.of("tuned", image_size=100, epochs=2, hyperparameters={"reduce": reduce, "pooling": "average"})
    learner, fitted = cnn_module.train_cnn(train, validation, recipe, "tuned", False)
    assert learner.input_shape == (None, 100 // reduce, 100 // reduce, 3)
    trained = cnn_module.fit_cnn(train, validation, recipe, False)
    assert trained.model.input_shape == (None, 100, 100, 3)
    assert (trained.history, trained.kept) == (fitted.history, fitted.kept)
    # But for the rounding of averages, and of the types that it learned in.
    np.testing.assert_allclose(trained.probabilities, fitted.probabilities, atol=0.02)


def test_a_candidate_that_diverges_is_pruned(squares, monkeypatch) -> None:
    def diverging(*arguments, **settings):
        raise DivergedError("the loss became infinite")

    monkeypatch.setattr(cnn_module, "fit_network", diverging)
    train, validation, _ = squares
    with pytest.raises(optuna.TrialPruned):
        cnn_score(train, validation, Recipe.of("tuned", image_size=48), lambda *_: None)


def test_a_search_ends_where_no_candidate_is_to_blame(squares, monkeypatch) -> None:
    def full(*arguments, **settings):
        raise SettingsError("no space left on the disk")

    monkeypatch.setattr(cnn_module, "photo_batches", full)
    train, validation, _ = squares
    with pytest.raises(SettingsError, match="no space"):
        cnn_score(train, validation, Recipe.of("tuned", image_size=48), lambda *_: None)


@pytest.mark.parametrize("reduce", [0, -1, 2.0, "2"])
def test_photos_are_reduced_by_whole_numbers(squares, reduce) -> None:
    train, validation, _ = squares
    recipe = Recipe.of("tuned", image_size=48, hyperparameters={"reduce": reduce})
    for refused in (lambda: cnn(3, 48, reduce=reduce), lambda: cnn_module.fit_cnn(train, validation, recipe, False)):
        with pytest.raises(SettingsError, match="reduce must be a positive integer"):
            refused()


@pytest.mark.parametrize("model", ["tuned", "transfer"])
def test_the_winner_is_trained_in_full(squares, tmp_path, model: str) -> None:
    train, validation, _ = squares
    settings = {"image_size": 48, "epochs": 2, "show_progress": False}
    settings |= {"fine_tune": 0, "loss": "bce"} if model == "transfer" else {}
    bundle = pt.fit(train, validation, model, trials=2, checkpoints=tmp_path / "progress", **settings)
    trials, recipe = bundle.manifest["trials"], bundle.manifest["recipe"]
    assert len(trials) == 2 and "importance" in bundle.manifest
    assert not any("loss" in trial for trial in trials), "it was asked for, or is never searched"
    best = max((t for t in trials if t["state"] == "complete"), key=lambda t: t["score"])
    assert recipe["hyperparameters"]["dense"] == best["dense"]
    assert recipe["learning_rate"] == pytest.approx(best["learning_rate"], rel=0.06)
    assert len(bundle.manifest["history"]) == 2


def test_who_is_searched(squares, tmp_path) -> None:
    train, validation, test = squares
    with pytest.raises(SettingsError, match="baseline has no search"):
        pt.fit(train, validation, "baseline", trials=3)
    with pytest.raises(SettingsError, match="only tuned and transfer can be searched, not 'baseline'"):
        pt.compare(test, tmp_path / "run", tune=["baseline"])
    settings = {"image_size": 48, "epochs": 1, "fine_tune": 0, "trials": 2, "show_progress": False}
    models = ["baseline", "transfer"]
    with pytest.raises(SettingsError, match="none of the models is searched"):
        pt.compare(train, tmp_path / "a", models, **settings)
    done = pt.compare(train, tmp_path / "b", models, tune=["transfer"], **settings)
    assert len(done.contest.contestants[1].trials) == 2
    assert "search" in (tmp_path / "b" / "report.html").read_text()

"""A training that is killed anywhere continues to the same weights, bit by bit."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polytag as pt
from polytag.errors import SettingsError
from polytag.models import fit
from polytag.models.recipe import Recipe
from polytag.models.training import checkpoint
from polytag.models.training.checkpoint import Checkpoints
from polytag.models.training.cnn import train_cnn
from polytag.models.training.time_limit import ending_at


class Killed(BaseException):
    """Nothing in polytag may catch this."""


@pytest.fixture
def kill(monkeypatch) -> Any:
    """``kill(at)`` ends the process right after it has written this many checkpoints; one is due at every step."""
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    save = Checkpoints.save

    def set_up(at: int) -> None:
        written = []

        def saving(self: Checkpoints, name: str, facts: dict[str, Any], lists: dict[str, Any]) -> None:
            written.append(name)
            if "result" in facts or len(written) == at:  # The others would only be replaced.
                save(self, name, facts, lists)
            if len(written) == at:
                raise Killed

        monkeypatch.setattr(Checkpoints, "save", saving)

    return set_up


NETWORKS = {
    # The learning rate falls when the score stops improving, and training ends early.
    "baseline": {"learning_rate": 3e-3, "hyperparameters": {"filters1": 8, "filters2": 8, "filters3": 8, "dense": 16}},
    # A schedule for the learning rate, dropout, and photos that are reduced.
    "tuned": {"hyperparameters": {"filters1": 8, "filters2": 8, "filters3": 8, "dense": 16, "reduce": 2}},
}


@pytest.mark.parametrize("model", NETWORKS)
def test_a_network_is_trained_to_the_same_weights(squares, tmp_path, kill, model) -> None:
    train, validation, _ = squares
    size = 64 if model == "tuned" else 32
    recipe = Recipe.of(model, image_size=size, epochs=5, batch_size=32, augmentation="colour", **NETWORKS[model])
    network, fitted = train_cnn(train, validation, recipe, "whole", False)
    # Within the first epoch, within the second, and after the end.
    for at in (1, 4, 3 * len(fitted.history)):
        progress = tmp_path / str(at)
        kill(at)
        with pytest.raises(Killed):
            train_cnn(train, validation, recipe, "killed", False, checkpoints=Checkpoints(progress, {}))
        kill(0)
        again, other = train_cnn(train, validation, recipe, "killed", False, checkpoints=Checkpoints(progress, {}))
        assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), again.get_weights(), strict=True))
        assert other.history == fitted.history and other.kept == fitted.kept
        assert np.array_equal(other.probabilities, fitted.probabilities)


def test_training_that_continues_without_time_keeps_what_it_had(squares, tmp_path, kill) -> None:
    train, validation, _ = squares
    recipe = Recipe.of("baseline", image_size=32, epochs=5, batch_size=32, **NETWORKS["baseline"])
    kill(5)  # three steps into the second epoch
    with pytest.raises(Killed):
        train_cnn(train, validation, recipe, "killed", False, checkpoints=Checkpoints(tmp_path, {}))
    kill(0)
    with ending_at(time.monotonic() - 1):
        _, fitted = train_cnn(train, validation, recipe, "killed", False, checkpoints=Checkpoints(tmp_path, {}))
    assert fitted.cut_short and len(fitted.history) == 2, "the first epoch and the one that was interrupted"


def test_averaged_training_runs_and_a_search_continue(squares, small_weights, tmp_path, kill) -> None:
    train, validation, test = squares
    settings = {"image_size": 32, "epochs": 2, "fine_tune": 12, "trials": 2, "batch_size": 32, "show_progress": False}
    settings["weights"] = small_weights
    whole = pt.fit(train, validation, "transfer", **settings)
    # Both epochs of the head, its end, the first of two runs, its end, and the middle of the second.
    kill(5 + 1 + 17 + 1 + 7)
    progress = tmp_path / "bundle.part"
    with pytest.raises(Killed):
        pt.fit(train, validation, "transfer", checkpoints=progress, **settings)
    left = {file.name: file.stat().st_mtime_ns for file in progress.iterdir()}
    assert {"head.npz", "fine-tuning-1.npz", "fine-tuning-2.npz", "search.log", "training.json"} <= left.keys()
    kill(0)
    with pytest.raises(SettingsError, match=r"bundle\.part was started with other recipe, settings\. Repeat"):
        pt.fit(train, validation, "transfer", checkpoints=progress, learning_rate=1e-3, **settings)
    continued = pt.fit(train, validation, "transfer", checkpoints=progress, **settings)
    for name in ("head.npz", "fine-tuning-1.npz"):
        assert (progress / name).stat().st_mtime_ns == left[name], "what was finished is not done again"
    assert np.array_equal(continued.predict(test.paths)[0], whole.predict(test.paths)[0])
    for fact in ("history", "trials", "thresholds", "calibration", "validation", "fine_tuning"):
        assert continued.manifest[fact] == whole.manifest[fact]


@pytest.mark.parametrize("model", ["baseline", "transfer"])
def test_a_training_with_a_time_budget_continues_as_it_was_planned(
    squares, small_weights, tmp_path, kill, monkeypatch, model: str
) -> None:
    train, validation, _ = squares
    settings = {"minutes": 0.5, "image_size": 32, "epochs": 2, "checkpoints": tmp_path, "show_progress": False}
    settings |= {"weights": small_weights} if model == "transfer" else {}
    said: list[str] = []
    kill(1)
    with pytest.raises(Killed):
        pt.fit(train, validation, model, say=said.append, **settings)
    kill(0)
    monkeypatch.setattr(fit, "plan_budget", lambda *_: pytest.fail("it was planned again"))
    bundle = pt.fit(train, validation, model, say=said.append, **settings)
    assert said[0] == bundle.manifest["budget"] and said[1] == f"as it was planned before: {said[0]}"
    with pytest.raises(SettingsError, match=r"was started with other .*budget"):
        pt.fit(train, validation, model, **settings | {"minutes": None, "image_size": 32})


def test_what_cannot_be_used_is_not_used(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, {"recipe": [1, 2]})
    assert checkpoints.load("cnn", "a") is None
    checkpoints.save(
        "cnn", {"key": "a", "seconds": 2.5}, {"network": [np.ones(3), np.zeros(2)], "predictions": np.eye(2)}
    )
    saved = checkpoints.load("cnn", "a")
    assert saved is not None and checkpoints.seconds == 2.5 and len(saved.list("network")) == 2
    assert np.array_equal(saved.arrays["predictions"], np.eye(2))
    assert checkpoints.load("cnn", "another recipe") is None and checkpoints.seconds == 2.5
    file = tmp_path / "cnn.npz"
    content = file.read_bytes()
    for damaged in (b"", content[:200], content[: len(content) // 2] + b"x" + content[len(content) // 2 + 1 :]):
        file.write_bytes(damaged)
        assert checkpoints.load("cnn", "a") is None


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path, {"recipe": 1})
    with pytest.raises(SettingsError, match="in use by another process"):
        Checkpoints(tmp_path, {"recipe": 1})
    del first
    Checkpoints(tmp_path, {"recipe": 1})
    assert json.loads((tmp_path / "training.json").read_text()) == {"recipe": 1}
    (tmp_path / "training.json").write_text('{"rec')
    with pytest.raises(SettingsError, match=r"training\.json is damaged .* Delete"):
        Checkpoints(tmp_path, {"recipe": 1})

"""The search, with pretended trainings: what is tried, for how long, and what survives a kill."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from polytag.errors import SettingsError
from polytag.models.recipe import Recipe
from polytag.models.search import search as searching
from polytag.models.search import trials as running
from polytag.models.search.search import Found, search
from until import until

PRETENDED = '''
"""A space of two numbers, of which one matters, and a score that leaves a trace."""

import time
from dataclasses import replace
from pathlib import Path

TRACE = Path(__file__).with_name("trace.txt")


def space(trial, recipe, asked):
    return replace(
        recipe,
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
    )


def score(train, validation, recipe, report):
    with TRACE.open("a") as file:
        file.write(f"{recipe.learning_rate!r}\\n")
    value = 1 - abs(recipe.learning_rate - 0.01) * 5
    for epoch in range(8):
        report(epoch, value * (epoch + 1) / 8)
    return value


def slow_score(*arguments):
    value = score(*arguments)
    time.sleep(0.4)
    return value
'''

FIRST = [{"learning_rate": 1e-3, "weight_decay": 1e-3}]


@pytest.fixture
def pretended(tmp_path, monkeypatch) -> Any:
    (tmp_path / "pretended.py").write_text(PRETENDED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pretended", raising=False)
    import pretended  # type: ignore[import-not-found]

    yield pretended
    del sys.modules["pretended"]


@pytest.fixture
def searched(squares, pretended) -> Callable[..., Found]:
    """A search for "tuned"; by default in this process, with one given trial."""

    def run(score: str = "score", seed: int = 0, **settings: Any) -> Found:
        train, validation, _ = squares
        recipe = Recipe.of("tuned", image_size=48, seed=seed)
        given = {"first": FIRST, "show_progress": False} | settings
        return search(train, validation, recipe, pretended.space, getattr(pretended, score), **given)

    return run


def trace(pretended) -> list[float]:
    """The learning rates that were tried."""
    return [float(line) for line in pretended.TRACE.read_text().splitlines()]


def tried(found: Found) -> list[float]:
    return [trial["learning_rate"] for trial in found.trials]


def test_it_finds_what_counts(searched) -> None:
    found = searched(trials=30)
    assert len(found.trials) == 30 and found.trials[0] == FIRST[0] | {"score": 0.955, "state": "complete"}
    assert found.recipe.learning_rate == pytest.approx(0.01, rel=0.3)
    best = max((t for t in found.trials if t["state"] == "complete"), key=lambda t: t["score"])
    assert found.recipe.learning_rate == best["learning_rate"]
    assert next(iter(found.importance)) == "learning_rate"
    assert sum(found.importance.values()) == pytest.approx(1, abs=1e-3)
    # Poor trials are pruned; their score is the best that they had reached.
    pruned = [t["score"] for t in found.trials if t["state"] == "pruned"]
    assert pruned and max(pruned) < 0.9


def test_the_same_seed_gives_the_same_search(searched) -> None:
    assert tried(searched(trials=9)) == tried(searched(trials=9))
    assert tried(searched(trials=9)) != tried(searched(trials=9, seed=1))


def test_an_interruption_changes_nothing(searched, pretended, tmp_path, monkeypatch) -> None:
    whole = searched(trials=9)
    original, calls = pretended.score, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) in (1, 5, 6):
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(pretended, "score", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            searched(trials=9, storage=tmp_path / "search.log")
    resumed = searched(trials=9, storage=tmp_path / "search.log")
    assert resumed.trials == whole.trials and resumed.recipe == whole.recipe
    assert len(calls) == 9 + 3
    # More trials go on from there.
    more = searched(trials=11, storage=tmp_path / "search.log")
    assert more.trials[:9] == whole.trials and len(more.trials) == 11 and len(calls) == 9 + 3 + 2
    assert len(set(tried(more))) == 11


def test_the_time_of_earlier_processes_counts(searched, pretended, tmp_path, monkeypatch) -> None:
    now = 0.0

    def minute_long(train, validation, recipe, report):
        nonlocal now
        for epoch in range(2):
            now += 30
            report(epoch, 0.5)
        if now == 150:
            raise KeyboardInterrupt
        return 0.5

    monkeypatch.setattr(running.time, "monotonic", lambda: now)
    monkeypatch.setattr(pretended, "score", minute_long)
    assert len(searched(timeout=130).trials) == 3, "none begins after 130 seconds"
    now = 30.0
    with pytest.raises(KeyboardInterrupt):
        searched(timeout=200, storage=tmp_path / "search.log")
    now = 1000.0
    found = searched(timeout=200, storage=tmp_path / "search.log")
    assert found.earlier_seconds == 120 and len(found.trials) == 1 + 2
    now = 5000.0
    assert len(searched(timeout=200, storage=tmp_path / "search.log").trials) == 3 and now == 5000
    assert len(searched(timeout=1e-9, trials=5).trials) == 1, "one is tried whatever the time"


def test_a_killed_search_continues_where_it_was(squares, searched, pretended, tmp_path) -> None:
    train, validation, _ = squares
    arguments = tmp_path / "arguments.pickle"
    arguments.write_bytes(pickle.dumps((train, validation, Recipe.of("tuned", image_size=48))))
    code = (
        "import pickle; from pathlib import Path; import pretended; "
        "from polytag.models.search.search import search; "
        f"search(*pickle.loads(Path({str(arguments)!r}).read_bytes()), pretended.space, pretended.slow_score, "
        f"first={FIRST!r}, trials=1000, storage={str(tmp_path / 'search.log')!r}, show_progress=False)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    try:
        until(lambda: pretended.TRACE.exists() and len(trace(pretended)) >= 4)
    finally:
        process.kill()
        process.wait(60)
    begun = len(trace(pretended))
    resumed = searched(trials=begun + 2, storage=tmp_path / "search.log")
    assert tried(resumed) == tried(searched(trials=begun + 2))


def test_the_file(searched, tmp_path) -> None:
    log = tmp_path / "search.log"
    before = searched(trials=3, storage=log).trials
    # Half a line, as a kill may leave it, is dropped; anything else is not guessed at.
    with log.open("a") as file:
        file.write('{"op_code": 4, "worker')
    assert searched(trials=4, storage=log).trials[:3] == before
    with pytest.raises(SettingsError, match="search with different recipe"):
        searched(trials=4, storage=log, seed=1)
    with pytest.raises(SettingsError, match="a search with different settings"):
        searched(trials=4, storage=log, asked=["loss"])
    log.write_text("{\n" + log.read_text())
    with pytest.raises(SettingsError, match="delete it"):
        searched(trials=5, storage=log)


def test_bad_efforts_are_refused(searched) -> None:
    for effort in ({"trials": 0}, {"timeout": 0.0}, {"timeout": float("nan")}):
        with pytest.raises(SettingsError, match=f"{next(iter(effort))} must be"):
            searched(**effort)


def test_when_nothing_can_be_trained(searched, pretended, monkeypatch) -> None:
    def diverging(*arguments):
        raise searching.optuna.TrialPruned

    monkeypatch.setattr(pretended, "score", diverging)
    with pytest.raises(SettingsError, match="all trials of the search diverged"):
        searched(trials=2)

"""Searches that processes share through PostgreSQL."""

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import psycopg
import pytest

from polytag.errors import MachineError, SettingsError
from polytag.models.options import TrainOptions, check_training
from polytag.models.recipe import Recipe
from polytag.models.search.search import search
from polytag.models.search.shared import open_shared
from postgres import can_start, postgres
from until import until

WORKER = '''
"""A process that takes part in the search: it writes the learning rate of each trial it starts, and what it found."""

import json, pickle, sys, time
from dataclasses import replace
from pathlib import Path

from polytag.models.search import search, shared

shared.HEARTBEAT_SECONDS, shared.GRACE_SECONDS, shared.POLL_SECONDS = 1, 3, 0.2
here = Path(__file__).parent
name, url, trials, timeout, first = json.loads(sys.argv[1])


def space(trial, recipe, asked):
    return replace(recipe, learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True))


def score(train, validation, recipe, report):
    with (here / f"{name}.trace").open("a") as file:
        file.write(f"{recipe.learning_rate!r}\\n")
    time.sleep(0.3)
    # Equal scores: all must choose the same of the best trials.
    return 0.5


data = pickle.loads((here / "data.pickle").read_bytes())
found = search.search(
    *data, space, score, first=first, trials=trials, timeout=timeout, storage=url, show_progress=False
)
(here / f"{name}.json").write_text(json.dumps([found.recipe.learning_rate, found.trials]))
'''


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if not can_start():
        pytest.skip("PostgreSQL is not installed, or every user is root")
    with postgres() as address:
        yield address


@pytest.fixture
def start(url, squares, tmp_path) -> Iterator[Callable[..., subprocess.Popen]]:
    train, validation, _ = squares
    # Each test searches for another recipe, so that it has a study of its own.
    seed = abs(hash(str(tmp_path))) % 2**32
    (tmp_path / "data.pickle").write_bytes(
        pickle.dumps((train, validation, Recipe.of("tuned", image_size=48, seed=seed)))
    )
    (tmp_path / "worker.py").write_text(WORKER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = []

    def worker(name: str, trials: int | None, timeout: float | None = None, first: tuple = ()) -> subprocess.Popen:
        what = json.dumps([name, url, trials, timeout, first])
        command = [sys.executable, str(tmp_path / "worker.py"), what]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield worker
    for process in started:
        process.kill()
        process.communicate()


def traces(folder: Path) -> list[float]:
    return [float(line) for file in folder.glob("*.trace") for line in file.read_text().splitlines()]


def test_processes_share_a_search_and_one_of_them_dies(start, url, tmp_path) -> None:
    first = ({"learning_rate": 0.02}, {"learning_rate": 0.03})
    victim = start("victim", 12, first=first)
    until(lambda: (tmp_path / "victim.trace").exists())
    victim.kill()
    (dead,) = traces(tmp_path)
    others = [start(name, 12, first=first) for name in ("a", "b", "c")]
    for other in others:
        assert other.wait(120) == 0, other.stderr.read()
    found = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("a", "b", "c")]
    assert found[0] == found[1] == found[2]
    best, trials = found[0]
    tried = [trial["learning_rate"] for trial in trials]
    assert len(tried) == len(set(tried)) == 12
    # The dead process' trial was done again, once; no other trial was done twice or lost.
    assert dead in (0.02, 0.03) and {0.02, 0.03} <= set(tried)
    assert sorted([*tried, dead]) == sorted(traces(tmp_path)) and best == tried[0]
    # Whoever comes later finds the result; with more trials, the search goes on.
    assert start("late", 12).wait(120) == 0
    assert json.loads((tmp_path / "late.json").read_text()) == found[0] and not (tmp_path / "late.trace").exists()
    assert start("more", 13).wait(120) == 0
    assert len(json.loads((tmp_path / "more.json").read_text())[1]) == 13


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_processes_that_start_together_find_one_search(url) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")

    def opened(_: int) -> list[optuna.trial.FrozenTrial]:
        return open_shared(f"{url.removesuffix('postgres')}fresh", "tuned", {}, pruner, [{"rate": 1.0}])[0].trials

    pruner = optuna.pruners.NopPruner()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(opened, range(4)))
    assert all(len(trials) <= 1 for trials in found) and len(opened(0)) == 1


def test_a_time_limit_ends_all_processes_together(start, tmp_path) -> None:
    processes = [start("a", None, 2.0), start("b", None, 2.0)]
    assert [process.wait(120) for process in processes] == [0, 0]
    a, b = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    assert a == b and len(a[1]) == len(traces(tmp_path)) >= 2


def test_a_process_that_dies_before_its_first_heartbeat_blocks_nobody(start, url, tmp_path) -> None:
    assert start("a", 1).wait(120) == 0
    name = next(study for study in optuna.get_all_study_names(_storage(url)) if _trials(url, study) == 1)
    optuna.load_study(study_name=name, storage=_storage(url)).ask()
    begin = time.monotonic()
    assert start("b", 2).wait(120) == 0 and time.monotonic() - begin > 3
    assert len(json.loads((tmp_path / "b.json").read_text())[1]) == 2


def _storage(url: str) -> str:
    return url.replace("postgresql", "postgresql+psycopg")


def _trials(url: str, study: str) -> int:
    return len(optuna.load_study(study_name=study, storage=_storage(url)).trials)


def test_a_database_that_cannot_be_reached_is_one_line(squares) -> None:
    train, validation, _ = squares
    recipe = Recipe.of("tuned", image_size=48)
    with pytest.raises(MachineError, match=r"cannot be used \(.*refused.*\): run the command again") as caught:
        search(train, validation, recipe, None, None, storage="postgresql://me:secret@127.0.0.1:9/x")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    with pytest.raises(SettingsError, match="--storage cannot be used"):
        search(train, validation, recipe, None, None, storage="oracular://x")  # type: ignore[arg-type]


def test_storage_that_cannot_be_shared_is_refused() -> None:
    for storage, message in (("sqlite:///x.db", "SQLite cannot be shared"), ("search.log", "must be the URL")):
        with pytest.raises(SettingsError, match=message):
            TrainOptions(storage=storage)
    with pytest.raises(SettingsError, match=r"minutes cannot be used with storage.*Use timeout or trials"):
        TrainOptions(storage="postgresql://x/y", trials=5, minutes=10)
    with pytest.raises(SettingsError, match="minutes cannot be used with storage"):
        TrainOptions(storage="postgresql://x/y", timeout="10m").override({"minutes": 10})
    with pytest.raises(SettingsError, match="storage is for a search"):
        check_training("baseline", TrainOptions(storage="postgresql://x/y"))

"""How large the cache grows: what was least recently used goes, what is in use stays, whoever uses it."""

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from polytag.errors import SettingsError
from polytag.photos import cache_room
from polytag.photos.array_cache import ArrayCache
from polytag.photos.cache_room import cache_folder, make_room

KILOBYTE = 1000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    # One test's warning would be the last.
    cache_room._warn_once.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch):
    """``limit(kilobytes)`` bounds the cache."""
    return lambda kilobytes: monkeypatch.setenv("POLYTAG_CACHE_LIMIT", str(kilobytes * KILOBYTE / 1e9))


def kept(name: str, kilobytes: int, used: int = 0) -> ArrayCache:
    """A cache with so many kilobytes in it, last used at that time."""
    cache = ArrayCache(name, (KILOBYTE,), "uint8")
    cache.add([str(i) for i in range(kilobytes)], [np.full(KILOBYTE, i % 256, np.uint8) for i in range(kilobytes)])
    if used:
        os.utime(cache.data, (used, used))
    return cache


def names(folder: Path) -> set[str]:
    return {rows.parent.name for rows in folder.glob("*/rows.bin")}


def test_the_folder_is_the_environments_or_the_users(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder() == own_cache
    assert own_cache.is_dir()
    monkeypatch.delenv("POLYTAG_CACHE")
    monkeypatch.setattr(cache_room.platformdirs, "user_cache_dir", lambda name: str(tmp_path / "user" / name))
    assert cache_folder() == tmp_path / "user" / "polytag"


@pytest.mark.parametrize("setting", ["0", "-1", "much", "nan", "inf", "20 GB"])
def test_a_limit_that_is_none_is_refused(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYTAG_CACHE_LIMIT", setting)
    with pytest.raises(SettingsError) as caught:
        ArrayCache("a", (2,), "int32")
    expected = f"POLYTAG_CACHE_LIMIT is '{setting}': expected a positive number of gigabytes, such as 20"
    assert str(caught.value) == expected


def test_the_least_recently_used_goes_first(own_cache: Path, limit) -> None:
    for used, name in enumerate(["oldest", "old", "young"], 1000):
        kept(name, 100, used)
    ArrayCache("oldest", (KILOBYTE,), "uint8")  # to open it is to use it
    limit(400)
    new = kept("new", 150)
    assert names(own_cache) == {"oldest", "young", "new"}
    assert not (own_cache / "old").exists()
    assert (new.rows([str(i) for i in range(150)]) >= 0).all()


def test_nothing_goes_while_there_is_room(own_cache: Path, limit) -> None:
    limit(400)
    for name in ("a", "b", "c"):
        kept(name, 100, 1000)
    assert names(own_cache) == {"a", "b", "c"}


def test_a_lower_limit_counts_from_the_next_opening(own_cache: Path, limit) -> None:
    for used, name in enumerate(["a", "b", "c"], 1000):
        kept(name, 100, used)
    limit(150)
    ArrayCache("a", (KILOBYTE,), "uint8")
    assert names(own_cache) == {"a"}


def test_what_is_not_arrays_is_neither_counted_nor_removed(own_cache: Path, limit) -> None:
    others = [own_cache / "weights" / "mine.pth", own_cache / "loose", own_cache / "theirs" / "rows.bin"]
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(bytes(500 * KILOBYTE))
    kept("a", 100, 1000)
    limit(250)
    kept("b", 90)
    assert (own_cache / "a").exists()
    kept("c", 100)
    assert not (own_cache / "a").exists()
    assert all(other.exists() for other in others)


@pytest.mark.parametrize("held", ["cache", "array"])
def test_what_is_in_use_here_stays_until_it_is_let_go(own_cache: Path, held: str, limit) -> None:
    cache = kept("held", 100, 1000)
    in_use = cache if held == "cache" else cache.open()
    del cache
    limit(50)
    make_room(0)
    assert names(own_cache) == {"held"}
    del in_use
    make_room(0)
    assert names(own_cache) == set()


HOLDER = """
import sys
from polytag.photos.array_cache import ArrayCache
array = ArrayCache("held", (1000,), "uint8").open()
print("ready", flush=True)
sys.stdin.readline()
print(array.sum(axis=1).tolist() == [1000 * i for i in range(100)], flush=True)
"""


def test_what_another_process_uses_stays_until_that_ends(own_cache: Path, limit) -> None:
    kept("held", 100, 1000)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    limit(50)
    make_room(0)
    assert names(own_cache) == {"held"}
    assert holder.communicate("go on\n", timeout=30)[0] == "True\n"
    make_room(0)
    assert names(own_cache) == set()


def test_a_run_that_needs_more_than_the_limit_goes_on_and_is_told_once(
    own_cache: Path, limit, caplog: pytest.LogCaptureFixture
) -> None:
    limit(100)
    caches = [kept(name, 80) for name in ("a", "b", "c")]
    assert names(own_cache) == {"a", "b", "c"}
    for cache in caches:
        assert cache.read(cache.rows(["79"])).tolist() == [[79] * KILOBYTE]
    (warning,) = caplog.messages
    assert "exceeds its limit" in warning
    assert len(warning.splitlines()) == 1


def test_a_small_disk_is_not_filled_by_more_than_half(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    size = 1000 * KILOBYTE
    monkeypatch.setattr(
        cache_room.shutil,
        "disk_usage",
        lambda folder: usage(size - sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())),
    )
    kept("a", 200, 1000)
    kept("b", 200, 1001)
    assert names(own_cache) == {"a", "b"}
    kept("c", 200, 1002)
    assert names(own_cache) == {"b", "c"}


USER = """
import sys, numpy as np
from polytag.photos.array_cache import ArrayCache
from polytag.photos.cache_room import make_room
me = int(sys.argv[1])
for step in range(150):
    number = (me + step) % 3
    cache = ArrayCache(f"shared{number}", (1000,), "uint8")
    key = str(step % 20)
    cache.add([key], [np.full(1000, 10 * number + step % 20, np.uint8)])
    rows, array = cache.rows([key]), cache.open()
    del cache
    make_room(0)
    assert (array[rows] == 10 * number + step % 20).all()
    del array
"""


def test_opening_and_removing_at_once_loses_nothing(own_cache: Path, limit) -> None:
    limit(30)
    users = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", USER, str(me)], stderr=subprocess.PIPE, text=True)
        for me in range(3)
    ]
    for user in users:
        assert [line for line in user.communicate(timeout=300)[1].splitlines() if "exceeds its limit" not in line] == []
        assert user.returncode == 0

"""The cache: each photo decoded once, found by its content, and whole whatever becomes of its processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from polytag.data import cache as cache_module
from polytag.data.cache import ArrayCache, cache_folder, pixels
from polytag.data.images import content_hash, decode
from polytag.errors import SettingsError

Photos = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "own" / "cache"))
    return tmp_path / "own" / "cache"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the photos that `pixels` decodes, as it decodes them."""
    names: list[str] = []

    def spy(source: str, size: int) -> NDArray[np.uint8]:
        names.append(Path(source).name)
        return decode(source, size)

    monkeypatch.setattr(cache_module, "decode", spy)
    return names


def test_pixels_are_written_in_portions(tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    portions: list[int] = []
    monkeypatch.setattr(ArrayCache, "add", lambda self, keys, arrays: portions.append(len(arrays)))
    pixels(photos(tmp_path, 300), 8)
    assert portions == [128, 128, 44]


def test_every_photo_is_decoded_once(tmp_path: Path, photos: Photos, decoded: list[str]) -> None:
    paths = photos(tmp_path, 300)  # more than two of the portions in which rows are written
    for order in (paths, paths[::-1], paths[:5]):
        array, rows, bad = pixels(order, 16)
        assert bad == {}
        assert rows.dtype == np.int64
        assert array.dtype == np.uint8
        assert array.shape[1:] == (16, 16, 3)
        for path, row in zip(order, rows, strict=True):
            assert np.array_equal(array[row], decode(path, 16))
        assert len(set(rows.tolist())) == len(order)
    assert sorted(decoded) == sorted(Path(path).name for path in paths)
    assert len(array) == 300


def test_each_size_is_kept_by_itself(tmp_path: Path, photos: Photos, decoded: list[str]) -> None:
    paths = photos(tmp_path, 2)
    for size in (16, 24, 16):
        array, rows, _ = pixels(paths, size)
        assert np.array_equal(array[rows[1]], decode(paths[1], size))
    assert len(decoded) == 4


def test_the_same_content_shares_a_row(tmp_path: Path, photos: Photos, decoded: list[str]) -> None:
    paths = photos(tmp_path, 2)
    copies = [tmp_path / f"copy{i}.png" for i in range(2)]
    for copy in copies:
        copy.write_bytes(Path(paths[0]).read_bytes())
    _, rows, _ = pixels([paths[1], str(copies[0]), paths[0]], 16)
    assert rows[1] == rows[2] != rows[0]
    assert pixels([str(copies[1])], 16)[1].tolist() == [rows[1]]
    assert sorted(decoded) == ["copy0.png", "image1.jpg"] or sorted(decoded) == ["image0.jpg", "image1.jpg"]


def test_a_changed_file_gets_a_new_row(tmp_path: Path, photos: Photos) -> None:
    path, other = photos(tmp_path, 2)
    _, before, _ = pixels([path], 16)
    Path(path).write_bytes(Path(other).read_bytes() + b"\0" * 7)
    array, after, _ = pixels([path], 16)
    assert after != before
    assert np.array_equal(array[after[0]], decode(other, 16))


def test_bad_photos_are_reported_and_the_rest_is_there(tmp_path: Path, photos: Photos) -> None:
    paths = photos(tmp_path, 6)
    Path(paths[1]).write_bytes(b"text")
    Path(paths[3]).unlink()
    Path(paths[4]).write_bytes(b"text")  # the same bad content twice
    Path(paths[5]).unlink()
    Path(paths[5]).mkdir()
    progress: list[int] = []
    for _ in range(2):
        array, rows, bad = pixels(paths, 16, progress.append)
        assert set(bad) == {paths[1], paths[3], paths[4], paths[5]}
        assert bad[paths[1]] == bad[paths[4]]
        assert bad[paths[1]].startswith("not an image")
        assert bad[paths[3]] == "No such file or directory"
        assert bad[paths[5]] == "Is a directory"
        assert (rows < 0).tolist() == [False, True, False, True, True, True]
        assert np.array_equal(array[rows[2]], decode(paths[2], 16))
        assert sum(progress) == len(paths)
        progress.clear()


def test_bad_photos_alone_and_no_photos_at_all(tmp_path: Path) -> None:
    bad_path = tmp_path / "a.jpg"
    bad_path.write_bytes(b"")
    array, rows, bad = pixels([str(bad_path)], 16)
    assert (array.shape, rows.tolist(), bad) == ((0, 16, 16, 3), [-1], {str(bad_path): "the file is empty"})
    array, rows, bad = pixels([], 16)
    assert (array.shape, rows.shape, bad) == ((0, 16, 16, 3), (0,), {})
    assert rows.dtype == np.int64


def test_what_was_added_is_found_again() -> None:
    first = ArrayCache("features", (3,), "float32")
    assert first.rows(["a", "b"]).tolist() == [-1, -1]
    assert first.open().shape == (0, 3)
    first.add(["a", "b"], np.array([[1, 2, 3], [4, 5, 6]]))
    second = ArrayCache("features", (3,), "float32")
    second.add(["b", "c"], np.array([[0, 0, 0], [7, 8, 9]]))
    rows = first.rows(["c", "none", "b", "a", "b"])
    assert rows[1] == -1
    assert first.open()[rows[[0, 2, 3, 4]]].tolist() == [[7, 8, 9], [4, 5, 6], [1, 2, 3], [4, 5, 6]]
    with pytest.raises(ValueError, match="read-only"):
        first.open()[0] = 1


def test_many_keys_are_found() -> None:
    cache = ArrayCache("many", (1,), "int32")
    keys = [f"key{i}" for i in range(1700)]
    cache.add(keys, np.arange(1700)[:, None])
    assert cache.open()[cache.rows(keys[::-1])].ravel().tolist() == list(range(1700))[::-1]


ADDER = """
import sys, numpy as np
from polytag.data.cache import ArrayCache
me = int(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for step in range(40):
    keys = [f"both{step}", f"own{me}-{step}"]
    values = [step, 1000 * me + step]
    ArrayCache("shared", (5000,), "int32").add(keys, np.repeat(np.array(values)[:, None], 5000, axis=1))
"""


def test_two_processes_may_add_at_once() -> None:
    adders = [
        subprocess.Popen(
            [sys.executable, "-c", ADDER, str(me)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for me in (1, 2)
    ]
    for adder in adders:
        assert adder.stdout is not None
        assert adder.stdout.readline() == "ready\n"
    for adder in adders:
        assert adder.stdin is not None
        adder.stdin.write("go\n")
        adder.stdin.flush()
    for adder in adders:
        adder.communicate(timeout=60)
        assert adder.returncode == 0
    cache = ArrayCache("shared", (5000,), "int32")
    expected = {f"both{step}": step for step in range(40)}
    expected |= {f"own{me}-{step}": 1000 * me + step for me in (1, 2) for step in range(40)}
    rows = cache.rows(list(expected))
    assert len(set(rows.tolist())) == len(expected)
    found = cache.open()[rows]
    assert (found == np.array(list(expected.values()))[:, None]).all()


KILLED = """
import os, sqlite3, sys, time
import numpy as np
from polytag.data import cache

class Stuck(sqlite3.Connection):
    def executemany(self, *args):
        print("the rows are written, their keys are not", flush=True)
        time.sleep(600)

connect = sqlite3.connect
cache.sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Stuck, **kwargs)
cache.ArrayCache("killed", (4,), "int32").add(["b", "c"], np.full((2, 4), 99))
"""


def test_a_kill_in_the_middle_of_add_leaves_the_cache_usable() -> None:
    cache = ArrayCache("killed", (4,), "int32")
    cache.add(["a"], np.full((1, 4), 1))
    victim = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    assert victim.stdout.readline().startswith("the rows are written")
    victim.send_signal(signal.SIGKILL)
    victim.wait(timeout=30)
    victim.stdout.close()

    after = ArrayCache("killed", (4,), "int32")
    assert len(after.open()) == 3  # it was in the middle: the file has the rows, and nobody refers to them
    assert after.rows(["a", "b", "c"]).tolist() == [0, -1, -1]
    started = time.monotonic()
    after.add(["c"], np.full((1, 4), 3))
    assert time.monotonic() - started < 30
    rows = after.rows(["a", "b", "c"])
    assert rows[1] == -1
    assert after.open()[rows[[0, 2]]].tolist() == [[1] * 4, [3] * 4]


def test_an_empty_or_half_a_row_counts_for_nothing() -> None:
    cache = ArrayCache("torn", (4,), "int32")
    for torn in (b"", b"12345"):
        cache.data.write_bytes(torn)
        assert cache.open().shape == (0, 4)
    cache.add(["a"], np.full((1, 4), 7))
    assert cache.open()[cache.rows(["a"])].tolist() == [[7] * 4]


@pytest.mark.parametrize("kept", [0, 1])
def test_rows_that_someone_removed_are_made_again(kept: int) -> None:
    cache = ArrayCache("removed", (2,), "int32")
    cache.add(["a", "b"], np.array([[1, 1], [2, 2]]))
    if kept:
        os.truncate(cache.data, kept * cache.row_bytes)
    else:
        cache.data.unlink()
    again = ArrayCache("removed", (2,), "int32")
    assert again.rows(["a", "b"]).tolist() == [0 if kept else -1, -1]
    again.add(["b"], np.array([[2, 2]]))
    assert again.open()[again.rows(["b"])].tolist() == [[2, 2]]


def test_the_folder_is_the_environments_or_the_users(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder() == own_cache
    assert own_cache.is_dir()
    monkeypatch.delenv("POLYTAG_CACHE")
    monkeypatch.setattr(cache_module.platformdirs, "user_cache_dir", lambda name: str(tmp_path / "user" / name))
    assert cache_folder() == tmp_path / "user" / "polytag"


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(SettingsError) as caught:
        make()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "set POLYTAG_CACHE" in message
    return message


def test_a_folder_that_cannot_be_used_is_refused(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_cache.parent.mkdir()
    own_cache.write_bytes(b"in the way")
    assert f"the cache folder {own_cache} cannot be used (File exists)" in refusal(cache_folder)
    own_cache.unlink()
    folder = ArrayCache("broken", (2,), "int32").folder
    (folder / "index.sqlite").write_bytes(b"no database " * 100)
    assert f"{folder} cannot be used (file is not a database)" in refusal(lambda: ArrayCache("broken", (2,), "int32"))
    (own_cache / "blocked").write_bytes(b"")
    assert "cannot be used (File exists)" in refusal(lambda: ArrayCache("blocked", (2,), "int32"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_said_and_leaves_the_cache_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ArrayCache("full", (2,), "int32")
    cache.add(["a"], np.array([[1, 1]]))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *args, **kwargs: open("/dev/full", "wb"))  # noqa: SIM115
        assert "(No space left on device)" in refusal(lambda: cache.add(["b"], np.array([[2, 2]])))
    assert cache.rows(["a", "b"]).tolist() == [0, -1]
    cache.add(["b"], np.array([[2, 2]]))
    assert cache.open()[cache.rows(["b"])].tolist() == [[2, 2]]


def test_keys_are_hashes_of_the_content(tmp_path: Path, photos: Photos) -> None:
    (path,) = photos(tmp_path, 1)
    _, rows, _ = pixels([path], 16)
    (name,) = (folder.name for folder in cache_folder().iterdir())
    assert ArrayCache(name, (16, 16, 3), "uint8").rows([content_hash(path)]).tolist() == rows.tolist()

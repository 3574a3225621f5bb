"""The cache: each photo decoded once, found by its content, and whole whatever becomes of its processes."""

import errno
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from polytag.errors import DataError, SettingsError
from polytag.photos import array_cache as array_cache_module
from polytag.photos import measure as measure_module
from polytag.photos import pixels as cache_module
from polytag.photos.array_cache import ArrayCache
from polytag.photos.cache_room import cache_folder
from polytag.photos.content import content_hash
from polytag.photos.decode import PIXEL_PATH, decode
from polytag.photos.measure import measure
from polytag.photos.pixels import fill, photo_view, pixel_cache, pixels

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


def test_another_pixel_path_decodes_again(
    tmp_path: Path, photos: Photos, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photos(tmp_path, 2)
    for path_version in (1, 2, 1):
        monkeypatch.setattr(cache_module, "PIXEL_PATH", path_version)
        pixels(paths, 16)
    assert len(decoded) == 4


@pytest.mark.parametrize("name", ["PIXEL_PATH", "VERSION"])
def test_other_measurements_are_measured_again(
    tmp_path: Path, photos: Photos, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photos(tmp_path, 1)
    examined: list[str] = []
    examine = measure_module.examine
    monkeypatch.setattr(measure_module, "examine", lambda path, size: (examined.append(path), examine(path, size))[1])
    measure(paths)
    measure(paths)
    assert len(examined) == 1
    monkeypatch.setattr(measure_module, name, 99)
    measure(paths)
    assert len(examined) == 2


def test_embeddings_depend_on_weights_size_view_and_versions(
    tmp_path: Path, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polytag.models.backbones import embed as features
    from polytag.models.backbones.weights import find_weights

    found = find_weights()
    if found.path is None:
        pytest.skip("no weights on this machine")
    altered = tmp_path / found.path.name
    altered.write_bytes(b"others")
    # The name of the weights carries their content's hash; what they are is of no matter here.
    other = type(found)(**{**vars(found), "path": altered, "sha256": "0" * 64})
    assert other.name != found.name
    runs: list[str] = []

    def no_backbone(weights: object, size: int, name: str) -> tuple[Callable[[NDArray], NDArray], int, int]:
        return lambda batch: (runs.append(name), np.zeros((len(batch), 8), np.float32))[1], 1, 8

    monkeypatch.setattr(features, "_backbone", no_backbone)
    paths = photos(tmp_path, 1)
    for _ in range(2):
        features.embed(paths, 32, found)
        features.embed(paths, 32, other)
        features.embed(paths, 48, found)
        features.embed(paths, 32, found, "half")
    assert len(runs) == 4
    for name in ("PIXEL_PATH", "VERSION"):
        with monkeypatch.context() as patch:
            patch.setattr(features, name, 99)
            features.embed(paths, 32, found)
            features.embed(paths, 32, found)
    assert len(runs) == 6
    # A changed photo is another key.
    Path(paths[0]).write_bytes(Path(photos(tmp_path / "new", 1)[0]).read_bytes() + b"\0")
    features.embed(paths, 32, found)
    assert len(runs) == 7


def test_photos_that_had_to_make_room_are_decoded_anew(
    tmp_path: Path, photos: Photos, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photos(tmp_path, 6)
    pixels(paths, 16)
    assert len(decoded) == 6
    monkeypatch.setenv("POLYTAG_CACHE_LIMIT", "1e-6")
    ArrayCache("features", (8,), "float32")  # as embedding does between decoding and fine-tuning
    view = photo_view(paths[::-1], 16)
    assert len(decoded) == 12, "the limit removed them"
    ArrayCache("more features", (8,), "float32")
    np.testing.assert_array_equal(view[:], [decode(path, 16) for path in paths[::-1]])
    photo_view(paths, 16)
    assert len(decoded) == 12, "what is held stays"


def test_a_view_of_a_photo_that_cannot_be_read_is_refused(tmp_path: Path, photos: Photos) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"text")
    with pytest.raises(DataError, match=r"bad\.jpg cannot be read: not an image"):
        photo_view([*photos(tmp_path, 2), str(bad)], 16)


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
from polytag.photos.array_cache import ArrayCache
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
    assert sorted(rows.tolist()) == list(range(len(expected)))  # and what both added is there once
    assert len(cache.open()) == len(expected)
    found = cache.open()[rows]
    assert (found == np.array(list(expected.values()))[:, None]).all()


KILLED = """
import os, sqlite3, sys, time
import numpy as np
from polytag.photos import array_cache as cache

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


FILLER = """
import sys, numpy as np
from polytag.photos.array_cache import ArrayCache
first, steps = int(sys.argv[1]), int(sys.argv[2])
cache = ArrayCache("random", (20000,), "int64")
for number in range(first, first + steps, 4):
    cache.add([str(number + i) for i in range(4)], [np.full(20000, number + i) for i in range(4)])
    if number == first:
        print("ready", flush=True)
"""


def filler(first: int, steps: int) -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", FILLER, str(first), str(steps)], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def complete(numbers: range) -> int:
    """How many of these numbers are there; each that is has all of its bytes."""
    cache = ArrayCache("random", (20000,), "int64")
    rows = cache.rows([str(number) for number in numbers])
    array = cache.open()
    for number, row in zip(numbers, rows.tolist(), strict=True):
        assert row < 0 or (array[row] == number).all()
    there = rows[rows >= 0].tolist()
    assert len(set(there)) == len(there)
    return len(there)


def test_whoever_is_killed_at_any_moment_leaves_whole_rows() -> None:
    moments = random.Random(0)
    counts = [0]
    for start in range(0, 25_000, 5000):
        victim = filler(start, 5000)
        time.sleep(moments.uniform(0.0, 0.15))
        victim.kill()
        victim.communicate(timeout=30)
        counts.append(complete(range(25_000)))
        assert 4 <= counts[-1] - counts[-2] < 5000, "it had ended before it was killed"


def test_a_reader_sees_whole_rows_while_others_add() -> None:
    adders = [filler(0, 120), filler(60, 120)]
    counts = [0]
    while any(adder.poll() is None for adder in adders):
        counts.append(complete(range(180)))
    for adder in adders:
        adder.communicate(timeout=30)
        assert adder.returncode == 0
    assert counts == sorted(counts)
    assert complete(range(180)) == 180


def test_rows_are_on_the_disk_before_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ArrayCache("order", (2,), "int32")
    seen: list[tuple[list[int], bytes]] = []
    monkeypatch.setattr(
        os, "fdatasync", lambda file: seen.append((cache.rows(["a"]).tolist(), cache.data.read_bytes()))
    )
    cache.add(["a"], np.array([[1, 2]]))
    assert seen == [([-1], np.array([1, 2], np.int32).tobytes())]


def test_an_array_of_another_shape_is_refused_and_shifts_no_row() -> None:
    cache = ArrayCache("shapes", (2,), "int32")
    with pytest.raises(ValueError, match="reshape"):
        cache.add(["a", "b"], [np.array([1, 2]), np.array([1, 2, 3])])
    assert cache.rows(["a", "b"]).tolist() == [-1, -1]
    cache.add(["b"], [np.array([3, 4])])
    assert cache.read(cache.rows(["b"])).tolist() == [[3, 4]]


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
    assert again.rows(["a", "b"]).tolist() == [-1, -1]
    again.add(["b"], np.array([[2, 2]]))
    assert again.open()[again.rows(["b"])].tolist() == [[2, 2]]


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(SettingsError) as caught:
        make()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_a_folder_that_cannot_be_used_is_refused(own_cache: Path) -> None:
    own_cache.parent.mkdir()
    own_cache.write_bytes(b"in the way")
    message = refusal(cache_folder)
    assert f"the cache folder {own_cache} cannot be used (File exists)" in message
    assert message.endswith("set POLYTAG_CACHE")
    own_cache.unlink()
    cache_folder()
    (own_cache / "blocked").write_bytes(b"")
    assert "cannot be used (File exists)" in refusal(lambda: ArrayCache("blocked", (2,), "int32"))


def no_database(index: Path) -> None:
    index.write_bytes(b"no database " * 1000)


def truncate(index: Path) -> None:
    os.truncate(index, index.stat().st_size // 2)


def empty(index: Path) -> None:
    index.write_bytes(b"")


def tear(index: Path) -> None:
    """Spoil the index's inner pages, as a bad disk does; its first page stays."""
    with index.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (index.stat().st_size - 4096))


@pytest.mark.parametrize("damage", [no_database, truncate, empty, Path.unlink, tear])
def test_a_damaged_index_starts_anew(damage: Callable[[Path], None]) -> None:
    cache = ArrayCache("broken", (2,), "int32")
    keys = [f"{i:064}" for i in range(300)]
    cache.add(keys, np.arange(600).reshape(300, 2))
    rows, array = cache.rows(keys), cache.open()
    damage(cache.folder / "index.sqlite")
    again = ArrayCache("broken", (2,), "int32")
    assert again.rows(keys[:2]).tolist() == [-1, -1]
    again.add(keys[1::-1], np.array([[7, 7], [8, 8]]))
    assert again.read(again.rows(keys[:2])).tolist() == [[8, 8], [7, 7]]
    # Whoever has the old rows keeps them, and gets no numbers of rows that are not theirs.
    assert array[rows].ravel().tolist() == list(range(600))
    assert "run this again" in refusal(lambda: cache.rows(keys[:1]))
    assert "run this again" in refusal(lambda: cache.add(["new"], np.array([[9, 9]])))
    assert again.rows(["new"]).tolist() == [-1]


@pytest.mark.parametrize("use", ["rows", "add"])
def test_damage_that_shows_during_a_run_is_said_and_gone_the_next_time(use: str) -> None:
    cache = ArrayCache("broken", (2,), "int32")
    keys = [f"{i:064}" for i in range(300)]
    cache.add(keys, np.arange(600).reshape(300, 2))
    tear(cache.folder / "index.sqlite")
    call = {"rows": lambda: cache.rows(keys), "add": lambda: cache.add(["new"], np.array([[9, 9]]))}[use]
    assert "was damaged (database disk image is malformed) and has been removed: run this again" in refusal(call)
    assert ArrayCache("broken", (2,), "int32").rows(keys[:1]).tolist() == [-1]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_deleted_in_use_gives_no_wrong_rows(own_cache: Path, replaced: bool) -> None:
    cache = ArrayCache("deleted", (2,), "int32")
    cache.add(["a", "b"], np.array([[1, 1], [2, 2]]))
    array, rows = cache.open(), cache.rows(["a", "b"])
    shutil.rmtree(own_cache)
    if replaced:
        ArrayCache("deleted", (2,), "int32").add(["b"], np.array([[2, 2]]))
    assert array[rows].tolist() == cache.read(rows).tolist() == [[1, 1], [2, 2]]
    for call in (lambda: cache.rows(["b"]), lambda: cache.add(["c"], np.array([[3, 3]]))):
        message = refusal(call)
        assert str(own_cache) in message
        assert not replaced or message.endswith("was deleted while it was in use: run this again")
    assert ArrayCache("deleted", (2,), "int32").rows(["b", "c"]).tolist() == [0 if replaced else -1, -1]


def test_a_deleted_cache_stops_a_filling_run_in_one_line(own_cache: Path, tmp_path: Path, photos: Photos) -> None:
    paths = photos(tmp_path, 150)

    def make(path: str) -> tuple[NDArray]:
        if path == paths[140]:
            shutil.rmtree(own_cache)
        return (decode(path, 16),)

    refusal(lambda: fill([pixel_cache(16)], paths, make))
    array, rows, _ = pixels(paths, 16)
    assert np.array_equal(array[rows[149]], decode(paths[149], 16))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot limit the size of a file")
def test_a_disk_that_fills_up_within_a_row_is_said_and_leaves_the_cache_as_it_was() -> None:
    import resource

    cache = ArrayCache("full", (20000,), "int32")
    cache.add(["a"], np.full((1, 20000), 1))
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * cache.row_bytes + 1000, allowed[1]))
    try:
        message = refusal(lambda: cache.add(["b", "c"], np.full((2, 20000), 2)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert "(File too large): make room" in message
    assert cache.data.stat().st_size == 2 * cache.row_bytes + 1000  # it was torn
    assert cache.rows(["a", "b", "c"]).tolist() == [0, -1, -1]
    cache.add(["c"], np.full((1, 20000), 3))
    assert (cache.read(cache.rows(["a", "c"])) == [[1], [3]]).all()


def test_a_disk_that_cannot_keep_what_it_took_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ArrayCache("full", (2,), "int32")
    cache.add(["a"], np.array([[1, 1]]))

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        message = refusal(lambda: cache.add(["b"], np.array([[2, 2]])))
    assert "cannot be used (No space left on device): make room" in message
    assert cache.rows(["a", "b"]).tolist() == [0, -1]
    cache.add(["b"], np.array([[2, 2]]))
    assert cache.open()[cache.rows(["b"])].tolist() == [[2, 2]]


def test_a_folder_without_checksums_starts_anew(own_cache: Path) -> None:
    (own_cache / "earlier").mkdir(parents=True)
    (own_cache / "earlier" / "rows.bin").write_bytes(np.array([[1, 1], [2, 2]], np.int32).tobytes())
    index = sqlite3.connect(own_cache / "earlier" / "index.sqlite")
    index.execute("CREATE TABLE rows (row INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE)")
    index.executemany("INSERT INTO rows VALUES (?, ?)", [(1, "b"), (0, "a")])
    index.commit()
    index.close()
    cache = ArrayCache("earlier", (2,), "int32")
    assert cache.rows(["a", "b"]).tolist() == [-1, -1]
    cache.add(["b"], np.array([[3, 3]]))
    assert cache.read(cache.rows(["b"])).tolist() == [[3, 3]]


def spoil(cache: ArrayCache, start: int, length: int, content: bytes = b"\0") -> None:
    """Overwrite bytes of the rows, and forget what this process has verified, as another process would."""
    with cache.data.open("r+b") as file:
        file.seek(start)
        file.write(content * length)
    array_cache_module._checked.clear()


@pytest.mark.parametrize("content", [b"\0", b"\xff"])
def test_rows_that_the_disk_has_spoiled_are_made_anew(
    content: bytes, tmp_path: Path, photos: Photos, decoded: list[str]
) -> None:
    paths = photos(tmp_path, 200)
    first, rows, _ = pixels(paths, 16)
    expected = first[rows].copy()
    bad = [0, 7, 150, 199]
    cache = pixel_cache(16)
    for i in bad:
        spoil(cache, int(rows[i]) * cache.row_bytes + 5, 40, content)
    decoded.clear()
    again, rows, errors = pixels(paths, 16)
    assert sorted(decoded) == sorted(f"image{i}.jpg" for i in bad)
    assert np.array_equal(again[rows], expected)
    assert not errors
    decoded.clear()
    array_cache_module._checked.clear()
    again, rows, _ = pixels(paths, 16)
    assert decoded == []
    assert np.array_equal(again[rows], expected)
    assert np.array_equal(photo_view(paths, 16)[:], expected)


def test_measurements_that_the_disk_has_spoiled_are_made_anew(tmp_path: Path, photos: Photos) -> None:
    paths = photos(tmp_path, 3)
    expected = measure(paths).records
    cache = ArrayCache(f"measurements-{measure_module.VERSION}-{PIXEL_PATH}", (), measure_module.STORED)
    spoil(cache, 0, 3 * cache.row_bytes)
    assert np.array_equal(measure(paths).records, expected)


def test_a_row_is_verified_once_in_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ArrayCache("once", (4,), "int32")
    cache.add(["a", "b"], np.arange(8).reshape(2, 4))
    assert cache.rows(["a"]).tolist() == [0]
    sums: list[int] = []
    crc32 = zlib.crc32
    monkeypatch.setattr(array_cache_module.zlib, "crc32", lambda row: sums.append(len(row)) or crc32(row))
    assert ArrayCache("once", (4,), "int32").rows(["a", "b", "c"]).tolist() == [0, 1, -1]
    assert sums == [16]


def test_keys_are_hashes_of_the_content(tmp_path: Path, photos: Photos) -> None:
    (path,) = photos(tmp_path, 1)
    _, rows, _ = pixels([path], 16)
    assert pixel_cache(16).rows([content_hash(path)]).tolist() == rows.tolist()

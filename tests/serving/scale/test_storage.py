"""Photos at URLs: fsspec's file system in memory, and an S3 server."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from polytag.errors import DataError, ImageError, MachineError
from polytag.serving.scale.shards import shards
from polytag.serving.scale.storage import contents, is_url

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def s3(tmp_path_factory) -> Iterator[str]:
    """The URL of an empty bucket."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("archive")
        yield "s3://archive"
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def store(request) -> str:
    return "memory://archive" if request.param == "memory" else request.getfixturevalue("s3")


def names(*sources: str) -> list[str]:
    return [name for shard in shards(sources, Counter()) for name in shard.names]


def test_photos_in_an_object_store(store: str, photos: Callable, tmp_path: Path) -> None:
    local = photos(tmp_path / "photos", ["a.jpg", "b[1].jpg", "sub/c.jpg", ".hidden/d.jpg"])
    storage, path = fsspec.core.url_to_fs(f"{store}/2024")
    storage.put(f"{tmp_path}/photos/", path, recursive=True)
    storage.pipe({f"{path}/list.txt": f"{store}/2024/a.jpg\n{local[2]}\n".encode(), f"{path}/x.csv": b"1"})
    parquet.write_table(pa.table({"path": [f"{store}/2024/sub/c.jpg"]}), tmp_path / "names.parquet")
    storage.put(f"{tmp_path}/names.parquet", f"{path}/names.parquet")

    every = [f"{store}/2024/{name}" for name in ("a.jpg", "b[1].jpg", "sub/c.jpg")]
    skipped: Counter[str] = Counter()
    (shard,) = shards([f"{store}/2024"], skipped)
    assert sorted(shard.names) == every and skipped.total() == 3
    assert names(f"{store}/2024/a.jpg", f"{store}/2024/*/*.jpg") == [every[0], every[2]]
    assert names(f"{store}/2024/list.txt") == [every[0], local[2]]
    assert names(f"{store}/2024/names.parquet") == [every[2]]
    read = dict(shard.read(""))
    assert [read[name] for name in every] == [Path(name).read_bytes() for name in local[:3]]
    with pytest.raises(DataError, match="no photos"):
        names(f"{store}/2024/*.gif")


def test_photos_in_parquet_in_an_object_store(store: str, photos: Callable, tmp_path: Path) -> None:
    content = [Path(name).read_bytes() for name in photos(tmp_path, 3)]
    parquet.write_table(pa.table({"path": ["x", "y", "z"], "content": content}), tmp_path / "part.parquet")
    storage, path = fsspec.core.url_to_fs(f"{store}/all.parquet")
    storage.put(str(tmp_path / "part.parquet"), f"{path}/part-0.parquet")
    (shard,) = shards([f"{store}/all.parquet"], Counter())
    assert list(shard.read("")) == list(zip("xyz", content, strict=True))


def test_a_missing_photo_is_an_error_of_the_photo(store: str) -> None:
    fsspec.filesystem(store.partition("://")[0]).pipe(f"{store}/one.jpg", b"1")
    first, second = contents([f"{store}/one.jpg", f"{store}/gone.jpg"])
    assert first == b"1" and isinstance(second, ImageError)


def test_a_photo_takes_one_request(s3: str, caplog: pytest.LogCaptureFixture) -> None:
    fsspec.filesystem("s3").pipe(f"{s3}/once.jpg", b"1")
    caplog.clear()
    with caplog.at_level("INFO", "werkzeug"):
        assert list(contents([f"{s3}/once.jpg"])) == [b"1"]
    assert len([one for one in caplog.messages if "once.jpg" in one]) == 1


def test_a_store_that_cannot_be_reached_is_not_the_fault_of_the_photo() -> None:
    with pytest.raises(MachineError, match=r"nosuch://x/a\.jpg cannot be read"):
        list(contents(["nosuch://x/a.jpg"]))


def test_what_a_url_is() -> None:
    assert is_url("s3://bucket/a.jpg") and is_url("abfs://c@account.dfs.core.windows.net/a")
    assert not is_url("C://a.jpg") and not is_url("/a://b.jpg") and not is_url("photos/a.jpg")

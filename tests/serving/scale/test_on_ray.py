"""Runs on a local Ray cluster. Skipped without Ray, which takes half a minute to start on a busy machine."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from colours import write_colour_bundle
from polytag.errors import ImageError, MachineError, SettingsError
from polytag.serving.scale.shards import SHARD
from polytag.serving.scale.worker import TagTask
from tiny_encoders import TINY, write_photos

pytest.importorskip("ray")


def polytag(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polytag", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_run_on_ray_writes_the_rows_of_tag_and_is_continued(photos, tmp_path: Path) -> None:
    write_colour_bundle(tmp_path / "bundle")
    photos(tmp_path / "photos", SHARD + 20)
    (tmp_path / "photos" / "bad.jpg").write_text("text")
    command = ["tag", tmp_path / "bundle", tmp_path / "photos", "--threshold", "0.3"]
    assert polytag(*command, "--out", tmp_path / "tags.parquet").returncode == 0
    done = polytag(*command, "--engine", "ray", "--out", tmp_path / "tags", "--top", "3")
    assert done.returncode == 0 and "521 photos" in done.stdout, done.stderr
    assert "1 of 521 photos could not be read" in done.stderr
    expected = pd.read_parquet(tmp_path / "tags.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "tags"), expected)

    first, second = sorted((tmp_path / "tags").glob("part-*"))
    second.unlink()
    before = first.stat().st_mtime_ns
    done = polytag(*command, "--engine", "ray", "--out", tmp_path / "tags", "--top", "3", "--resume")
    assert done.returncode == 0 and second.exists() and first.stat().st_mtime_ns == before, done.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "tags"), expected)


def test_an_error_of_a_worker_is_one_of_polytag() -> None:
    import ray

    from polytag.serving.scale.on_ray import _cause

    for error in (MachineError("disk full"), ImageError("gone", "missing")):
        wrapped = ray.exceptions.RayTaskError("task", "traceback", error).as_instanceof_cause()
        assert type(_cause(wrapped)) is type(error) and str(_cause(wrapped)) == str(error)
    assert str(_cause(ray.exceptions.RayError("a\nlast line"))) == "Ray failed: last line"


def test_an_address_without_a_cluster(tmp_path: Path) -> None:
    from polytag.serving.scale.on_ray import ray_cluster

    task = TagTask.of(write_colour_bundle(tmp_path / "bundle"))
    for address in ("127.0.0.1:1", "nonsense"):
        with pytest.raises(SettingsError, match=f"no Ray cluster at {address}"), ray_cluster(address, task):
            pass


def test_embeddings_on_ray_are_those_of_embed(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "vit")
    command = ["embed", TINY / "vit", tmp_path / "photos"]
    assert polytag(*command, "--out", tmp_path / "local.parquet").returncode == 0
    done = polytag(*command, "--engine", "ray", "--out", tmp_path / "ray")
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "ray"), pd.read_parquet(tmp_path / "local.parquet"))

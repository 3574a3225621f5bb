"""Runs that need no cluster: refused options, sources without photos, and nothing left to do."""

import io
from pathlib import Path

import pytest

from colours import write_colour_bundle
from polytag.errors import DataError, SettingsError
from polytag.models.bundle.bundle import Bundle
from polytag.serving.scale.job import tag_job
from polytag.serving.scale.shards import shards
from polytag.serving.tagging.options import TagOptions


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return write_colour_bundle(tmp_path_factory.mktemp("colours") / "bundle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "folder of Parquet files: name it with --out"),
        ({"out": Path("tags"), "format": "csv"}, "remove --format"),
        ({"out": Path("tags"), "write_metadata": True}, "remove --write-metadata"),
        ({"engine": "float32", "address": "auto"}, "add --engine ray"),
    ],
)
def test_options_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TagOptions(**{"engine": "ray", **options})


def test_sources_without_photos_leave_no_folder(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    job = tag_job(bundle, [str(tmp_path / "empty")], TagOptions(engine="ray", out=tmp_path / "tags"))
    with pytest.raises(DataError, match="contains no photos"):
        job.run(lambda total, earlier: None, lambda photos: None)
    assert not (tmp_path / "tags").exists()


def test_a_complete_run_has_nothing_left_to_do(bundle: Bundle, photos, tmp_path: Path) -> None:
    photos(tmp_path / "photos", 3)
    sources = [str(tmp_path / "photos")]
    options = TagOptions(engine="ray", out=tmp_path / "tags", resume=True)
    job = tag_job(bundle, sources, options)
    (shard,) = shards(sources, job._skipped)
    content = io.BytesIO()
    job._task.open().write(shard.read(""), content)
    with job.folder.writing():
        job.folder.write(shard.file, content.getvalue())
    told: list[tuple[int, int]] = []
    again = tag_job(bundle, sources, options)
    again.run(lambda total, earlier: told.append((total, earlier)), lambda photos: None)
    assert told == [(3, 3)] and again.summary.startswith(f"{tmp_path / 'tags'}: 3 photos")
    with pytest.raises(SettingsError, match="other sources"):
        tag_job(bundle, [*sources, "more"], options)

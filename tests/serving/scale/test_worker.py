"""What a worker writes for a shard: the same rows as `polytag tag`."""

import io
import os
import pickle
from pathlib import Path

import pandas as pd
import pytest

from colours import write_colour_bundle
from polytag.errors import ImageError
from polytag.models.bundle.bundle import Bundle
from polytag.models.encoders.embedder import open_embedder
from polytag.serving.scale.shards import Shard
from polytag.serving.scale.worker import EmbedTask, TagTask
from polytag.serving.tagging.embed import write_embeddings
from polytag.serving.tagging.rows import write_parquet
from polytag.serving.tagging.tag import tag_photos, thresholds_of
from tiny_encoders import TINY, write_photos


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return write_colour_bundle(tmp_path_factory.mktemp("colours") / "bundle")


def test_a_worker_writes_the_rows_of_tag(bundle: Bundle, photos, tmp_path: Path) -> None:
    names = photos(tmp_path, 40)
    (tmp_path / "bad.jpg").write_text("text")
    names[3:3] = [str(tmp_path / "bad.jpg"), str(tmp_path / "gone.jpg")]
    thresholds = thresholds_of(bundle, ["0.3"])
    expected, found = io.BytesIO(), io.BytesIO()
    write_parquet(tag_photos(bundle, names, thresholds, top=2), bundle.labels, expected)
    task: TagTask = pickle.loads(pickle.dumps(TagTask.of(bundle, thresholds, top=2)))
    assert task.folder == os.getcwd()
    task.open().write(Shard(0, len(names), tuple(names)).read(task.folder), found)
    pd.testing.assert_frame_equal(pd.read_parquet(found), pd.read_parquet(expected), check_exact=True)


def test_a_worker_embeds_as_embed_does(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "clip")
    (tmp_path / "photos" / "bad.jpg").write_text("text")
    names = sorted(str(path) for path in (tmp_path / "photos").iterdir())
    embedder, found = open_embedder(str(TINY / "clip")), io.BytesIO()
    write_embeddings(embedder, [str(tmp_path / "photos")], tmp_path / "expected.parquet")
    task: EmbedTask = pickle.loads(pickle.dumps(EmbedTask.of(embedder)))
    task.open().write(Shard(0, len(names), tuple(names)).read(task.folder), found)
    pd.testing.assert_frame_equal(pd.read_parquet(found), pd.read_parquet(tmp_path / "expected.parquet"))
    assert task.settings != EmbedTask.of(open_embedder(str(TINY / "vit"))).settings


def test_photos_that_could_not_be_downloaded_keep_their_places(bundle: Bundle, photos, tmp_path: Path) -> None:
    content = Path(photos(tmp_path, 1)[0]).read_bytes()
    gone = ImageError("there is no such file")
    order = [gone, content, gone, gone, content, b"text", gone]
    tagger = TagTask.of(bundle, name="stem").open()
    rows = list(tagger.rows((f"{i}.jpg", photo) for i, photo in enumerate(order)))
    assert [row.image for row in rows] == [str(i) for i in range(7)]
    assert [bool(row.probabilities) for row in rows] == [photo is content for photo in order]
    assert [row.error for row in rows if not row.probabilities].count("there is no such file") == 4
    assert [row.error for row in tagger.rows([("a.jpg", gone)])] == ["there is no such file"]

"""Tagging on Spark. Skipped without pyspark and Java."""

import shutil
import sys
from pathlib import Path

import pytest

from colours import write_colour_bundle
from polytag.serving.scale.on_spark import spark_tagger
from polytag.serving.tagging.tag import tag_photos

pytest.importorskip("pyspark")


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
@pytest.mark.filterwarnings("ignore:::pyspark", "ignore::ResourceWarning")
def test_rows_on_spark_are_those_of_tag(photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import col

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    bundle = write_colour_bundle(tmp_path / "bundle")
    photos(tmp_path / "photos", 20)
    (tmp_path / "photos" / "bad.jpg").write_text("text")
    expected = {row.image: row for row in tag_photos(bundle, map(str, (tmp_path / "photos").iterdir()))}
    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        table = spark.read.format("binaryFile").load(str(tmp_path / "photos"))
        rows = table.select("path", spark_tagger(bundle.path)(col("content")).alias("tags")).collect()
    finally:
        spark.stop()
    assert len(rows) == 21
    for path, tags in rows:
        row = expected[path.removeprefix("file:")]
        assert tuple(tags.labels) == row.labels and tags.error == row.error
        assert tags.probabilities == pytest.approx(list(row.probabilities.values()), abs=1e-6)

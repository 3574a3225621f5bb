"""Embeddings in files: rows as for tagging, whatever computes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from colours import write_colour_bundle
from polytag.errors import PolytagError, SettingsError
from polytag.models.encoders.embedder import open_embedder
from polytag.serving.tagging.embed import write_embeddings
from tiny_encoders import TINY, TOLERANCE, expected, write_photos


def test_both_files_hold_the_features_of_the_library(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "clip")
    (tmp_path / "photos" / "5.jpg").write_bytes(b"\xff\xd8\xff no photo")
    embedder, sources = open_embedder(str(TINY / "clip")), [str(tmp_path / "photos")]
    notes = write_embeddings(embedder, sources, tmp_path / "a.parquet")
    assert notes == [f"1 of 6 photos could not be read. First: {sources[0]}/5.jpg: damaged: the header cannot be read"]
    table = pd.read_parquet(tmp_path / "a.parquet")
    assert list(table.columns) == ["image", "embedding", "error"]
    assert table.error.notna().tolist() == table.embedding.isna().tolist() == [False] * 5 + [True]
    assert np.abs(np.stack(table.embedding[:5]) - expected("clip")[1]).max() < TOLERANCE
    write_embeddings(embedder, sources, tmp_path / "a.npy")
    found = np.load(tmp_path / "a.npy")
    assert found.dtype == np.float32 and np.isnan(found[5]).all()
    np.testing.assert_array_equal(found[:5], np.stack(table.embedding[:5]))
    assert (tmp_path / "a.txt").read_text().splitlines() == table.image.tolist()


def test_nothing_is_written_when_it_cannot_be_right(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(b"no photo")
    embedder, out = open_embedder(str(TINY / "clip")), tmp_path / "a.npy"
    with pytest.raises(PolytagError, match="none of 1 photo could be read"):
        write_embeddings(embedder, [str(tmp_path / "0.jpg")], out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.jpg"]
    with pytest.raises(SettingsError, match=r"must end in \.parquet or \.npy"):
        write_embeddings(embedder, [str(tmp_path)], tmp_path / "a.csv")
    out.write_bytes(b"")
    with pytest.raises(SettingsError, match="exists already"):
        write_embeddings(embedder, [str(tmp_path)], out)


def test_a_bundle_without_a_pooled_feature_map_has_no_embeddings(tmp_path: Path) -> None:
    bundle = write_colour_bundle(tmp_path / "bundle")
    with pytest.raises(SettingsError, match="has no embeddings"):
        open_embedder(str(bundle.path))

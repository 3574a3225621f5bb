"""Embeddings in files: rows as for tagging, whatever computes them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from colours import write_colour_bundle
from polytag.errors import PolytagError, SettingsError
from polytag.models.encoders.embedder import Embedder, open_embedder
from polytag.models.runtimes.onnx import batch_size_of
from polytag.serving.tagging.embed import write_embeddings
from tiny_encoders import TINY, TOLERANCE, expected, write_photos
from until import until


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
    out.with_suffix(".txt").write_text("mine")
    with pytest.raises(SettingsError, match=r"a\.txt exists already"):
        write_embeddings(embedder, [str(tmp_path)], out, resume=True)
    out.write_bytes(b"")
    with pytest.raises(SettingsError, match="exists already"):
        write_embeddings(embedder, [str(tmp_path)], out)


def test_a_bundle_without_a_pooled_feature_map_has_no_embeddings(tmp_path: Path) -> None:
    bundle = write_colour_bundle(tmp_path / "bundle")
    with pytest.raises(SettingsError, match="has no embeddings"):
        open_embedder(str(bundle.path))


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return open_embedder(str(TINY / "clip"))


def stop_after(photos: list[str], embedder: Embedder, out: Path) -> bytes:
    """Embed photos, and be stopped when these are done. Return what that leaves."""

    def on_photo(n: int) -> None:
        photos[len(photos) - n :] = []
        if not photos:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_embeddings(embedder, [*photos, "more.png"], out, on_photo=on_photo)
    return out.with_name(f"{out.name}.part").read_bytes()


@pytest.mark.parametrize("name", ["a.parquet", "a.npy"])
def test_a_kill_at_any_byte_loses_nothing_but_the_last_row(name: str, embedder: Embedder, tmp_path: Path) -> None:
    photos = [*write_photos(tmp_path / "photos", "clip"), str(tmp_path / "missing.jpg")]
    batch = batch_size_of(embedder.run)
    whole, out = tmp_path / "whole" / name, tmp_path / "out" / name
    whole.parent.mkdir()
    out.parent.mkdir()
    write_embeddings(embedder, photos, whole)
    content, part = stop_after(photos[:4], embedder, out), out.with_name(f"{name}.part")
    with pytest.raises(SettingsError, match="add --resume to continue"):
        write_embeddings(embedder, photos, out)
    with pytest.raises(SettingsError, match="another network or with other settings"):
        write_embeddings(open_embedder(str(TINY / "vit")), photos, out, resume=True)
    for kept in (0, 30, *np.linspace(100, len(content), 6).astype(int)):
        part.write_bytes(content[:kept])
        (out.parent / f".{name}.0123456789abcdef").write_bytes(b"half of a file that a kill left")
        calls: list[int] = []
        write_embeddings(embedder, photos, out, resume=True, on_photo=calls.append)
        rows = max(0, content[:kept].count(b"\n") - 1)
        assert calls == [rows - rows % batch, *[1] * (6 - calls[0])]
        assert {path.name for path in out.parent.iterdir()} == {path.name for path in whole.parent.iterdir()}
        for path in out.parent.iterdir():
            assert path.read_bytes() == (whole.parent / path.name).read_bytes()
            path.unlink()


def test_rows_are_kept_up_to_the_first_other_photo(embedder: Embedder, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", "clip")
    stop_after(photos[:4], embedder, tmp_path / "a.npy")
    calls: list[int] = []
    changed = [photos[0], photos[1], photos[4]]
    write_embeddings(embedder, changed, tmp_path / "a.npy", resume=True, on_photo=calls.append)
    assert calls == [2, 1]
    write_embeddings(embedder, changed, tmp_path / "whole.npy")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert (tmp_path / "a.txt").read_text().splitlines() == changed


def test_a_killed_command_goes_on(embedder: Embedder, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", "clip")
    out, part = tmp_path / "a.parquet", tmp_path / "a.parquet.part"
    command = [sys.executable, "-m", "polytag", "embed", str(TINY / "clip"), "-", "--out", str(out), "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write("".join(f"{photo}\n" for photo in photos * 40))
        process.stdin.flush()  # The command waits for more names, while it writes what it has embedded.
        until(lambda: part.exists() and part.read_bytes().count(b"\n") > 50)
        process.kill()
    assert not out.exists()
    names = "".join(f"{photo}\n" for photo in photos * 41)
    subprocess.run([*command, "--resume"], input=names, text=True, check=True, timeout=120)
    write_embeddings(embedder, photos * 41, tmp_path / "whole.parquet")
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes() and not part.exists()

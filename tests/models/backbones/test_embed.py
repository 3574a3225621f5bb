"""Embeddings: what each view shows of a photo, and that nothing is embedded twice."""

from pathlib import Path

import numpy as np
import pytest

from polytag.data.sample.scenes import draw_scene
from polytag.models.backbones import embed as features
from polytag.models.backbones.embed import VIEWS, embeddings_of
from polytag.photos.decode import decode


def test_the_views_show_what_they_say() -> None:
    photos = np.random.default_rng(0).integers(0, 256, (3, 9, 9, 3), dtype=np.uint8)
    assert (VIEWS["plain"](photos) == photos).all()
    assert (VIEWS["flipped"](photos)[:, :, 0] == photos[:, :, -1]).all()
    half = VIEWS["half"](photos)
    assert half.shape == (3, 4, 4, 3) and half.dtype == np.uint8
    for row in range(4):
        for column in range(4):
            four = photos[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(3, 4, 3)
            assert (half[:, row, column] == np.floor(four.mean(axis=1) + 0.5)).all()


def test_each_view_is_embedded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for number in range(5):
        paths.append(str(tmp_path / f"{number}.png"))
        draw_scene(["boat"], 64, number).save(paths[-1])
    batches: list[np.ndarray] = []
    make = features._backbone

    def counted(*arguments):
        run, threads, width = make(*arguments)
        return lambda batch: (batches.append(batch.copy()), run(batch))[1], threads, width

    monkeypatch.setattr(features, "_backbone", counted)
    first = {view: embeddings_of(paths, 64, view) for view in VIEWS}
    shown = np.stack([decode(path, 64) for path in paths])
    seen = [photo for batch in batches for photo in batch]
    for view, own in zip(VIEWS, (seen[:5], seen[5:10], seen[10:]), strict=True):
        assert (np.stack(own) == VIEWS[view](shown)).all()
    for view, embedded in first.items():
        again = embeddings_of(paths[::-1], 64, view)
        assert embedded is not None and again is not None
        assert (again == embedded[::-1]).all() and np.abs(embedded).max() > 0
    assert sum(map(len, batches)) == len(VIEWS) * len(paths)

"""Embeddings: the views of a photo, and a cache that never embeds twice and never mixes weights."""

from pathlib import Path

import numpy as np
import pytest

from polytag.data.sample.scenes import draw_scene
from polytag.models.backbones import backbone as backbones
from polytag.models.backbones import embed as features
from polytag.models.backbones.embed import VIEWS, embed, embeddings_of
from polytag.models.backbones.weights import Weights
from polytag.models.backend import keras
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
        vectors = embedded[:]
        assert (again[:] == vectors[::-1]).all() and np.abs(vectors).max() > 0
    assert sum(map(len, batches)) == len(VIEWS) * len(paths)


def test_downloaded_weights_are_distinguished_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.png"
    draw_scene(["boat"], 32, 0).save(path)
    layers, found = keras.layers, []
    for scale in (1.0, 2.0, 1.0):
        photo = layers.Input((32, 32, 3), dtype="uint8")
        kernel = keras.initializers.Constant(scale)
        network = keras.Model(photo, layers.Conv2D(4, 1, kernel_initializer=kernel)(layers.Rescaling(1 / 255)(photo)))
        monkeypatch.setattr(backbones, "backbone", lambda *arguments, network=network: network)
        features._identified.cache_clear()
        found.append(embed([str(path)], 32, Weights("MobileNetV2", "keras", None, ""))[:])
    np.testing.assert_allclose(found[1], 2 * found[0], rtol=1e-5)
    assert (found[2] == found[0]).all()

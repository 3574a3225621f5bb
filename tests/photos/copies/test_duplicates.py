"""Photos of one picture: copies are found whatever was done to them, and nothing else is taken for one."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from polytag.data.sample.scenes import LABELS, draw_scene
from polytag.photos.copies import candidates, duplicates, index
from polytag.photos.copies.candidates import MIRRORED, CandidateSearch, descriptors
from polytag.photos.copies.duplicates import Pair, find_duplicates, groups_of, recall_duplicates
from polytag.photos.measure import Measurements, measure

Change = Callable[[Image.Image], Image.Image]

N = 16


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Scenes of which several show the same objects, in places of their own."""
    folder = tmp_path_factory.mktemp("scenes")
    for i in range(N):
        draw_scene([LABELS[i % 5]], 128, 50 + i).save(folder / f"{i:02}.jpg", quality=90)
    return sorted(map(str, folder.iterdir()))


def different(measured: Measurements) -> NDArray[np.int64]:
    return np.arange(len(measured.paths))


def crop(share: float) -> Change:
    def cropped(scene: Image.Image) -> Image.Image:
        cut = round(share * scene.width)
        return scene.crop((cut, cut // 2, scene.width - cut // 2, scene.height - cut))

    return cropped


CHANGES: dict[str, tuple[Change, str]] = {
    "re-encoded": (lambda scene: scene, "near"),
    "smaller": (lambda scene: scene.resize((72, 72)), "near"),
    "larger": (lambda scene: scene.resize((300, 290)), "near"),
    "brighter": (lambda scene: ImageEnhance.Brightness(scene).enhance(1.35), "near"),
    "darker": (lambda scene: ImageEnhance.Brightness(scene).enhance(0.6), "near"),
    "fainter": (lambda scene: ImageEnhance.Contrast(scene).enhance(0.6), "near"),
    "grey": (lambda scene: scene.convert("L"), "near"),
    "cropped": (crop(0.08), "cropped"),
    "mirrored": (ImageOps.mirror, "mirrored"),
    "mirrored and cropped": (lambda scene: crop(0.06)(ImageOps.mirror(scene)), "mirrored"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_with_their_kind(change: str, scenes: list[str], tmp_path: Path) -> None:
    changed, kind = CHANGES[change]
    copies = []
    for path in scenes:
        copies.append(str(tmp_path / Path(path).name))
        changed(Image.open(path)).save(copies[-1], quality=60)
    measured = measure([*scenes, *copies])
    pairs = find_duplicates(measured, different(measured))
    assert {(pair.a, pair.b) for pair in pairs} == {(i, N + i) for i in range(N)}
    assert {pair.kind for pair in pairs} == {kind}
    assert all(duplicates.STAGES[-1][-1] <= pair.similarity <= 1 for pair in pairs)
    assert pairs == sorted(pairs, key=lambda pair: (pair.a, pair.b))


def test_equals_have_few_candidates_each(scenes: list[str], tmp_path: Path) -> None:
    """Of many blank photos none, and of one picture saved many times as many as tie it together."""
    paths = []
    for i in range(3 * candidates.PER_PHOTO):
        for name, scene in (("blank", Image.new("RGB", (64, 64), (i, i, i))), ("scene", Image.open(scenes[0]))):
            paths.append(str(tmp_path / f"{name}{i:02}.jpg"))
            scene.save(paths[-1], comment=str(i).encode())
    measured = measure(paths)
    embeddings = np.zeros((len(paths), 2), np.float32)
    embeddings[[0, 2], 0] = 1
    found = CandidateSearch(measured.thumbnails, np.arange(len(paths)), embeddings).pairs(mirrored=False)
    assert 0 < len(found) <= len(paths) // 2 * candidates.PER_PHOTO * len(candidates.ZOOMS)
    assert all("scene" in paths[i] and "scene" in paths[j] for i, j, _ in found.tolist())
    groups = groups_of(find_duplicates(measured, different(measured)), different(measured))
    assert len(set(groups[1::2].tolist())) == 1 and len(set(groups[::2].tolist())) == len(paths) // 2


def test_a_search_in_lists_finds_the_copies_that_the_exact_search_finds(
    scenes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = list(scenes)
    for i, path in enumerate(scenes):
        changed, _ = list(CHANGES.values())[i % len(CHANGES)]
        paths.append(str(tmp_path / Path(path).name))
        changed(Image.open(path)).save(paths[-1], quality=60)
    measured = measure(paths)
    embeddings = np.random.default_rng(0).normal(size=(len(paths), 8)).astype(np.float32)
    exact = find_duplicates(measured, different(measured), embeddings)
    assert len(exact) == N
    monkeypatch.setattr(index, "EXACT", 0)
    monkeypatch.setattr(index, "PROBES", 4)  # of 11 lists
    assert find_duplicates(measured, different(measured), embeddings) == exact


def test_the_descriptor_of_a_mirrored_photo(scenes: list[str]) -> None:
    thumbnails = measure(scenes).thumbnails[:]
    for zoom in candidates.ZOOMS:
        mirrored = descriptors(thumbnails[:, :, ::-1], np.arange(N), zoom)
        np.testing.assert_allclose(mirrored, descriptors(thumbnails, np.arange(N), zoom) * MIRRORED, atol=1e-4)


def test_similar_embeddings_of_any_width_are_candidates(scenes: list[str]) -> None:
    measured, rng = measure(scenes), np.random.default_rng(0)
    vectors = rng.standard_normal((2, N // 2, 4 * candidates.PROJECTED)).astype(np.float32)
    cosines = np.array([0.7, 0.8, 0.84, 0.86, 0.9, 0.95, 0.99, 1])[:, None]
    orthogonal = (
        vectors[1]
        - (vectors[0] * vectors[1]).sum(1, keepdims=True) / (vectors[0] ** 2).sum(1, keepdims=True) * vectors[0]
    )
    orthogonal *= np.linalg.norm(vectors[0], axis=1, keepdims=True) / np.linalg.norm(orthogonal, axis=1, keepdims=True)
    similar = cosines * vectors[0] + np.sqrt(1 - cosines**2) * orthogonal
    embeddings = np.concatenate([vectors[0], similar]).astype(np.float32)
    found = CandidateSearch(measured.thumbnails, np.arange(N), embeddings).alike
    pairs = set(zip(*(side.tolist() for side in found), strict=True))
    assert pairs == {(i, i + N // 2) for i in range(N // 2) if cosines[i] >= candidates.NEIGHBOUR}


def test_different_scenes_are_no_copies(scenes: list[str]) -> None:
    measured = measure(scenes)
    assert find_duplicates(measured, different(measured)) == []


def test_the_order_of_the_photos_does_not_matter(scenes: list[str], tmp_path: Path) -> None:
    copies = []
    for i, path in enumerate(scenes):
        changed, _ = list(CHANGES.values())[i % len(CHANGES)]
        copies.append(str(tmp_path / Path(path).name))
        changed(Image.open(path)).save(copies[-1], quality=70)
    paths = np.array([*scenes, *copies, scenes[0]])
    contents = np.array([*range(2 * N), 0])
    expected = None
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(paths))
        pairs = find_duplicates(measure(paths[order].tolist()), contents[order])
        found = {(frozenset((paths[order[pair.a]], paths[order[pair.b]])), pair.kind) for pair in pairs}
        assert len(found) == len(pairs) == N + 1
        expected = expected or found
        assert found == expected


def test_identical_files_are_paired_with_the_first_and_not_compared(scenes: list[str]) -> None:
    measured = measure([scenes[0], scenes[1], scenes[0], scenes[0]])
    exact = [Pair(0, 2, "exact", 1.0), Pair(0, 3, "exact", 1.0)]
    assert find_duplicates(measured, np.array([7, 4, 7, 7])) == exact
    assert recall_duplicates(measured) == exact


def test_blank_photos_are_never_paired(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for i in range(30):
        colour = rng.integers(0, 256, 3)
        noise = rng.normal(0, i % 3, (96, 96, 3))
        paths.append(str(tmp_path / f"{i}.jpg"))
        Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(paths[-1])
    measured = measure(paths)
    # Alike even to a network.
    assert find_duplicates(measured, different(measured), np.ones((30, 8), np.float32)) == []


def test_embeddings_lead_to_heavier_crops(scenes: list[str], tmp_path: Path) -> None:
    copies = []
    for path in scenes:
        copies.append(str(tmp_path / Path(path).name))
        Image.open(path).crop((20, 0, 128, 100)).save(copies[-1], quality=90)
    measured = measure([*scenes, *copies])
    without = {(pair.a, pair.b) for pair in find_duplicates(measured, different(measured))}
    vectors = np.random.default_rng(1).standard_normal((N, 64)).astype(np.float32)
    embeddings = np.concatenate([vectors, vectors + 0.1])
    embeddings[3] = np.nan
    before = embeddings.copy()
    found = find_duplicates(measured, different(measured), embeddings)
    assert {(pair.a, pair.b) for pair in found} >= without
    assert len(found) > len(without)
    assert all(pair.b == pair.a + N and pair.kind == "cropped" for pair in found)
    np.testing.assert_array_equal(embeddings, before)


def test_a_network_alone_makes_no_pair(scenes: list[str]) -> None:
    measured = measure(scenes)
    assert find_duplicates(measured, different(measured), np.ones((N, 4), np.float32)) == []
    nothing = np.full((N, 4), np.nan, np.float32)
    assert find_duplicates(measured, different(measured), nothing) == []


def test_unreadable_photos_are_no_copies(scenes: list[str], tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(b"" if i else b"text")
    unreadable = [str(tmp_path / f"{i}.jpg") for i in range(3)]
    gone = str(tmp_path / "gone.jpg")
    assert recall_duplicates(measure([*unreadable, gone])) == []
    assert recall_duplicates(measure([unreadable[1], scenes[0], unreadable[2], scenes[0], gone])) == [
        Pair(1, 3, "exact", 1.0)
    ]


def test_pairs_are_remembered_until_a_photo_changes(
    scenes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    calls: list[int] = []
    find = duplicates.find_duplicates

    def spy(*args: Any) -> list[Pair]:
        calls.append(len(args[1]))
        return find(*args)

    monkeypatch.setattr(duplicates, "find_duplicates", spy)
    copy = tmp_path / "copy.jpg"
    Image.open(scenes[2]).save(copy, quality=50)
    paths = [*scenes[:4], str(copy)]

    first = recall_duplicates(measure(paths))
    assert [(pair.a, pair.b, pair.kind) for pair in first] == [(2, 4, "near")]
    assert recall_duplicates(measure(paths)) == first
    assert len(calls) == 1

    Image.open(scenes[7]).save(copy, quality=50)
    assert recall_duplicates(measure(paths)) == []
    assert len(calls) == 2
    # Embeddings may find more.
    recall_duplicates(measure(paths), np.zeros((5, 2), np.float32))
    assert len(calls) == 3
    for file in (tmp_path / "cache" / "duplicates").iterdir():
        file.write_text("{")  # damaged: found again
    assert recall_duplicates(measure(paths)) == []
    assert len(calls) == 4


def test_a_cache_that_cannot_be_written_does_not_lose_the_search(
    scenes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("POLYTAG_CACHE", str(tmp_path / "cache"))
    measured = measure([scenes[0], scenes[1], scenes[0]])

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for blocked in ("write_json", "mkdir"):
        caplog.clear()
        with monkeypatch.context() as patch:
            patch.setattr(*((duplicates, blocked) if blocked == "write_json" else (Path, blocked)), full)
            if blocked == "mkdir":
                patch.setattr(duplicates, "cache_folder", lambda: tmp_path / "cache")
            assert recall_duplicates(measured) == [Pair(0, 2, "exact", 1.0)]
        (message,) = caplog.messages
        assert "cannot be stored in the cache (No space left on device)" in message
        assert len(message.splitlines()) == 1


def reference(n: int, links: list[tuple[int, int]], groups: list[int]) -> list[int]:
    """Connected components by walking, numbered in order of first appearance."""
    near = {i: {j for j in range(n) if groups[i] == groups[j]} for i in range(n)}
    for a, b in links:
        near[a].add(b)
        near[b].add(a)
    number: dict[int, int] = {}
    components = 0
    for i in range(n):
        if i in number:
            continue
        waiting = [i]
        while waiting:
            j = waiting.pop()
            if j not in number:
                number[j] = components
                waiting.extend(near[j])
        components += 1
    return [number[i] for i in range(n)]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_groups_are_connected_components(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 14))
    place = st.integers(0, n - 1)
    links = [
        (min(pair), max(pair))
        for pair in data.draw(st.lists(st.tuples(place, place), max_size=12))
        if pair[0] != pair[1]
    ]
    groups = data.draw(st.lists(st.integers(-3, 9), min_size=n, max_size=n))
    joined = groups_of([Pair(a, b, "near", 0.9) for a, b in links], np.array(groups, np.int64))
    assert joined.dtype == np.int64
    assert joined.tolist() == reference(n, links, groups)

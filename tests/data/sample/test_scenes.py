"""The built-in sample: same seed, same bytes; a table that fits its pictures; nothing left half done."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.random import SeedSequence
from PIL import Image

from polytag.data.sample import scenes as sample
from polytag.data.sample.drawings import DRAWINGS, Pen, render
from polytag.data.sample.scenes import (
    COMBINATIONS,
    LABELS,
    TILT,
    VISIBLE,
    draw_labels,
    draw_scene,
    draw_scene_with_boxes,
    write_sample,
)
from polytag.errors import SettingsError

SEEDS = range(3)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    runs = {"first": 5, "again": 5, "other": 6}
    first, again, other = (contents(write_sample(tmp_path / name, 6, 64, seed)) for name, seed in runs.items())
    assert first == again
    pictures = [name for name in first if name.endswith(".jpg")]
    assert len(pictures) == 6
    assert all(first[name] != other[name] for name in pictures)


def test_a_scene_does_not_depend_on_how_many_are_written(tmp_path: Path) -> None:
    few, more = (contents(write_sample(tmp_path / str(n), n, 64, seed=1) / "images") for n in (3, 5))
    assert few == {name: data for name, data in more.items() if name in few}


def test_the_table_lists_the_written_pictures(tmp_path: Path) -> None:
    done: list[int] = []
    folder = write_sample(tmp_path / "sample", 30, 48, seed=2, on_progress=done.append)
    assert folder == (tmp_path / "sample").resolve()
    with (folder / "labels.csv").open(newline="") as table:
        header, *rows = csv.reader(table)
    assert header == ["image", "labels"]
    assert [row[0] for row in rows] == [f"scene{number:04d}.jpg" for number in range(1, 31)]
    assert sorted(path.name for path in (folder / "images").iterdir()) == [row[0] for row in rows]
    assert done == [1] * 30
    for number, (name, cell) in enumerate(rows, start=1):
        assert cell == "|".join(draw_labels(SeedSequence(2, spawn_key=(number,))))
        with Image.open(folder / "images" / name) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (48, 48))


def test_combinations_are_a_distribution_over_labels_in_order() -> None:
    assert sum(COMBINATIONS.values()) == pytest.approx(1)
    assert COMBINATIONS[()] == pytest.approx(0.04)
    assert COMBINATIONS[("boat",)] / COMBINATIONS[("ektara",)] == pytest.approx((1565 / 119) ** 0.5)
    for labels in COMBINATIONS:
        assert list(labels) == [label for label in LABELS if label in labels]
        assert len(labels) <= 4


def test_every_label_and_the_empty_scene_are_drawn_often_enough() -> None:
    drawn = [draw_labels(SeedSequence(0, spawn_key=(number,))) for number in range(300)]
    assert set(drawn) <= set(COMBINATIONS)
    assert 3 <= drawn.count(()) <= 30
    counts = Counter(label for labels in drawn for label in labels)
    for label in LABELS:
        expected = 300 * sum(share for labels, share in COMBINATIONS.items() if label in labels)
        assert expected / 2 < counts[label] < expected * 2


@pytest.mark.parametrize("label", LABELS)
def test_a_labelled_object_changes_a_good_part_of_the_same_place(label: str) -> None:
    for seed in SEEDS:
        with_it, without_it = (np.asarray(draw_scene(labels, 96, seed), dtype=int) for labels in ([label], []))
        changed = np.abs(with_it - without_it).max(axis=2) > 25
        assert 0.02 < changed.mean() < 0.6


@pytest.mark.parametrize("label", LABELS)
def test_no_object_reaches_over_the_edge_of_its_layer(label: str) -> None:
    def framed(pen: Pen, rng: np.random.Generator) -> None:
        DRAWINGS[label](pen, rng)
        left, top, right, bottom = pen._image.getbbox() or (0, 0, 0, 0)
        assert min(left, top, pen._image.width - right, pen._image.height - bottom) > 0

    for seed in range(10):
        render(framed, 40, np.random.default_rng(seed), TILT[label])


@pytest.mark.parametrize("label", LABELS)
def test_an_object_fills_its_sprite_and_comes_in_many_forms(label: str) -> None:
    sprites = [render(DRAWINGS[label], 80, np.random.default_rng(seed), tilt=20) for seed in SEEDS]
    for sprite in sprites:
        assert sprite.mode == "RGBA"
        assert max(sprite.size) == 80
        alpha = np.asarray(sprite)[..., 3]
        assert 0.05 < (alpha > 127).mean() < 0.95
        assert ((alpha > 0) & (alpha < 255)).any(), "edges are smooth"
    assert len({sprite.tobytes() for sprite in sprites}) == len(sprites)


def test_every_object_stays_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = []

    class Stage(sample._Stage):
        def __init__(self, picture: Image.Image) -> None:
            super().__init__(picture)
            stages.append(self)

    monkeypatch.setattr(sample, "_Stage", Stage)
    crowd = ["sitar", "ektara", "flutes", "tabla", "harmonium", "bus"]
    for seed in SEEDS:
        draw_scene(crowd, 96, seed)
    for stage in stages:
        assert len(stage._seen) == len(crowd)
        for seen, area in zip(stage._seen, stage._areas, strict=True):
            assert area > 40
            assert np.count_nonzero(seen) >= VISIBLE * area


def test_boxes_lie_around_the_objects_of_the_scene_that_is_drawn() -> None:
    for seed in SEEDS:
        for labels in (["boat"], ["tabla", "flutes", "bus"], []):
            scene, boxes = draw_scene_with_boxes(labels, 96, seed)
            assert scene.tobytes() == draw_scene(labels, 96, seed).tobytes()
            assert set(boxes) == set(labels)
            for left, top, right, bottom in boxes.values():
                assert 0 <= left < right <= 96 and 0 <= top < bottom <= 96
        # Against the scene without it, an object changes what is in its box, and outside hardly more than its shadow.
        (box,) = draw_scene_with_boxes(["harmonium"], 96, seed)[1].values()
        scenes = [np.asarray(draw_scene(labels, 96, seed), dtype=int) for labels in (["harmonium"], [])]
        changed = np.abs(scenes[0] - scenes[1]).max(axis=2) > 40
        inside = changed[box[1] : box[3], box[0] : box[2]]
        assert inside.mean() > 0.4 and inside.sum() > 0.9 * changed.sum()


def test_order_of_labels_does_not_matter_and_a_seed_sequence_is_left_alone() -> None:
    seed = SeedSequence(3)
    scene = draw_scene(["tabla", "bus"], 64, seed)
    assert (
        scene.tobytes()
        == draw_scene(["bus", "tabla"], 64, seed).tobytes()
        == draw_scene(["bus", "tabla"], 64, 3).tobytes()
    )
    assert seed.n_children_spawned == 0


@pytest.mark.parametrize("labels", [["car"], ["bus", "bus"], "bus"])
def test_unknown_and_repeated_labels_are_refused(labels: list[str]) -> None:
    with pytest.raises(SettingsError, match=r"labels must be .* got .*"):
        draw_scene(labels, 64)


@pytest.mark.parametrize(("name", "values"), [("n_images", (0, 64, 1)), ("size", (32, 31, 99)), ("seed", (1, 64, -1))])
def test_numbers_that_are_too_small_are_refused(tmp_path: Path, name: str, values: tuple[int, int, int]) -> None:
    with pytest.raises(SettingsError, match=f"^{name} must be at least .*, got {min(values)}$"):
        write_sample(tmp_path / "sample", *values)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_contents_is_left_untouched(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "precious.txt").write_text("keep")
    for taken in (folder, folder / "precious.txt"):
        with pytest.raises(SettingsError, match="must be new or empty"):
            write_sample(taken, 1, 32)
    assert contents(tmp_path) == {str(Path("mine", "precious.txt")): b"keep"}


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    assert len(contents(write_sample(tmp_path, 1, 32))) == 2


def test_nothing_is_left_behind_when_a_write_fails_midway(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def interrupt(_: int) -> None:
        seen.append([path.name for path in tmp_path.rglob("*.jpg")])
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "sample", 4, 32, on_progress=interrupt)
    assert [len(names) for names in seen] == [1, 2]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"^the sample cannot be written to .*\. Name another folder$"):
        write_sample(tmp_path / "file" / "sample", 1, 32)

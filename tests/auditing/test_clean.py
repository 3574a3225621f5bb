"""Cleaning proposes only what is certain, follows the decisions file, and leaves nothing behind after an error."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polytag.auditing.audit import Audit, audit
from polytag.auditing.clean import clean, propose
from polytag.auditing.decisions import Decision, read_decisions, write_decisions
from polytag.data.dataset import Dataset
from polytag.data.reading.read import read
from polytag.data.sample.scenes import draw_scene
from polytag.data.splitting.split import split
from polytag.errors import ConflictError, DataError, SettingsError

LABELS = ("boat", "Boat", "sea")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Eight photos: 1 copies 0, 2 and 3 are 4 re-encoded and mirrored, 5 is text, 6 is blank. One more is missing."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in (0, 4, 7):
        draw_scene(["bus"], 96, 700 + i).save(folder / f"{i}.jpg", quality=90)
    (folder / "1.jpg").write_bytes((folder / "0.jpg").read_bytes())
    Image.open(folder / "4.jpg").save(folder / "2.jpg", quality=40)
    Image.open(folder / "4.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "3.jpg")
    (folder / "5.jpg").write_text("text")
    Image.new("RGB", (96, 96), (90, 10, 10)).save(folder / "6.jpg")
    targets = np.array(
        [[1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 0, 0], [1, 0, 0], [-1, 0, 0]], dtype=np.int8
    )
    return Dataset(
        np.array([str(folder / f"{i}.jpg") for i in range(8)]),
        targets,
        LABELS,
        np.arange(8),
        folder,
        left_out={"gone.jpg": "no such file"},
        repeats={"7.jpg": (9, 12)},
        disputed={"7.jpg": ("boat",)},
    )


@pytest.fixture
def found(data: Dataset) -> Audit:
    return audit(data)


def files(folder: Path) -> set[str]:
    return {
        str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and file.parent.name != "photos"
    }


def test_only_what_is_certain_is_proposed(found: Audit) -> None:
    assert {(d.image, d.label, d.action, d.into) for d in propose(found)} == {
        ("gone.jpg", "", "drop", ""),
        ("5.jpg", "", "drop", ""),
        ("7.jpg", "boat", "unknown", ""),
        ("1.jpg", "", "drop", ""),
        ("0.jpg", "sea", "unknown", ""),
        ("", "Boat", "merge", "boat"),
    }
    reasons = {(d.image, d.label): d.reason for d in propose(found)}
    assert reasons["1.jpg", ""] == "exact duplicate of 0.jpg"
    assert reasons["0.jpg", "sea"] == "its exact duplicate 1.jpg disagrees"
    assert "no such file" in reasons["gone.jpg", ""] and "lines 9, 12" in reasons["7.jpg", "boat"]
    assert {d.by for d in propose(found)} == {"audit"}


def test_what_only_a_copy_knows_is_kept(data: Dataset) -> None:
    for name in ("2.jpg", "3.jpg"):
        (data.root / name).write_bytes((data.root / "0.jpg").read_bytes())
    targets = np.array(data.targets)
    targets[:4] = [[-1, -1, -1], [1, -1, 0], [1, 0, 1], [-1, -1, -1]]
    # 0 has three exact copies; one of them knows of "Boat", and two contradict each other about "sea".
    decisions = propose(audit(replace(data, targets=targets)))
    assert {(d.label, d.action, d.reason) for d in decisions if d.image == "0.jpg"} == {
        ("boat", "present", "copied from its exact duplicate 1.jpg"),
        ("Boat", "absent", "copied from its exact duplicate 2.jpg"),
    }


def test_each_decision_is_in_the_table_with_its_reason(found: Audit, tmp_path: Path) -> None:
    cleaned, folder = clean(found, tmp_path / "out.csv", tmp_path / "d.csv")
    assert folder is None
    assert read_decisions(tmp_path / "d.csv") == propose(found)
    assert cleaned.labels == ("boat", "sea")
    rows = {row["image"]: row for row in csv.DictReader((tmp_path / "out.csv").open())}
    assert list(rows) == cleaned.names == ["0.jpg", "2.jpg", "3.jpg", "4.jpg", "6.jpg", "7.jpg"]
    values = {name: (row["boat"], row["sea"]) for name, row in rows.items()}
    assert values["0.jpg"] == ("1", "") and values["3.jpg"] == ("1", "1") and values["7.jpg"] == ("", "0")
    assert rows["0.jpg"]["reasons"] == "its exact duplicate 1.jpg disagrees"
    assert "'boat' and 'Boat'" in rows["3.jpg"]["reasons"] and rows["6.jpg"]["reasons"] == ""
    # Copies that are kept stay together.
    assert len({rows[name]["group"] for name in ("2.jpg", "3.jpg", "4.jpg")} | {""}) == 2
    again = read(tmp_path / "out.csv")
    np.testing.assert_array_equal(again.targets, cleaned.targets)


def test_photos_of_a_fixed_camera_can_still_be_split(tmp_path: Path) -> None:
    rng, scene = np.random.default_rng(0), np.asarray(draw_scene(["bus", "boat"], 96, 5)).astype(int)
    rows = ["image,boat,sea"]
    for i in range(60):
        frame = np.clip(scene + rng.normal(0, 3, scene.shape), 0, 255).astype(np.uint8)
        Image.fromarray(frame).save(tmp_path / f"{i:02}.png")
        rows.append(f"{i:02}.png,{i % 2},{i % 3 % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    before = split(read(tmp_path / "labels.csv"))
    clean(audit(read(tmp_path / "labels.csv")), tmp_path / "out.csv", tmp_path / "d.csv")
    after = split(read(tmp_path / "out.csv"))
    assert [len(part) for part in after] == [len(part) for part in before] and len(after[2]) >= 6


def test_the_table_is_not_written_over_the_decisions(found: Audit, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be the table and the decisions"):
        clean(found, tmp_path / "x.csv", tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()


def test_cleaning_again_changes_nothing(found: Audit, tmp_path: Path) -> None:
    clean(found, tmp_path / "out.csv", tmp_path / "d.csv")
    second = audit(read(tmp_path / "out.csv"))
    assert propose(second) == []
    assert not {"exact_duplicate", "conflicting_rows", "label_variant", "missing"} & second.counts.keys()


def test_three_variants_are_folded_into_one(data: Dataset, tmp_path: Path) -> None:
    found = audit(replace(data, labels=("boat", "BOAT", "Boat"), disputed={}))
    merges = {d.label: d.into for d in propose(found) if d.action == "merge"}
    assert len(merges) == 2 and len(set(merges.values())) == 1
    assert len([d for d in propose(found) if d.action == "merge"]) == 2
    cleaned, _ = clean(found, tmp_path / "out.csv", tmp_path / "d.csv")
    assert cleaned.labels == tuple(set(merges.values()))


def test_several_copies_make_each_dispute_unknown_once(data: Dataset, tmp_path: Path) -> None:
    for i in (2, 3):
        (data.root / f"{i}.jpg").write_bytes((data.root / "0.jpg").read_bytes())
    decisions = propose(audit(data))
    assert [d.image for d in decisions if "exact duplicate of 0.jpg" in d.reason] == ["1.jpg", "2.jpg", "3.jpg"]
    keys = [d.key for d in decisions]
    assert len(keys) == len(set(keys))
    assert {label for image, label in keys if image == "0.jpg"} == {"boat", "Boat", "sea"}


def test_an_existing_file_is_followed_and_never_replaced(found: Audit, tmp_path: Path) -> None:
    mine = [Decision("7.jpg", "boat", "present", "seen", "review"), Decision("6.jpg", "", "drop", "blank", "review")]
    write_decisions(tmp_path / "d.csv", mine)
    before = (tmp_path / "d.csv").read_bytes()
    cleaned, _ = clean(found, tmp_path / "out.csv", tmp_path / "d.csv")
    assert (tmp_path / "d.csv").read_bytes() == before
    assert cleaned.names == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "7.jpg"]
    assert cleaned.labels == LABELS and cleaned.targets[-1].tolist() == [1, 0, 0]
    with pytest.raises(SettingsError, match="exists already"):
        clean(found, tmp_path / "out.csv", tmp_path / "d.csv")
    clean(found, tmp_path / "out.csv", tmp_path / "d.csv", overwrite=True)
    assert (tmp_path / "d.csv").read_bytes() == before


@pytest.mark.parametrize("action", ["unknown", "present", "absent", "drop", "keep"])
def test_any_decision_settles_a_conflict(found: Audit, tmp_path: Path, action: str) -> None:
    write_decisions(tmp_path / "d.csv", [Decision("7.jpg", "" if action == "drop" else "boat", action, "")])
    cleaned, _ = clean(found, tmp_path / "out.csv", tmp_path / "d.csv")
    assert ("7.jpg" in cleaned.names) == (action != "drop")


def test_a_conflict_without_a_decision_is_refused(found: Audit, tmp_path: Path) -> None:
    write_decisions(tmp_path / "d.csv", [d for d in propose(found) if d.image != "7.jpg"])
    with pytest.raises(
        ConflictError, match=r"d\.csv does not settle 1 conflict .*: 7\.jpg \(boat\)\. Add a row for each"
    ):
        clean(found, tmp_path / "out.csv", tmp_path / "d.csv")
    assert files(tmp_path) == {"d.csv"}


@pytest.mark.parametrize("out", ["out.txt", "no such folder/out.csv"])
def test_a_table_that_cannot_be_written_leaves_no_decisions(found: Audit, tmp_path: Path, out: str) -> None:
    with pytest.raises(SettingsError):
        clean(found, tmp_path / out, tmp_path / "d.csv")
    assert files(tmp_path) == set()
    write_decisions(tmp_path / "d.csv", propose(found))
    with pytest.raises(SettingsError):
        clean(found, tmp_path / out, tmp_path / "d.csv")
    assert files(tmp_path) == {"d.csv"}


def test_decisions_about_other_data_are_refused(found: Audit, tmp_path: Path) -> None:
    write_decisions(tmp_path / "d.csv", [*propose(found), Decision("stranger.jpg", "", "drop", "")])
    with pytest.raises(DataError, match=r"stranger\.jpg"):
        clean(found, tmp_path / "out.csv", tmp_path / "d.csv")
    assert files(tmp_path) == {"d.csv"}


def test_an_input_is_never_the_cleaned_table(found: Audit, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("mine")
    os.link(table, tmp_path / "hard.csv")
    for out in ("labels.csv", "hard.csv"):
        with pytest.raises(SettingsError, match="same file as the input"):
            clean(found, tmp_path / out, tmp_path / "d.csv", overwrite=True, inputs=[table])
    assert table.read_text() == "mine" and not (tmp_path / "d.csv").exists()


def test_the_decisions_file_is_never_the_cleaned_table(found: Audit, tmp_path: Path) -> None:
    write_decisions(tmp_path / "d.csv", propose(found))
    before = (tmp_path / "d.csv").read_bytes()
    (tmp_path / "link.csv").symlink_to("d.csv")
    for out in ("d.csv", "link.csv"):
        with pytest.raises(SettingsError, match="same file as the input"):
            clean(found, tmp_path / out, tmp_path / "d.csv", overwrite=True)
    assert (tmp_path / "d.csv").read_bytes() == before


def test_photos_with_several_labels_in_a_long_table_keep_them(tmp_path: Path, photos) -> None:
    names = [f"{i}.jpg" for i in range(12)]
    photos(tmp_path / "images", names)
    present = {name: [("cat", "dog", "sea")[(i + j) % 3] for j in range(1 + i % 3)] for i, name in enumerate(names)}
    rows = [f"{name},{label}" for name, labels in present.items() for label in labels]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows, ""]))
    found = audit(read(tmp_path / "labels.csv", conflicts="unknown"))
    assert not {"conflicting_rows", "listed_twice"} & found.counts.keys()
    assert propose(found) == []
    cleaned, _ = clean(found, tmp_path / "clean.csv", tmp_path / "d.csv")
    again = read(tmp_path / "clean.csv")
    for data in (cleaned, again):
        table = {
            Path(name).name: sorted(data.labels[j] for j in np.flatnonzero(row == 1))
            for name, row in zip(data.names, data.targets, strict=True)
        }
        assert table == {name: sorted(labels) for name, labels in present.items()}
        assert (data.targets >= 0).all()

"""Names that collide: no field, column, file or photo takes the place of another one in silence."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import polytag as pt
from polytag.data.dataset import Dataset
from polytag.data.splitting.split_file import with_split
from polytag.errors import DataError

Photos = Callable[..., list[str]]


def labels_of(data: Dataset) -> dict[str, set[str]]:
    return {
        name: {label for label, value in zip(data.labels, row, strict=True) if value == 1}
        for name, row in zip(data.names, data.targets, strict=True)
    }


def test_a_nested_entry_never_replaces_a_field(tmp_path: Path, photos: Photos) -> None:
    names = photos(tmp_path, [f"{i}.jpg" for i in range(8)])
    for own, nested in (
        ({"label": "dog"}, {"prediction": {"label": "cat", "score": 0.9}}),
        ({"dog": 1, "bird": 0}, {"guess": {"dog": 0, "bird": 1}}),
    ):
        for order in (own | nested, nested | own):
            rows = [{"image": name} | order for name in names[:4]]
            rows += [{"image": name} | order | ({"label": "fox"} if "label" in own else {"dog": 0, "bird": 1})
                     for name in names[4:]]  # fmt: skip
            (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
            found = labels_of(pt.read(tmp_path / "labels.jsonl"))
            fields = {"dog", "fox", "bird", "cat"}  # entries keep the name of their object
            assert found["0.jpg"] & fields == {"dog"}
            assert found["7.jpg"] & fields == {"fox" if "label" in own else "bird"}


@pytest.mark.parametrize("pair", [("animal:dog", "animal:cat"), ("C#", "C"), ("Cat (black)", "Cat (white)")])
def test_columns_of_several_tables_are_matched_by_their_whole_name(
    pair: tuple[str, str], tmp_path: Path, photos: Photos
) -> None:
    for part, header in (("train", ["filename", *pair, "car"]), ("valid", ["filename", *pair[::-1], "car"])):
        photos(tmp_path / part, [f"{part}{i}.jpg" for i in range(6)])
        rows = [[f"{part}{i}.jpg", int(i % 2 == (part == "valid")), int(i % 3 == 0), int(i > 3)] for i in range(6)]
        pd.DataFrame(rows, columns=header).to_csv(tmp_path / part / "_classes.csv", index=False)
    data = pt.read(tmp_path)
    assert set(data.labels) == {*pair, "car"}
    found = labels_of(data)
    assert (pair[0] in found["train/train0.jpg"]) and (pair[1] in found["train/train3.jpg"])
    assert (pair[1] in found["valid/valid1.jpg"]) and (pair[0] in found["valid/valid3.jpg"])
    assert pair[1] not in found["train/train1.jpg"] and pair[1] not in found["valid/valid2.jpg"]


def test_question_marks_stay_unknown_in_every_form(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, [f"{i}.jpg" for i in range(10)])
    rows = [f"{i}.jpg,{'cat' if i % 2 else 'dog'}" for i in range(8)] + ["8.jpg,?", "9.jpg,?"]
    for more in ([], ["0.jpg,dog"], ["0.jpg,cat", "8.jpg,?"]):
        (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows, *more]) + "\n")
        data = pt.read(tmp_path / "labels.csv")
        targets = dict(zip(data.names, data.targets, strict=True))
        assert (targets["8.jpg"] == -1).all() and (targets["9.jpg"] == -1).all() and (targets["1.jpg"] >= 0).all()
        assert any("'?' means that the labels are unknown" in note for note in data.notes)


def test_unknown_labels_survive_in_a_folder_for_each_part(tmp_path: Path, photos: Photos) -> None:
    for part, count in (("train", 6), ("valid", 4)):
        paths = photos(tmp_path / part, [f"{part}{i}.jpg" for i in range(count)])
        targets = np.array([[i % 2, (i + 1) % 2] for i in range(count)], np.int8)
        targets[2] = [-1, 1]
        full = np.array([str(tmp_path / part / Path(path).name) for path in paths])
        data = Dataset(full, targets, ("cat", "dog"), np.arange(count), tmp_path / part)
        pt.write(tmp_path / part / "metadata.jsonl", data)
    data = pt.read(tmp_path)
    cat = data.labels.index("cat")
    unknown = {Path(name).name for name, row in zip(data.names, data.targets, strict=True) if row[cat] == -1}
    assert unknown == {"train2.jpg", "valid2.jpg"}


def test_a_copied_filename_in_voc_gives_no_photo_the_objects_of_another(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path / "JPEGImages", ["0.jpg", "1.jpg", "2.jpg"])
    (tmp_path / "Annotations").mkdir()
    for i, name in enumerate(("dog", "cat", "dog")):
        (tmp_path / "Annotations" / f"{i}.xml").write_text(
            f'<annotation verified="yes"><filename>0.jpg</filename><object><name>{name}</name></object></annotation>'
        )
    found = labels_of(pt.read(tmp_path))
    assert {Path(name).name: labels for name, labels in found.items()} == {
        "0.jpg": {"dog"}, "1.jpg": {"cat"}, "2.jpg": {"dog"}
    }  # fmt: skip


def test_voc_files_beside_the_photos_may_be_verified(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, [f"{i}.jpg" for i in range(4)])
    for i in range(4):
        (tmp_path / f"{i}.xml").write_text(
            f'<annotation verified="yes"><filename>{i}.jpg</filename>'
            f"<object><name>{'dog' if i % 2 else 'cat'}</name></object></annotation>"
        )
    assert labels_of(pt.read(tmp_path))["3.jpg"] == {"dog"}


def test_a_missing_photo_is_missing_where_other_paths_are_right(tmp_path: Path, photos: Photos) -> None:
    for folder, names in (("cat", ["1.jpg", "2.jpg"]), ("dog", ["3.jpg", "4.jpg"])):
        photos(tmp_path / folder, names)
    table = "image,label\ncat/1.jpg,cat\ndog/2.jpg,dog\ndog/3.jpg,dog\ndog/4.jpg,dog\n"
    (tmp_path / "labels.csv").write_text(table)
    data = pt.read(tmp_path / "labels.csv")
    assert sorted(data.names) == ["cat/1.jpg", "dog/3.jpg", "dog/4.jpg"]
    assert any("dog/2.jpg" in str(path) for path in data.left_out)


def test_a_split_that_most_rows_leave_open_is_not_dropped(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, [f"{i}.jpg" for i in range(9)])
    rows = [f"{i}.jpg,{i % 2},{(i + 1) % 2},{'test' if i > 6 else ''}" for i in range(9)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,dog,cat,split", *rows]) + "\n")
    with pytest.raises(DataError, match="in the split column 'split': expected train, validation or test"):
        pt.read(tmp_path / "labels.csv")


def test_a_split_file_speaks_of_no_photo_of_another_folder(tmp_path: Path) -> None:
    names = [f"a/{i}.png" for i in range(12)] + [f"b/{i}.png" for i in range(8)]
    targets = np.array([[i % 2, (i + 1) % 2] for i in range(20)], np.int8)
    data = Dataset(np.array([f"/x/{n}" for n in names]), targets, ("p", "q"), np.arange(20), Path("/x"))
    everything = [f"a/{i}.png" for i in range(12)] + [f"b/{i}.png" for i in range(12)]
    rows = [f"{name},{'test' if name.startswith('b') else 'train'}" for name in everything]
    (tmp_path / "s.csv").write_text("\n".join(["image,part", *rows]) + "\n")
    found = with_split(data, tmp_path / "s.csv")
    assert found.parts is not None and found.parts.tolist() == ["train"] * 12 + ["test"] * 8
    assert "4 images listed only in the split" in found.notes[-1]
    only_a = data.take(np.arange(12))
    (tmp_path / "s.csv").write_text(
        "\n".join(
            ["image,part", *(f"{'a' if i < 6 else 'b'}/{i}.png,{'train' if i < 6 else 'test'}" for i in range(12))]
        )
    )
    halved = with_split(only_a, tmp_path / "s.csv")
    assert halved.names == [f"a/{i}.png" for i in range(6)]
    moved = "\n".join(["image,part", *(f"/old/place/{i}.png,train" for i in range(12))])
    (tmp_path / "s.csv").write_text(moved + "\n")
    assert len(with_split(only_a, tmp_path / "s.csv")) == 12


def test_a_column_called_image_does_not_rename_pictures_in_parquet(tmp_path: Path) -> None:
    rows = []
    for i in range(6):
        Image.new("RGB", (24, 24), (40 * i, 10, 90)).save(tmp_path / "x.png")
        rows.append({"img_bytes": (tmp_path / "x.png").read_bytes(), "image": f"{5 - i:07}", "label": "ab"[i % 2]})
    (tmp_path / "x.png").unlink()
    pd.DataFrame(rows).to_parquet(tmp_path / "data.parquet")
    data = pt.read(tmp_path / "data.parquet")
    for path, row in zip(data.paths, data.targets, strict=True):
        red = Image.open(path).getpixel((0, 0))[0]
        assert data.labels[int(np.argmax(row))] == "ab"[red // 40 % 2]


def test_the_decisions_of_an_audit_leave_a_folder_readable(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, [f"{i}.jpg" for i in range(4)])
    (tmp_path / "data.csv").write_text("image,label\n" + "".join(f"{i}.jpg,{'ab'[i % 2]}\n" for i in range(4)))
    (tmp_path / "data.decisions.csv").write_text("image,label,action,reason,into\n0.jpg,,drop,,\n")
    assert len(pt.read(tmp_path)) == 4

"""COCO, LVIS, Create ML and Pascal VOC: what is drawn into their files is what is read."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytag import read
from polytag.data.dataset import Dataset
from polytag.data.reading.annotations.load import load_json
from polytag.errors import DataError, PolytagError, SettingsError

Photos = Callable[..., list[str]]
Sets = list[set[str]]

LABELS = ["dog", "traffic light", "cat|bird", "<a> & b", "ünï", "0", "image"]


def sets(data: Dataset, value: int = 1) -> Sets:
    return [{data.labels[j] for j in range(len(data.labels)) if row[j] == value} for row in data.targets]


def said(data: Dataset, words: str) -> bool:
    return any(words in note for note in data.notes)


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(PolytagError) as caught:
        read(path, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def coco(names: list[str], chosen: Sets, labels: list[str], **more: Any) -> dict[str, Any]:
    """Ids that are no places: images count down from 900, categories up from 7; each thing is marked twice."""
    ids = {label: 7 + 3 * j for j, label in enumerate(labels)}
    pairs = [(900 - i, ids[label]) for i, own in enumerate(chosen) for label in sorted(own)] * 2
    return {
        "info": {"year": 2017},
        "images": [{"id": 900 - i, "file_name": name, "width": 32} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": image, "category_id": category, "iscrowd": i % 2, "bbox": [0, 0, 1, 1]}
            for i, (image, category) in enumerate(pairs)
        ],
        "categories": [{"id": ids[label], "name": label, "supercategory": "thing"} for label in labels],
        **more,
    }


def voc(name: str | None, things: list[tuple[str, int]]) -> str:
    objects = "".join(
        f"<object><name>{escape(label)}</name><difficult>{difficult}</difficult><part><name>head</name></part></object>"
        for label, difficult in things
    )
    return f"<annotation>{'' if name is None else f'<filename>{escape(name)}</filename>'}{objects}</annotation>"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, photos: Photos) -> Path:
    home = tmp_path_factory.mktemp("home")
    photos(home / "JPEGImages", [f"{i}.jpg" for i in range(5)])
    (home / "Annotations").mkdir()
    return home


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sets(st.sampled_from(LABELS)), min_size=1, max_size=5), st.permutations(LABELS))
def test_every_form_says_what_was_put_into_it(home: Path, chosen: Sets, labels: list[str]) -> None:
    names = [f"{i}.jpg" for i in range(len(chosen))]
    (home / "coco.json").write_text(json.dumps(coco(names, chosen, labels)), encoding="utf-8")
    data = read(home / "coco.json")
    assert (data.names, data.labels, sets(data)) == (names, tuple(labels), chosen)
    assert (data.targets >= 0).all() and data.parts is None and not data.disputed

    if not any(chosen):
        return
    order = dict.fromkeys(label for own in chosen for label in sorted(own))
    forms: list[Callable[[list[str]], Any]] = [
        lambda own: {"annotations": [{"label": label, "coordinates": {"x": 1}} for label in own * 2]},
        lambda own: {"annotation": [{"name": label} for label in own]},
        lambda own: {"labels": own},
        lambda own: {"annotations": own},
    ]
    for form, key in zip(forms, ["image", "imagefilename", "image", "filename"], strict=True):
        records = [{key: name, **form(sorted(own))} for name, own in zip(names, chosen, strict=True)]
        (home / "createml.json").write_text(json.dumps(records), encoding="utf-8")
        data = read(home / "createml.json")
        assert (data.names, data.labels, sets(data)) == (names, tuple(order), chosen)

    for old in (*(home / "Annotations").iterdir(), home / "createml.json", home / "coco.json"):
        old.unlink()
    for i, own in enumerate(chosen):
        text = voc(f"{i}.jpg", [(label, 0) for label in own])
        (home / "Annotations" / f"{i}.xml").write_text(text, encoding="utf-8")
    data = read(home)
    assert (data.names, data.labels, sets(data)) == (names, tuple(sorted(order)), chosen)
    assert list(data.left_out) == [f"{i}.jpg" for i in range(len(chosen), 5)]


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "where, named",
    [
        ("annotations", "{}"),
        ("train2017", "{}"),
        ("train2017", "train2017/{}"),
        ("images", "{}"),
        ("images/train2017", "{}"),
        ("images", "images/{}"),
        ("images", "train2017/{}"),
        ("annotations/a/b", "{}"),
    ],
)
def test_coco_photos_are_found_where_people_put_them(where: str, named: str, tmp_path: Path, photos: Photos) -> None:
    names = ["a.jpg", "b.jpg", "c.jpg"]
    photos(tmp_path / where, names)
    photos(tmp_path / "other", ["d.jpg"])
    content = coco([named.format(name) for name in names], [{"dog"}, set(), {"cat"}], ["cat", "dog"])
    path = write_json(tmp_path / "annotations/instances.json", content)
    for images in (None, tmp_path / where):
        data = read(path, images=images)
        assert [Path(name).name for name in data.names] == names
        assert sets(data) == [{"dog"}, set(), {"cat"}]
        assert all(str(tmp_path / where) in photo for photo in data.paths)
    assert data.notes[0] == "instances.json: COCO, 4 annotations in 3 images, 2 labels"


@pytest.mark.parametrize("what", ["images", "categories"])
def test_coco_ids_that_are_given_twice_are_refused(what: str, tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["a.jpg", "b.jpg"])
    content = coco(["a.jpg", "b.jpg"], [{"dog"}, {"cat"}], ["cat", "dog"])
    content[what][1]["id"] = content[what][0]["id"]
    assert f"2 {what} with only 1 different ids" in refusal(write_json(tmp_path / "c.json", content))


def test_coco_files_of_missing_photos_or_outside(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path / "images", ["a.jpg"])
    photos(tmp_path, ["out.jpg"])
    path = write_json(tmp_path / "x" / "c.json", coco(["a.jpg", "gone.jpg"], [{"dog"}, {"cat"}], ["cat", "dog"]))
    data = read(path)
    assert dict(data.left_out) == {"gone.jpg": "no such file"}
    write_json(path, coco(["a.jpg", "../out.jpg"], [{"dog"}, {"cat"}], ["cat", "dog"]))
    assert "record 2: the image '../out.jpg' is outside the folder" in refusal(path, images=tmp_path / "images")
    write_json(path, coco(["never.jpg"], [{"dog"}], ["dog"]))
    assert "none of the 1 images of c.json is in or below" in refusal(path)


@pytest.fixture
def three(tmp_path: Path, photos: Photos) -> Path:
    """Three photos, and a path for a file beside them."""
    photos(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    return tmp_path / "c.json"


NAMES = ["a.jpg", "b.jpg", "c.jpg"]


def test_coco_names_under_two_ids_come_together(three: Path) -> None:
    content = coco(NAMES, [{"dog"}, {"cat"}, {"Dog"}], ["dog", "cat", "Dog"])
    content["categories"][2]["name"] = " dog "
    data = read(write_json(three, content))
    assert data.labels == ("dog", "cat")
    assert sets(data) == [{"dog"}, {"cat"}, {"dog"}]
    assert said(data, "1 name under several category ids, merged: dog")


def test_coco_categories_that_nothing_is_annotated_with(three: Path) -> None:
    """A label that is never present stays one; a heading of other categories, which some tools list, is none."""
    content = coco(NAMES, [{"dog"}, set(), {"cat"}], ["animal", "dog", "yeti", "cat"])
    for category, above in zip(content["categories"], ["none", "animal", "animal", "animal"], strict=True):
        category["supercategory"] = above
    data = read(write_json(three, content))
    assert data.labels == ("dog", "yeti", "cat")
    assert said(data, "categories that only group others, left out: animal")
    assert said(data, "1 label declared but never present: yeti")
    content["annotations"].append({"image_id": 899, "category_id": 7})
    assert read(write_json(three, content)).labels == ("animal", "dog", "yeti", "cat")


def test_lvis_knows_what_was_looked_for(three: Path) -> None:
    content = coco(NAMES, [{"dog"}, set(), {"cat"}], ["dog", "cat", "cow"])
    for image, name, absent in zip(content["images"], NAMES, [[10], [7, 13], []], strict=True):
        del image["file_name"]
        image |= {"coco_url": f"http://x.org/val2017/{name}", "neg_category_ids": absent}
    data = read(write_json(three, content))
    assert data.names == NAMES
    assert data.targets.tolist() == [[1, 0, -1], [0, -1, 0], [-1, 1, -1]]
    assert said(data, "labels neither annotated nor listed in neg_category_ids are unknown")


def test_coco_images_listed_twice(three: Path) -> None:
    content = coco([*NAMES, "a.jpg", "b.jpg"], [{"dog"}, {"cat"}, set(), {"dog"}, {"dog"}], ["dog", "cat"])
    message = refusal(write_json(three, content))
    assert message.startswith("1 image with labels that contradict each other: b.jpg (records 2, 5);")
    data = read(three, conflicts="unknown")
    assert data.targets.tolist() == [[1, 0], [-1, -1], [0, 0]]
    assert data.repeats == {"a.jpg": (1, 4), "b.jpg": (2, 5)}
    assert data.disputed == {"b.jpg": ("dog", "cat")}


def test_coco_annotations_of_other_images_are_counted(three: Path) -> None:
    content = coco(NAMES, [{"dog"}, {"cat"}, set()], ["dog", "cat"])
    content["images"].pop()
    content["annotations"].append({"image_id": 898, "category_id": 7})
    data = read(write_json(three, content))
    assert sets(data) == [{"dog"}, {"cat"}]
    assert said(data, "1 annotation not used because 'images' does not list the image")


def broken(**changes: Any) -> dict[str, Any]:
    return coco(NAMES, [{"dog"}, {"cat"}, set()], ["dog", "cat"], **changes)


@pytest.mark.parametrize(
    "content, expected",
    [
        ({}, "it is an empty object"),
        ([], "it is an empty list"),
        ([1, 2], "it is a list of other things"),
        ("dog", "it is str"),
        (None, "it is NoneType"),
        ({"images": [], "annotations": []}, "it is an object with images, annotations"),
        (broken(images=5), "'images' is not a list of objects"),
        (broken(images=[]), "'images' is empty"),
        (broken(categories=[]), "'categories' is empty"),
        (broken(annotations=["x"]), "'annotations' is not a list of objects"),
        (broken(images=[{"file_name": "a.jpg"}]), "image 1 has no id: expected a number"),
        (broken(images=[{"id": [1], "file_name": "a.jpg"}]), "image 1 has [1] for id"),
        (broken(images=[{"id": 1}]), "image 1 has None for file_name"),
        (broken(images=[{"id": 1, "file_name": "a\nb.jpg"}]), "for file_name: expected the name of one image"),
        (broken(images=[{"id": 1, "file_name": 5}]), "image 1 has 5 for file_name"),
        (broken(categories=[{"id": 1}]), "category 1 has no name: expected the name of a label"),
        (broken(categories=[{"id": 1, "name": " "}]), "category 1 has ' ' for a name"),
        (broken(categories=[{"id": 1, "name": ["x"]}]), "category 1 has ['x'] for a name"),
        (broken(annotations=[{"image_id": 900, "caption": "a dog"}]), "annotation 1 has no category_id"),
        (broken(annotations=[{"image_id": 900, "category_id": 99}]), "annotation 1 has category 99, which"),
        (broken(annotations=[{"image_id": {}, "category_id": 7}]), "annotation 1 has {} for image_id"),
        (broken(images=[{"id": 1, "file_name": "a.jpg", "neg_category_ids": [99]}]), "has neg_category_ids [99]"),
        (broken(images=[{"id": 1, "file_name": "a.jpg", "neg_category_ids": 7}]), "has neg_category_ids 7"),
        ([{"image": "a.jpg"}], "no labels"),
        ([{"annotations": []}], "it is a list of objects with annotations"),
        ([{"image": ["a.jpg"], "annotations": []}], "record 1 has ['a.jpg'] for image"),
        ([{"image": "a.jpg", "annotations": [{"coordinates": {}}]}], "record 1 has no name"),
        ([{"image": "a.jpg", "annotations": [True]}], "record 1 has True for a name"),
        ([{"image": "a.jpg", "annotations": []}], "has no labels"),
    ],
)
def test_json_that_cannot_be_understood(content: Any, expected: str, three: Path) -> None:
    message = refusal(write_json(three, content))
    assert expected in message
    assert three.name in message


@pytest.mark.parametrize(
    "text", ["", "{", "\0", "[" * 100_000, '{"images": NaN,}', "1" * 5_000 + "x", '"' + "x" * 50, "\xff\xfe"]
)
def test_damaged_json(text: str, three: Path) -> None:
    three.write_bytes(text.encode("latin-1"))
    assert "is not JSON (" in refusal(three)


def test_json_has_no_columns(three: Path) -> None:
    write_json(three, broken())
    with pytest.raises(SettingsError, match="--image-column applies to the columns of a CSV"):
        read(three, image_column="image")
    with pytest.raises(DataError, match="cannot be read"):
        read(three.parent / "none.json")


def test_polygons_are_not_kept(tmp_path: Path) -> None:
    """Segmentations are most of a COCO file; reading them must not take the memory of their numbers."""
    import tracemalloc

    content = broken()
    content["annotations"] = [
        {"image_id": 900, "category_id": 7, "segmentation": [[0.123456789 + i for i in range(1_000)]]}
        for _ in range(200)
    ]
    path = write_json(tmp_path / "c.json", content)
    del content
    tracemalloc.start()
    try:
        load_json(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 2e6
    assert peak < 2.5 * path.stat().st_size


@pytest.fixture
def voc_folder(tmp_path: Path, photos: Photos) -> Path:
    photos(tmp_path / "JPEGImages", ["1.jpg", "2.jpg", "3.jpg", "4.png", "lone.jpg"])
    things = [[("dog", 0), ("dog", 1), ("cat", 1)], [("cat", 0)], [], [("dog", 1), ("cat", 1)]]
    (tmp_path / "Annotations").mkdir()
    for i, own in enumerate(things, 1):
        name = "4.png" if i == 4 else None if i == 3 else f"{i}.jpg"
        (tmp_path / "Annotations" / f"{i}.xml").write_text(voc(name, own))
    return tmp_path


def test_voc_things_that_are_difficult_are_unknown(voc_folder: Path) -> None:
    for source in (voc_folder, voc_folder / "Annotations"):
        data = read(source)
        assert data.labels == ("cat", "dog")
        assert data.names == ["1.jpg", "2.jpg", "3.jpg", "4.png"]
        assert data.targets.tolist() == [[-1, 1], [1, 0], [0, 0], [-1, -1]]
        assert said(data, "3 labels in 2 images only on objects marked difficult: unknown there")
        assert said(data, "1 image left out because not annotated: lone.jpg")
        assert dict(data.left_out) == {"lone.jpg": "not annotated"}
        assert f"{source.name}: Pascal VOC, 4 XML files, 2 labels" in data.notes


def test_names_that_utf_8_cannot_hold_are_refused_even_of_what_is_left_out(voc_folder: Path, photos: Photos) -> None:
    lone = voc_folder / "JPEGImages" / "lone.jpg"
    lone.rename(os.fsdecode(os.fsencode(lone.parent) + b"/caf\xe9.jpg"))
    assert "file names that are not valid UTF-8 ('caf\\udce9.jpg'): rename these files" in refusal(voc_folder)


def test_voc_files_beside_the_photos(voc_folder: Path) -> None:
    for path in [*(voc_folder / "Annotations").iterdir(), *(voc_folder / "JPEGImages").iterdir()]:
        path.rename(voc_folder / path.name)
    data = read(voc_folder)
    assert data.names == ["1.jpg", "2.jpg", "3.jpg", "4.png"]
    assert list(data.left_out) == ["lone.jpg"]


BOMB = "<!DOCTYPE a [<!ENTITY x0 'ha'>" + "".join(f"<!ENTITY x{i} '{f'&x{i - 1};' * 10}'>" for i in range(1, 12)) + "]>"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "is not valid XML (no element found"),
        ("<annotation>", "is not valid XML"),
        ("dog", "is not valid XML (syntax error"),
        ("<annotation><object/></annotation>", "object 1 has no name"),
        ("<annotation><object><name> </name></object></annotation>", "object 1 has ' ' for a name"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "is not valid XML"),
        ("<!DOCTYPE annotation><annotation/>", "it declares a DOCTYPE"),
        (f"{BOMB}<annotation><filename>&x11;</filename></annotation>", "it declares a DOCTYPE"),
        ('<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>', "it declares a DOCTYPE"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_that_cannot_be_trusted_or_understood(text: str, expected: str, encoding: str, voc_folder: Path) -> None:
    path = voc_folder / "Annotations" / "2.xml"
    path.write_bytes(text.encode(encoding))
    before = time.monotonic()
    message = refusal(voc_folder)
    assert time.monotonic() - before < 2
    assert str(path) in message
    if encoding == "utf-8" or text:
        assert expected in message or "klingon" in text


def test_voc_without_any_object(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["a.jpg"])
    (tmp_path / "a.xml").write_text(voc("a.jpg", []))
    assert "none of 1 XML file in" in refusal(tmp_path)
    assert "name the folder that contains all its files" in refusal(tmp_path / "a.xml")
    (tmp_path / "a.xml").write_text(voc("../a.jpg", [("dog", 0)]))
    assert read(tmp_path).paths.tolist() == [str(tmp_path.resolve() / "a.jpg")]

"""CVAT, VIA, labelme, Datumaro, FiftyOne and Create ML: what is put into their files is what is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labelled import labels_of, parts_of, put, refusal
from polytag import read
from polytag.errors import PolytagError

Photos = Callable[..., list[str]]
NAMES = ["a.jpg", "b.jpg", "c.jpg"]


@pytest.fixture
def folder(tmp_path: Path, photos: Photos) -> Path:
    photos(tmp_path / "images", NAMES)
    return tmp_path


# --- CVAT ---


def cvat(*images: str) -> str:
    labels = "<meta><job><labels><label><name>dog</name></label><label><name>cat</name></label></labels></job></meta>"
    return f'<?xml version="1.0"?><annotations><version>1.1</version>{labels}{"".join(images)}</annotations>'


def cvat_image(name: str, *things: str, subset: str = "") -> str:
    return f'<image id="0" name="{name}"' + (f' subset="{subset}"' if subset else "") + f">{''.join(things)}</image>"


def test_cvat(folder: Path) -> None:
    images = (
        cvat_image("a.jpg", '<tag label="dog"/>', '<polygon label="cat" points="1,2"/>', subset="Train"),
        cvat_image("b.jpg", '<box label="dog"><attribute name="lit">true</attribute></box>', subset="Validation"),
        cvat_image("c.jpg", subset="Test"),
    )
    path = put(folder / "annotations.xml", cvat(*images))
    for source in (path, folder):
        data = read(source)
        assert list(labels_of(data).values()) == ["cat dog", "dog", ""]
        assert list((parts_of(data) or {}).values()) == ["train", "validation", "test"]
    put(path, cvat(*images[:2], cvat_image("c.jpg")))
    data = read(path)
    assert data.parts is None and any("split is not used: 1 of 3 images" in note for note in data.notes)


def test_cvat_refusals(folder: Path) -> None:
    path = put(folder / "annotations.xml", cvat('<track label="dog"><box frame="0"/></track>'))
    assert "CVAT for images" in refusal(path)
    put(path, cvat(cvat_image("a.jpg", "<tag/>")))
    assert "image 1 has no name" in refusal(path)
    put(path, "<html/>")
    assert "not CVAT's XML" in refusal(path)
    put(path, "<!DOCTYPE a [<!ENTITY x 'y'>]>" + cvat(cvat_image("a.jpg")).split("?>")[1])
    assert "DOCTYPE" in refusal(path)


# --- VIA ---


def region(**attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": {"name": "rect", "x": 1}, "region_attributes": attributes}


def via(regions: list[Any], **attributes: Any) -> dict[str, Any]:
    return {
        f"{name}100": {
            "filename": name,
            "size": 100,
            "regions": own,
            "file_attributes": attributes if name == "a.jpg" else {},
        }
        for name, own in zip(NAMES, regions, strict=True)
    }


def test_via(folder: Path) -> None:
    images = via([[region(kind="dog"), region(kind="cat")], [region(kind="dog")], []])
    versions: list[Any] = [
        images,
        {"_via_settings": {}, "_via_img_metadata": images, "_via_attributes": {}},
        {key: {**one, "regions": {str(i): r for i, r in enumerate(one["regions"])}} for key, one in images.items()},
    ]
    for content in versions:
        assert list(labels_of(read(put(folder / "via.json", content))).values()) == ["cat dog", "dog", ""]


def test_via_attributes(folder: Path) -> None:
    """Check boxes, yes or no, several attributes, and those that are a remark or a measure."""
    regions = [[], [region(kind={"dog": True, "cat": "false"})], [region(kind={"cat": 1})]]
    images = via(regions, sunny="yes", size="12.5", note="blurred")
    path = put(folder / "via.json", images)
    data = read(path)
    assert list(labels_of(data).values()) == ["sunny", "dog", "cat"]
    assert any("attributes not used: size, note" in note for note in data.notes)
    assert list(labels_of(read(path, label_column="kind")).values()) == ["", "dog", "cat"]
    assert "no attribute 'x'" in refusal(path, label_column="x")


@pytest.mark.parametrize("first", ["filename", "#filename"])
def test_via_csv(first: str, folder: Path) -> None:
    header = f"{first},file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\r\n"
    rows = (
        'a.jpg,100,"{}",2,0,"{""name"":""rect""}","{""kind"":""dog""}"\r\n'
        'a.jpg,100,"{}",2,1,"{""name"":""rect""}","{""kind"":""cat""}"\r\n'
        'b.jpg,100,"{}",0,0,"{}","{}"\r\n'
    )
    path = put(folder / "via_export_csv.csv", "\ufeff" + header + rows)
    for source in (path, folder):
        assert list(labels_of(read(source)).values()) == ["cat dog", ""]
    put(path, header + 'a.jpg,100,"{",0,0,"{}","{}"\r\n')
    assert "line 2" in refusal(path) and "not JSON" in refusal(path)


def test_via3(folder: Path) -> None:
    kinds = {"aname": "kind", "type": 2, "options": {"0": "dog", "1": "cat"}}
    weather = {"aname": "weather", "type": 4, "options": {"s": "sun", "r": "rain"}}
    metadata = [("1", {"1": "0,1", "2": "s"}), ("1", {"1": "1"}), ("2", {"1": "0", "3": "blurred, a lot"})]
    content = {
        "project": {"pid": "__VIA_PROJECT_ID__", "data_format_version": "3.1.1"},
        "config": {},
        "attribute": {"1": kinds, "2": weather, "3": {"aname": "note", "type": 1, "options": {}}},
        "file": {str(i): {"fid": str(i), "fname": name, "type": 2} for i, name in enumerate(NAMES, 1)},
        "metadata": {f"{vid}_{i}": {"vid": vid, "xy": [], "av": av} for i, (vid, av) in enumerate(metadata)},
        "view": {str(i): {"fid_list": [str(i)]} for i in range(1, 4)},
    }
    path = put(folder / "via3.json", content)
    data = read(path)
    assert list(labels_of(data).values()) == ["cat dog sun", "dog", ""]
    assert any("attributes not used: note" in note for note in data.notes)
    assert list(labels_of(read(path, label_column="weather")).values()) == ["sun", "", ""]


# --- labelme ---


def labelme(image: str, *shapes: str, **flags: Any) -> dict[str, Any]:
    marked = [{"label": name, "points": [[1, 2]], "shape_type": "polygon"} for name in shapes]
    return {"version": "5", "flags": flags, "shapes": marked, "imagePath": image, "imageData": "x" * 500}


def test_labelme(folder: Path, photos: Photos) -> None:
    photos(folder / "images", ["lone.jpg", "deep/d.jpg"])
    put(folder / "images/a.json", labelme("a.jpg", "dog", "dog", "cat"))
    put(folder / "images/b.json", labelme("C:\\Users\\ann\\b.jpg", area=True))
    put(folder / "images/c.json", labelme("old-name.jpg", area=False))
    put(folder / "images/deep/d.json", labelme("..\\d.jpg", "dog", area=True))
    data = read(folder)
    assert labels_of(data) == {
        "images/a.jpg": "area? cat dog",
        "images/b.jpg": "area",
        "images/c.jpg": "",
        "images/deep/d.jpg": "area dog",
    }
    assert dict(data.left_out) == {"images/lone.jpg": "not annotated"}
    assert "name the folder" in refusal(folder / "images/a.json")


def test_labelme_files_in_a_folder_of_their_own(folder: Path) -> None:
    for name in ("a", "b", "c"):
        put(folder / f"json/{name}.json", labelme(f"../images/{name}.jpg", name))
    assert list(labels_of(read(folder)).values()) == ["a", "b", "c"]


# --- Datumaro ---


def datumaro(*items: tuple[str, list[int]]) -> dict[str, Any]:
    return {
        "info": {},
        "categories": {"label": {"labels": [{"name": "dog", "parent": ""}, {"name": "cat"}]}, "mask": {"colormap": []}},
        "items": [
            {
                "id": name,
                "annotations": [{"type": "bbox", "label_id": i, "bbox": [1]} for i in own] + [{"type": "caption"}],
            }
            for name, own in items
        ],
    }


def test_datumaro(folder: Path) -> None:
    content = datumaro(("a", [0, 0, 1]), ("b", [0]), ("c", []))
    assert list(labels_of(read(put(folder / "annotations/default.json", content))).values()) == ["cat dog", "dog", ""]
    content["items"][0]["media"] = {"path": "a.jpg"}
    content["items"][1]["image"] = {"path": "b.jpg", "size": [1, 2]}
    put(folder / "annotations/default.json", content)
    assert list(labels_of(read(folder)).values()) == ["cat dog", "dog", ""]
    content["items"][0]["annotations"] = [{"label_id": 5}]
    assert "label_id 5" in refusal(put(folder / "annotations/default.json", content))


def test_datumaro_subsets(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path / "images", ["train/a.jpg", "val/a.jpg", "val/b.jpg"])
    put(tmp_path / "annotations/train.json", datumaro(("a", [0])))
    put(tmp_path / "annotations/val.json", datumaro(("a", [1]), ("b", [0, 1])))
    data = read(tmp_path)
    assert labels_of(data) == {"images/train/a.jpg": "dog", "images/val/a.jpg": "cat", "images/val/b.jpg": "cat dog"}
    assert list((parts_of(data) or {}).values()) == ["train", "validation", "validation"]


# --- FiftyOne ---


@pytest.mark.parametrize(
    "classes, told",
    [
        (["dog", "cat"], {"a": [0, 1], "b": 0, "c": [], "d": None}),
        (None, {"a": ["dog", "cat"], "b": "dog", "c": [], "d": None}),
        (
            ["dog", "cat"],
            {"a": [{"label": 0, "bounding_box": [0, 0, 1, 1]}, {"label": 1}], "b": [{"label": 0}], "c": [], "d": None},
        ),
        (None, {"a": [{"label": "dog"}, {"label": "cat"}], "b": {"label": "dog"}, "c": [], "d": None}),
    ],
)
def test_fiftyone_labels(classes: list[str] | None, told: dict[str, Any], tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path / "data", [*NAMES, "d.jpg"])
    path = put(tmp_path / "labels.json", {"classes": classes, "labels": told})
    for source in (path, tmp_path):
        data = read(source)
        assert list(labels_of(data).values()) == ["cat dog", "dog", ""]
        assert list(data.left_out.values()) == ["not annotated"]
    put(path, {"classes": ["dog"], "labels": {"a": [3]}})
    assert "class 3" in refusal(path)


def sample(
    name: str, *labels: str, tags: tuple[str, ...] = (), field: str = "ground_truth", **more: Any
) -> dict[str, Any]:
    told = {"_cls": "Detections", "detections": [{"label": label, "bounding_box": [0]} for label in labels]}
    return {"filepath": name, "tags": list(tags), field: told, **more}


def test_fiftyone_samples(folder: Path) -> None:
    guess = {"_cls": "Classification", "label": "wolf", "confidence": 0.4}
    samples = [
        sample("images/a.jpg", "dog", "cat", tags=("train", "good"), predictions=guess),
        sample("images/b.jpg", "dog", tags=("validation",)),
        {"filepath": "images/c.jpg", "tags": ["test"], "ground_truth": None},
    ]
    path = put(folder / "samples.json", {"name": "x", "samples": samples})
    data = read(path)
    assert list(labels_of(data).values()) == ["cat dog", "dog"]
    assert list((parts_of(data) or {}).values()) == ["train", "validation"]
    assert list(data.left_out.values()) == ["not annotated"]
    assert list(labels_of(read(path, label_column="predictions")).values()) == ["wolf"]
    assert "no labels in the field 'x'" in refusal(path, label_column="x")
    put(path, {"samples": [sample("images/a.jpg", "dog", field="one"), sample("images/b.jpg", "cat", field="two")]})
    assert "--label-column" in refusal(path)


# --- Create ML ---


def test_create_ml_per_split(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["train/a.jpg", "valid/a.jpg", "valid/b.jpg"])
    put(tmp_path / "train/_annotations.createml.json", [{"image": "a.jpg", "annotations": [{"label": "dog"}]}])
    told = [{"image": "a.jpg", "annotations": [{"label": "cat"}]}, {"image": "b.jpg", "annotations": []}]
    put(tmp_path / "valid/_annotations.createml.json", told)
    data = read(tmp_path)
    assert labels_of(data) == {"train/a.jpg": "dog", "valid/a.jpg": "cat", "valid/b.jpg": ""}
    assert list((parts_of(data) or {}).values()) == ["train", "validation", "validation"]


# --- others ---


@pytest.mark.parametrize(
    "content, expected",
    [
        ({"description": "", "tags": [], "size": {}, "objects": []}, "a Supervisely annotation"),
        ([{"data_row": {}, "projects": {}}], "a Labelbox export"),
        ({"openlabel": {}}, "OpenLABEL"),
    ],
)
def test_other_tools_are_named(content: Any, expected: str, folder: Path) -> None:
    message = refusal(put(folder / "x.json", content))
    assert expected in message and "export it as COCO" in message


@pytest.mark.parametrize(
    "name", ["a.tfrecord", "data.mdb", "labels.mat", "000.tar", "d.zip", "d.h5", "d.arrow", "c.lrcat"]
)
def test_files_that_are_recognised_but_not_read(name: str, tmp_path: Path) -> None:
    path = put(tmp_path / name, b"x")
    for source in (path, tmp_path):
        assert f"{name} is " in refusal(source) and "polytag does not read" in refusal(source)


@pytest.mark.parametrize(
    "content",
    [
        {"classes": 5, "labels": {"a": "dog"}},
        {"samples": [{"filepath": "a.jpg", "tags": 5, "gt": {"label": "dog"}}], "classes": {"gt": 5}},
        {"a.jpg9": {"filename": "a.jpg", "regions": 5, "file_attributes": {"kind": "dog"}}},
        {"categories": {"label": {"labels": 5}}, "items": [{"id": "a", "annotations": []}]},
        [{"data": {"image": "a.jpg"}, "annotations": [{"result": [{"type": [], "value": {"choices": ["dog"]}}]}]}],
        {"shapes": [], "flags": {"dog": True}, "imagePath": "x" * 5000},
        {"shapes": [], "flags": {"dog": True}, "imagePath": "../\ud800/a.jpg"},
    ],
)
def test_nonsense_ends_in_one_line_or_is_passed_over(content: Any, tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["a.jpg"])
    put(tmp_path / "a.json", content)
    try:
        assert read(tmp_path).labels == ("dog",)
    except PolytagError as error:
        assert len(str(error).splitlines()) == 1

"""Kaggle through a stand-in for kagglehub: what it is asked, what is found in what it brings, and what fails."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import requests

from polytag import read
from polytag.data.reading.kaggle import fetch
from polytag.errors import DataError, PolytagError

Photos = Callable[..., list[str]]


class Hub:
    """Stands for kagglehub: hands out ``folder``, or fails as told."""

    def __init__(self, cache: Path):
        self.cache = cache
        self.asked: list[str] = []
        self.errors: dict[str, Exception] = {}

    @property
    def folder(self) -> Path:
        return self.cache / "datasets/ann/pets/versions/3"

    def dataset_download(self, handle: str) -> str:
        self.asked.append(handle)
        if handle in self.errors:
            raise self.errors[handle]
        name, _, version = handle.partition("/versions/")
        return str(self.cache / "datasets" / name / "versions" / (version or "3"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    module, config = ModuleType("kagglehub"), ModuleType("kagglehub.config")
    module.dataset_download = hub.dataset_download  # type: ignore[attr-defined]
    config.get_cache_folder = lambda: str(hub.cache)  # type: ignore[attr-defined]
    module.config = config  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    monkeypatch.setitem(sys.modules, "kagglehub.config", config)
    hub.folder.mkdir(parents=True)
    return hub


def refusal(source: str) -> str:
    with pytest.raises(PolytagError) as caught:
        read(source)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


TABLE = "image,labels\na.jpg,dog\nb.jpg,cat\n"


@pytest.mark.parametrize("where", [".", "pets", "pets/deep"])
@pytest.mark.parametrize("photos_in", ["images", "pets/images"])
def test_the_only_table_is_read(hub: Hub, photos: Photos, where: str, photos_in: str) -> None:
    photos(hub.folder / photos_in, ["a.jpg", "b.jpg"])
    (hub.folder / where).mkdir(parents=True, exist_ok=True)
    (hub.folder / where / "train.csv").write_text(TABLE)
    (hub.folder / "class_names.csv").write_text("id,name\n0,dog\n1,cat\n")
    (hub.folder / "notes.json").write_text("{}")
    data = read("kaggle:ann/pets")
    assert hub.asked == ["ann/pets"]
    assert data.names == ["a.jpg", "b.jpg"]
    assert data.notes[1] == f"ann/pets from Kaggle, in {hub.folder}"


def test_several_tables_are_named_and_one_can_be_chosen(hub: Hub, photos: Photos) -> None:
    photos(hub.folder / "multi/images", ["a.jpg", "b.jpg"])
    for name in ("one.csv", "two.csv"):
        (hub.folder / "multi" / name).write_text(TABLE)
    message = refusal("kaggle:ann/pets")
    assert message.endswith("as in kaggle:ann/pets/multi/one.csv (there are multi/one.csv, multi/two.csv)")
    assert len(read("kaggle:ann/pets/multi/two.csv")) == 2
    assert len(read(Path("kaggle:ann/pets/multi/two.csv"))) == 2
    assert "has no 'three.csv'; it contains multi/" in refusal("kaggle:ann/pets/three.csv")
    assert "has no '../../3/multi/../../" in refusal("kaggle:ann/pets/../../3/multi/../../..")


def test_folders_are_recognised_wherever_they_lie(hub: Hub, photos: Photos) -> None:
    photos(hub.folder / "Pets/train/dog", ["a.jpg"])
    photos(hub.folder / "Pets/train/cat", ["b.jpg"])
    assert read("kaggle:ann/pets").labels == ("cat", "dog")
    photos(hub.folder / "VOC/JPEGImages", ["c.jpg"])
    (hub.folder / "VOC/Annotations").mkdir()
    (hub.folder / "VOC/Annotations/c.xml").write_text(
        "<annotation><filename>c.jpg</filename><object><name>dog</name></object></annotation>"
    )
    assert "(there are Pets, VOC)" in refusal("kaggle:ann/pets")
    assert read("kaggle:ann/pets/VOC").names == ["c.jpg"]


def test_nothing_that_can_be_read(hub: Hub) -> None:
    (hub.folder / "model.bin").write_bytes(b"x")
    assert "is not in a format that polytag reads; it contains model.bin" in refusal("kaggle:ann/pets")


@pytest.mark.parametrize("source", ["kaggle:", "kaggle:ann", "kaggle:/pets", "kaggle:ann/"])
def test_a_name_that_is_none(source: str) -> None:
    assert "expected kaggle:OWNER/NAME or kaggle:OWNER/NAME/FILE" in refusal(source)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert refusal("kaggle:ann/pets") == "reading from Kaggle needs kagglehub: pip install 'polytag[kaggle]'"


def test_without_network(hub: Hub, photos: Photos) -> None:
    offline = requests.exceptions.ConnectionError("name resolution failed")
    hub.errors = {"ann/pets": offline, "ann/other": offline}
    assert "Kaggle cannot be reached and ann/other was not downloaded before" in refusal("kaggle:ann/other")
    # Version 12 was being downloaded when the network went.
    hub.errors["ann/pets/versions/12"] = offline
    (hub.folder.parent / "12").mkdir()
    (hub.folder.parent / "2").mkdir()
    (hub.folder / "labels.csv").write_text(TABLE)
    photos(hub.folder, ["a.jpg", "b.jpg"])
    data = read("kaggle:ann/pets")
    assert len(data) == 2
    assert f"Kaggle cannot be reached: using the earlier download of ann/pets in {hub.folder}" in data.notes
    assert hub.asked == ["ann/other", "ann/pets", "ann/pets/versions/12", "ann/pets/versions/3"]


def test_what_kaggle_refuses(hub: Hub) -> None:
    response = requests.Response()
    response.status_code = 404
    hub.errors["ann/pets"] = requests.exceptions.HTTPError("404\nnot found", response=response)
    assert "Kaggle refuses to provide ann/pets (404): check the name" in refusal("kaggle:ann/pets")
    hub.errors["ann/pets"] = ValueError("odd\nhandle")
    assert refusal("kaggle:ann/pets") == "kagglehub cannot download ann/pets: odd handle"


def test_the_real_kagglehub_is_asked_as_it_wants_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in kagglehub's own cache is read without network."""
    kagglehub = pytest.importorskip("kagglehub")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    versions = tmp_path / "datasets/ann/pets/versions"
    (versions / "7").mkdir(parents=True)
    (versions / "7" / "labels.csv").write_text(TABLE)
    download = kagglehub.dataset_download

    def offline(handle: str) -> str:
        if "versions" not in handle:
            raise requests.exceptions.ConnectionError
        return download(handle)

    monkeypatch.setattr(kagglehub, "dataset_download", offline)
    (tmp_path / "datasets/ann/pets/7.complete").touch()
    assert fetch("kaggle:ann/pets")[0] == versions / "7"
    with pytest.raises(DataError, match="was not downloaded before"):
        fetch("kaggle:ann/other")

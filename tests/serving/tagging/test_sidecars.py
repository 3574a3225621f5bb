"""Sidecars of keywords."""

from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from polytag.serving.tagging.sidecars import NOT_IN_XML, write_sidecar

ITEM = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"


def keywords(sidecar: Path) -> list[str | None]:
    return [item.text for item in ElementTree.parse(sidecar).iter(ITEM)]


def test_a_sidecar_holds_the_labels_and_the_photo_stays(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"photo")
    assert write_sidecar(str(photo), ["boat", "R&D <x>"])
    assert keywords(tmp_path / "a.jpg.xmp") == ["boat", "R&D <x>"]
    assert write_sidecar(str(photo), [])
    assert keywords(tmp_path / "a.jpg.xmp") == [], "an earlier sidecar is brought up to date"
    assert photo.read_bytes() == b"photo"
    assert {path.name for path in tmp_path.iterdir()} == {"a.jpg", "a.jpg.xmp"}


def test_no_labels_no_sidecar(tmp_path: Path) -> None:
    assert write_sidecar(str(tmp_path / "a.jpg"), [])
    assert not list(tmp_path.iterdir())


def test_another_programs_sidecar_is_left_alone(tmp_path: Path) -> None:
    sidecar = tmp_path / "a.jpg.xmp"
    sidecar.write_text('<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0"/>')
    before = sidecar.read_bytes()
    assert not write_sidecar(str(tmp_path / "a.jpg"), ["boat"])
    assert sidecar.read_bytes() == before


@given(st.text(min_size=1))
def test_any_label_gives_xml(tmp_path_factory, label: str) -> None:
    photo = tmp_path_factory.mktemp("any") / "a.jpg"
    write_sidecar(str(photo), [label])
    (read,) = keywords(Path(f"{photo}.xmp"))
    # XML's own rule: a line's end is one character, whichever it was.
    assert read == NOT_IN_XML.sub("\ufffd", label).replace("\r\n", "\n").replace("\r", "\n")

"""Keywords in sidecars: what is added and removed, and that all else stays byte for byte."""

import codecs
import difflib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from polytag.errors import DataError
from polytag.photos.xmp import embedded_keywords, xmp_keywords
from polytag.serving.tagging.sidecars import SidecarChange, plan_sidecar, write_sidecar
from polytag.serving.tagging.xmp_edit import DIGIKAM, EMPTY, LIGHTROOM, MICROSOFT, NOT_IN_XML, _Editor, edit_keywords
from polytag.serving.tagging.xmp_tree import Packet

LABELS = ("boat", "sea", "animals/cat", "R&D <x>")

LIGHTROOM_FILE = """<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000 1.000000        ">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
   xmp:Rating="4"
   crs:Exposure2012="+0.35">
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Family</rdf:li>
     <rdf:li>sea</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>People|Family</rdf:li>
     <rdf:li>sea</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
   <crs:ToneCurvePV2012>
    <rdf:Seq>
     <rdf:li>0, 0</rdf:li>
     <rdf:li>255, 255</rdf:li>
    </rdf:Seq>
   </crs:ToneCurvePV2012>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""

DIGIKAM_FILE = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
   digiKam:ColorLabel="0">
   <digiKam:TagsList>
    <rdf:Seq>
     <rdf:li>People/Family</rdf:li>
    </rdf:Seq>
   </digiKam:TagsList>
   <MicrosoftPhoto:LastKeywordXMP>
    <rdf:Bag>
     <rdf:li>People/Family</rdf:li>
    </rdf:Bag>
   </MicrosoftPhoto:LastKeywordXMP>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Family</rdf:li>
    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""

DARKTABLE_FILE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:darktable="http://darktable.sf.net/"
   darktable:xmp_version="5"
   darktable:auto_presets_applied="1">
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:params="gz08eJzjYGDgAGIJBgiwB+IHAAqzAg4="/>
    </rdf:Seq>
   </darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""

EXIFTOOL_FILE = """<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x='adobe:ns:meta/' x:xmptk='Image::ExifTool 12.76'>
<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>

 <rdf:Description rdf:about=''
  xmlns:exif='http://ns.adobe.com/exif/1.0/'>
  <exif:ISOSpeedRatings>
   <rdf:Seq>
    <rdf:li>100</rdf:li>
   </rdf:Seq>
  </exif:ISOSpeedRatings>
 </rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end='w'?>"""

FORMS = {"Lightroom": LIGHTROOM_FILE, "digiKam": DIGIKAM_FILE, "darktable": DARKTABLE_FILE, "ExifTool": EXIFTOOL_FILE}

ENCODINGS = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with BOM": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16": lambda text: codecs.BOM_UTF16_LE + text.replace("UTF-8", "UTF-16").encode("utf-16-le"),
    "UTF-16 BE": lambda text: codecs.BOM_UTF16_BE + text.replace("UTF-8", "UTF-16").encode("utf-16-be"),
    "CR LF": lambda text: text.replace("\n", "\r\n").encode(),
}


def difference(before: str, after: str) -> list[str]:
    """Lines removed and added."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line[0] + line[2:].strip() for line in lines if line[0] in "+-"]


def values(content: bytes, name: tuple[str, str]) -> list[str]:
    return _Editor(Packet(content)).keywords(name)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (
            "Lightroom",
            [
                "-<rdf:li>sea</rdf:li>", "+<rdf:li>boat</rdf:li>", "+<rdf:li>animals/cat</rdf:li>",
                "-<rdf:li>sea</rdf:li>", "+<rdf:li>boat</rdf:li>", "+<rdf:li>animals|cat</rdf:li>",
            ],
        ),
        (
            "digiKam",
            [
                "+<rdf:li>boat</rdf:li>", "+<rdf:li>animals/cat</rdf:li>",
                "+<rdf:li>boat</rdf:li>", "+<rdf:li>animals/cat</rdf:li>",
                "+<rdf:li>boat</rdf:li>", "+<rdf:li>animals/cat</rdf:li>",
                '+<lr:hierarchicalSubject xmlns:lr="http://ns.adobe.com/lightroom/1.0/">', "+<rdf:Bag>",
                "+<rdf:li>boat</rdf:li>", "+<rdf:li>animals|cat</rdf:li>",
                "+</rdf:Bag>", "+</lr:hierarchicalSubject>",
            ],
        ),
        *(
            (
                program,
                [
                    '+<dc:subject xmlns:dc="http://purl.org/dc/elements/1.1/">', "+<rdf:Bag>",
                    "+<rdf:li>boat</rdf:li>", "+<rdf:li>animals/cat</rdf:li>", "+</rdf:Bag>", "+</dc:subject>",
                    '+<lr:hierarchicalSubject xmlns:lr="http://ns.adobe.com/lightroom/1.0/">', "+<rdf:Bag>",
                    "+<rdf:li>boat</rdf:li>", "+<rdf:li>animals|cat</rdf:li>",
                    "+</rdf:Bag>", "+</lr:hierarchicalSubject>",
                ],
            )
            for program in ("darktable", "ExifTool")
        ),
    ],
)  # fmt: skip
def test_files_of_other_programs_keep_everything_else(program: str, expected: list[str]) -> None:
    before = FORMS[program]
    after, added, removed = edit_keywords(before.encode(), ["boat", "animals/cat"], LABELS)
    assert difference(before, after.decode()) == expected
    assert added == ["boat", "animals/cat"] and removed == (["sea"] if program == "Lightroom" else [])
    family = ["Family"] if program in ("Lightroom", "digiKam") else []
    assert xmp_keywords(after) == [*family, "boat", "animals/cat"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("program", FORMS)
def test_adding_and_removing_gives_the_same_bytes_in_every_encoding(program: str, encoding: str) -> None:
    before = ENCODINGS[encoding](FORMS[program].replace("     <rdf:li>sea</rdf:li>\n", ""))
    after, *_ = edit_keywords(before, ["boat", "R&D <x>", "animals/cat"], LABELS)
    assert {"boat", "R&D <x>", "animals/cat"} <= set(xmp_keywords(after))
    assert edit_keywords(after, ["animals/cat", "boat", "R&D <x>"], LABELS)[0] == after, "nothing to do"
    assert edit_keywords(after, [], LABELS)[0] == before


def test_paths_go_where_paths_are() -> None:
    after, *_ = edit_keywords(DIGIKAM_FILE.encode(), ["boat", "animals/cat"], LABELS)
    assert values(after, DIGIKAM) == values(after, MICROSOFT) == ["People/Family", "boat", "animals/cat"]
    assert values(after, LIGHTROOM) == ["boat", "animals|cat"]
    plain, *_ = edit_keywords(DARKTABLE_FILE.encode(), ["boat"], LABELS)
    assert b"hierarchicalSubject" not in plain and b"TagsList" not in plain


DESCRIPTION = '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{}</rdf:RDF>'
DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'


@pytest.mark.parametrize(
    "form",
    [
        DESCRIPTION.format(f'<rdf:Description {DC} rdf:about="" dc:subject="Family" dc:format="image/jpeg"/>'),
        DESCRIPTION.format(f"<rdf:Description {DC}><dc:subject>Family</dc:subject></rdf:Description>"),
        DESCRIPTION.format(
            f"<rdf:Description {DC}><dc:subject><rdf:Seq><rdf:li>Family</rdf:li></rdf:Seq></dc:subject>"
            "</rdf:Description>"
        ),
        DESCRIPTION.format(
            f"<rdf:Description/>\n<rdf:Description {DC}>\n<dc:subject><rdf:Bag><rdf:li xml:lang='x'>\nFamily </rdf:li>"
            "</rdf:Bag></dc:subject></rdf:Description>"
        ),
        DESCRIPTION.format(
            '<rdf:Description xmlns:dc="urn:other" xmlns:d="http://purl.org/dc/elements/1.1/" dc:subject="mine">'
            "<d:subject><rdf:Bag><rdf:li>Family</rdf:li></rdf:Bag></d:subject></rdf:Description>"
        ),
        DESCRIPTION.replace("rdf:", "").replace("xmlns:rdf", "xmlns").format(
            f'<Description {DC} about=""><dc:subject><Bag><li>Family</li></Bag></dc:subject></Description>'
        ).replace("xmlns:=", "xmlns="),
    ],
)  # fmt: skip
def test_every_form_of_a_property_is_merged(form: str) -> None:
    after, added, _ = edit_keywords(form.encode(), ["boat"], LABELS)
    assert added == ["boat"] and xmp_keywords(after) == ["Family", "boat"]
    assert xmp_keywords(edit_keywords(after, [], LABELS)[0]) == ["Family"]
    for word in ("image/jpeg", "mine"):
        assert (word in form) == (word in after.decode())


@pytest.mark.parametrize(
    "form",
    [
        '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0"/>',
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>',
        DESCRIPTION.format(""),
        DESCRIPTION.format("<rdf:Description/>"),
        DESCRIPTION.format(f"<rdf:Description {DC}><dc:subject/></rdf:Description>"),
        DESCRIPTION.format(f"<rdf:Description {DC}><dc:subject><rdf:Bag/></dc:subject></rdf:Description>"),
        DESCRIPTION.format("<rdf:Description/>") + "\0\0  \n",
    ],
)
def test_empty_packets_are_filled(form: str) -> None:
    after, added, _ = edit_keywords(form.encode(), ["boat", "animals/cat"], LABELS)
    assert added == xmp_keywords(after) == ["boat", "animals/cat"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"text", LIGHTROOM_FILE.encode()[:-40], b"<html/>", LIGHTROOM_FILE.replace("Family", "Fam&ily").encode(),
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + DESCRIPTION.format("").encode(), LIGHTROOM_FILE.encode() + b"\xff",
        b"<a:b/>", b'<?xml version="1.0" encoding="nonsense"?><a/>',
    ],
)  # fmt: skip
def test_a_damaged_sidecar_is_an_error_and_stays(tmp_path: Path, content: bytes) -> None:
    sidecar = tmp_path / "a.jpg.xmp"
    sidecar.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg\.xmp is damaged \(.*\): repair or delete it"):
        plan_sidecar(str(tmp_path / "a.jpg"), ["boat"], LABELS)
    assert sidecar.read_bytes() == content


def tag(photo: Path, labels: list[str]) -> SidecarChange:
    change = plan_sidecar(str(photo), labels, LABELS)
    write_sidecar(change)
    return change


def test_metadata_of_one_photo_never_ends_a_run(tmp_path: Path) -> None:
    deep = "<a>" * 5000 + "</a>" * 5000
    (tmp_path / "deep.jpg.xmp").write_text(f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{deep}</x:xmpmeta>')
    with pytest.raises(DataError, match="is damaged"):
        plan_sidecar(str(tmp_path / "deep.jpg"), ["boat"], LABELS)
    information = PngImagePlugin.PngInfo()
    information.add_itxt("XML:com.adobe.xmp", EMPTY.decode(), zip=True)
    photo = tmp_path / "damaged.png"
    Image.new("RGB", (8, 8)).save(photo, pnginfo=information)
    content = bytearray(photo.read_bytes())
    start = content.index(b"XML:com.adobe.xmp") + 22
    content[start : start + 10] = bytes(10)
    photo.write_bytes(content)
    assert embedded_keywords(photo) is None
    assert plan_sidecar(str(photo), ["boat"], LABELS).added == ("boat",)


def test_a_new_sidecar_holds_the_labels_and_the_photo_stays(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"photo")
    assert str(tag(photo, ["boat", "R&D <x>"])) == f"{photo}.xmp: +boat, +R&D <x>"
    assert xmp_keywords((tmp_path / "a.jpg.xmp").read_bytes()) == ["boat", "R&D <x>"]
    assert tag(photo, ["sea", "boat"]).removed == ("R&D <x>",)
    assert xmp_keywords((tmp_path / "a.jpg.xmp").read_bytes()) == ["boat", "sea"]
    tag(photo, [])
    assert xmp_keywords((tmp_path / "a.jpg.xmp").read_bytes()) == []
    assert photo.read_bytes() == b"photo"
    assert {path.name for path in tmp_path.iterdir()} == {"a.jpg", "a.jpg.xmp"}


def test_a_new_sidecar_keeps_the_keywords_inside_the_photo(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(photo, xmp=edit_keywords(EMPTY, ["holiday", "sea"], ["holiday", "sea"])[0])
    assert embedded_keywords(photo) == ["holiday", "sea"]
    change = tag(photo, ["boat"])
    assert (change.added, change.removed) == (("boat",), ("sea",))  # polytag manages "sea" and did not assign it.
    assert xmp_keywords((tmp_path / "a.jpg.xmp").read_bytes()) == ["holiday", "boat"]


def test_no_labels_no_sidecar(tmp_path: Path) -> None:
    assert tag(tmp_path / "a.jpg", []).content is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.xmp", "a.XMP", "a.jpg.xmp", "a.jpg.XMP"])
def test_an_existing_sidecar_is_used_by_either_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / name).write_text(LIGHTROOM_FILE)
    change = tag(tmp_path / "a.jpg", ["boat"])
    assert (change.path.name, change.ignored) == (name, None)
    assert xmp_keywords((tmp_path / name).read_bytes()) == ["Family", "boat"]
    assert len(list(tmp_path.iterdir())) == 2


def test_of_two_sidecars_the_more_specific_is_used(tmp_path: Path) -> None:
    for name in ("a.xmp", "a.jpg.xmp"):
        (tmp_path / name).write_text(LIGHTROOM_FILE)
    change = tag(tmp_path / "a.jpg", ["boat"])
    assert (change.path.name, change.ignored) == ("a.jpg.xmp", tmp_path / "a.xmp")
    assert (tmp_path / "a.xmp").read_text() == LIGHTROOM_FILE


def test_a_sidecar_that_may_belong_to_another_photo_is_not_used(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.nef"):
        (tmp_path / name).touch()
    (tmp_path / "a.xmp").write_text(LIGHTROOM_FILE)  # the raw file's
    assert tag(tmp_path / "a.jpg", ["boat"]).path.name == "a.jpg.xmp"
    assert (tmp_path / "a.xmp").read_text() == LIGHTROOM_FILE


def test_what_says_it_already_is_not_written_again(tmp_path: Path) -> None:
    sidecar = tmp_path / "a.jpg.xmp"
    sidecar.write_text(LIGHTROOM_FILE)
    os.utime(sidecar, (1, 1))
    assert tag(tmp_path / "a.jpg", ["sea"]).content is None
    assert sidecar.stat().st_mtime == 1


@given(st.text(min_size=1))
def test_any_label_gives_xml(label: str) -> None:
    after, *_ = edit_keywords(LIGHTROOM_FILE.encode(), [label], [label])
    shown = " ".join(NOT_IN_XML.sub("\ufffd", label).split())
    assert not shown or shown in xmp_keywords(after)

"""Keywords of photos, in sidecars of several programs or inside the photos, as labels."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from labelled import labels_of, put, refusal
from polytag import read
from polytag.photos.xmp import embedded_keywords, xmp_keywords

Photos = Callable[..., list[str]]
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
SPACES = (
    'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:lr="http://ns.adobe.com/lightroom/1.0/" '
    'xmlns:digiKam="http://www.digikam.org/ns/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
)


def packet(*keywords: str, inside: str = "", bag: str = "Bag") -> str:
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    subject = f"<dc:subject><rdf:{bag}>{items}</rdf:{bag}></dc:subject>" if keywords else ""
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}><rdf:Description rdf:about="" {SPACES} xmp:Rating="3">'
        f"{subject}{inside}</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def paths(name: str, *values: str) -> str:
    return f"<{name}><rdf:Seq>{''.join(f'<rdf:li>{value}</rdf:li>' for value in values)}</rdf:Seq></{name}>"


PACKETS = {
    "digiKam": (packet("beach", "été", inside=paths("digiKam:TagsList", "Places/beach")), ["beach", "été"]),
    "darktable": (
        packet("sun  set", bag="Seq", inside=paths("lr:hierarchicalSubject", "darktable|format|jpg")),
        ["sun set"],
    ),
    "Lightroom": (
        f'<?xpacket begin="\ufeff" id="W5"?>{packet("a", "b", "a")}{" " * 99}<?xpacket end="w"?>',
        ["a", "b"],
    ),
    "exiftool": (f"<?xpacket begin='' id='W5'?>\n{packet('a &amp; b')}\n<?xpacket end='w'?>", ["a & b"]),
    "only paths": (packet(inside=paths("lr:hierarchicalSubject", "animals|heron", "darktable|x")), ["animals/heron"]),
    "attribute": (packet().replace("xmp:Rating", 'dc:subject="dog" xmp:Rating'), ["dog"]),
    "none": (packet(), []),
    "plain RDF": (
        f"<rdf:RDF {RDF}><rdf:Description {SPACES}><dc:subject>dog</dc:subject></rdf:Description></rdf:RDF>",
        ["dog"],
    ),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("program", PACKETS)
def test_packets(program: str, encoding: str) -> None:
    text, expected = PACKETS[program]
    assert xmp_keywords(text.encode(encoding)) == expected


@pytest.mark.parametrize("text", ["", "<x", "dog", "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", "<a>&nbsp;</a>"])
def test_packets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        xmp_keywords(text.encode())


def test_an_album(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["2019/a.jpg", "2019/b.JPG", "2020/c.jpg", "2020/d.jpg", "2020/e.jpg"])
    put(tmp_path / "2019/a.jpg.xmp", packet("beach", "family"))
    put(tmp_path / "2019/b.xmp", packet("family"))
    put(tmp_path / "2020/c.jpg.XMP", packet())
    put(tmp_path / "2020/e.xmp", packet("wrong"))
    put(tmp_path / "2020/e.jpg.xmp", packet("beach"))
    put(tmp_path / "2020/notes.txt", "rain")
    for options in ({}, {"label_column": "xmp"}):
        data = read(tmp_path, **options)
        assert labels_of(data) == {
            "2019/a.jpg": "beach family",
            "2019/b.JPG": "family",
            "2020/c.jpg": "",
            "2020/e.jpg": "beach",
        }
        assert dict(data.left_out) == {"2020/d.jpg": "not annotated"}
        assert "1 file left out: 1 text file" in data.notes
    put(tmp_path / "2020/d.jpg.xmp", "<x")
    assert "d.jpg.xmp is not valid XMP" in refusal(tmp_path)


def iptc(*words: bytes, utf8: bool = True) -> bytes:
    sets = (b"\x1c\x01\x5a\x00\x03\x1b%G" if utf8 else b"") + b"".join(
        b"\x1c\x02\x19" + len(word).to_bytes(2, "big") + word for word in words
    )
    return b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(sets).to_bytes(4, "big") + sets + b"\0" * (len(sets) % 2)


def with_segment(path: str, marker: int, body: bytes) -> str:
    content = Path(path).read_bytes()
    segment = b"\xff" + bytes([marker]) + (len(body) + 2).to_bytes(2, "big") + body
    Path(path).write_bytes(content[:2] + segment + content[2:])
    return path


def test_keywords_inside_photos(tmp_path: Path, photos: Photos) -> None:
    a, b, c, d, e = photos(tmp_path / "DCIM", ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"])
    with_segment(a, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet("beach", "dog").encode())
    with_segment(b, 0xED, iptc("été".encode(), b"dog"))
    with_segment(c, 0xED, iptc("été".encode("latin-1"), utf8=False))
    with_segment(d, 0xED, iptc(b"dog"))
    image = Image.new("RGB", (20, 20), "red")
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet("png").encode().decode(), zip=True)
    image.save(tmp_path / "DCIM/f.png", pnginfo=info)
    image.save(tmp_path / "DCIM/g.webp", xmp=packet("webp").encode())
    data = read(tmp_path)
    assert {name[-5]: labels for name, labels in labels_of(data).items() if name.endswith("jpg")} == {
        "a": "beach dog",
        "b": "dog été",
        "c": "été",
        "d": "dog",
    }
    assert {"DCIM/f.png": "png", "DCIM/g.webp": "webp"}.items() <= labels_of(data).items()
    assert list(data.left_out) == ["DCIM/e.jpg"]
    assert embedded_keywords(e) is None and embedded_keywords(tmp_path / "none.jpg") is None


def test_folders_or_keywords(tmp_path: Path, photos: Photos) -> None:
    for path in photos(tmp_path, ["dog/a.jpg", "cat/b.jpg"]):
        with_segment(path, 0xED, iptc(b"beach"))
    message = refusal(tmp_path)
    assert "--label-column xmp" in message and "--label-column folder" in message
    assert read(tmp_path, label_column="xmp").labels == ("beach",)
    assert read(tmp_path, label_column="folder").labels == ("cat", "dog")


def test_years_are_no_labels(tmp_path: Path, photos: Photos) -> None:
    photos(tmp_path, ["2019/a.jpg", "2020-05 Rome/b.jpg"])
    assert "no keywords" in refusal(tmp_path)

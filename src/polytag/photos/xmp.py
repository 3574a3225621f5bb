"""Read the keywords of photos: IPTC, and XMP packets in sidecar files or in the photo itself."""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image, IptcImagePlugin

DC = "{http://purl.org/dc/elements/1.1/}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
SUBJECT = f"{DC}subject"
HIERARCHICAL = {
    "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject": "|",
    "{http://www.digikam.org/ns/1.0/}TagsList": "/",
    "{http://ns.microsoft.com/photo/1.0/}LastKeywordXMP": "/",
    "{http://ns.microsoft.com/photo/1.0}LastKeywordXMP": "/",
}
"""Properties that hold hierarchical keywords, with the separator between levels."""

PROGRAMS_OWN = ("darktable", "_Digikam_root_tag_", "_Digikam_Internal_Tags_")
"""Top levels of hierarchies that programs write for their own use."""

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp\0"


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, *_: Any) -> None:
        # A DOCTYPE declares entities. Entities that expand a thousandfold or read other files are a known attack.
        raise ValueError("it declares a DOCTYPE")


def parse_xml(content: bytes) -> ElementTree.Element:
    """Parse XML that declares no entities.

    Raises:
        ValueError: the XML is not well-formed or has a DOCTYPE. The message contains only the reason.
    """
    # Packets are padded. In UTF-16, a zero byte is half a character.
    content = content if b"\0" in content[:4] else content.strip(b"\0 \t\r\n")
    try:
        return ElementTree.fromstring(content, ElementTree.XMLParser(target=_Builder()))
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(str(error)) from None


def xmp_keywords(packet: bytes) -> list[str]:
    """Return the keywords in an XMP packet.

    These are the keywords in ``dc:subject``. If that property is missing or empty, they are the hierarchical keywords,
    written as "a/b/c". Programs that organize keywords in a hierarchy usually write them to ``dc:subject`` as well.

    Args:
        packet: XML, as in a sidecar file, in any encoding that the XML declares.

    Returns:
        The keywords without repetitions, in order.

    Raises:
        ValueError: the packet is not valid XML.
    """
    root = parse_xml(packet)
    flat = dict.fromkeys(filter(None, (" ".join(text.split()) for text in _values(root, SUBJECT))))
    if flat:
        return list(flat)
    paths: dict[str, None] = {}
    for name, mark in HIERARCHICAL.items():
        for text in _values(root, name):
            steps = [" ".join(step.split()) for step in text.split(mark)]
            if steps[0] not in PROGRAMS_OWN and any(steps):
                paths["/".join(filter(None, steps))] = None
    return list(paths)


def _values(root: ElementTree.Element, name: str) -> Iterator[str]:
    """Yield the values of a property, whether it is written as an attribute, as text or as a list of any kind."""
    for thing in root.iter():
        if name in thing.attrib:
            yield thing.attrib[name]
        if thing.tag == name:
            items = list(thing.iter(f"{RDF}li"))
            yield from (item.text or "" for item in items)
            if not items and thing.text:
                yield thing.text


def sidecar(photo: str | os.PathLike[str]) -> Path | None:
    """Return the sidecar file of a photo: ``photo.jpg.xmp``, else ``photo.xmp``, with the extension in either case."""
    path = Path(photo)
    candidates = (Path(f"{path}{ending}") for ending in (".xmp", ".XMP"))
    return next(
        (one for one in (*candidates, path.with_suffix(".xmp"), path.with_suffix(".XMP")) if one.is_file()), None
    )


def embedded_keywords(photo: str | os.PathLike[str]) -> list[str] | None:
    """Return the keywords inside a photo, from XMP or else from IPTC.

    Returns:
        The keywords, or ``None`` if the photo has neither XMP nor IPTC data or cannot be opened.
    """
    try:
        packet, iptc = _metadata(Path(photo))
    except (OSError, ValueError, SyntaxError, KeyError, IndexError, TypeError, AttributeError, zlib.error):
        # If the photo itself is unusable, that is reported when it is decoded.
        return None
    if packet is not None:
        try:
            found = xmp_keywords(packet)
        except ValueError:
            found = []
        if found or iptc is None:
            return found
    return iptc


def _metadata(photo: Path) -> tuple[bytes | None, list[str] | None]:
    """Return the XMP packet and the IPTC keywords of a photo without decoding its pixels."""
    with photo.open("rb") as file:
        if file.read(8) == PNG_HEAD:
            return _png_packet(file), None
    with Image.open(photo) as image:
        packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
        tags = getattr(image, "tag_v2", None)
        if packet is None and tags is not None:
            packet = tags.get(700)
        told = IptcImagePlugin.getiptcinfo(image)
    if isinstance(packet, str):
        packet = packet.encode()
    return (bytes(packet) if packet else None), _iptc_keywords(told)


def _iptc_keywords(told: Any) -> list[str] | None:
    if not told:
        return None
    words = told.get((2, 25), [])
    unicode = told.get((1, 90)) == b"\x1b%G"
    found = []
    for word in words if isinstance(words, list) else [words]:
        try:
            text = word.decode("utf-8")
        except UnicodeDecodeError:
            text = word.decode("utf-8" if unicode else "cp1252", errors="replace")
        found.append(" ".join(text.replace("\0", " ").split()))
    return list(dict.fromkeys(filter(None, found)))


def _png_packet(file: Any) -> bytes | None:
    """Return the XMP packet of a PNG file. Programs write it before or after the pixel data."""
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind != b"iTXt":
            file.seek(length + 4, os.SEEK_CUR)
            continue
        content = file.read(length)
        file.seek(4, os.SEEK_CUR)
        if content.startswith(XMP_KEYWORD):
            compressed = content[len(XMP_KEYWORD)] == 1
            text = content[len(XMP_KEYWORD) + 2 :].split(b"\0", 2)[-1]
            return zlib.decompressobj().decompress(text, 50_000_000) if compressed else text
    return None

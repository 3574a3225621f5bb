"""Add and remove keywords in XMP, and leave every other byte unchanged."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from polytag.serving.tagging.xmp_tree import RDF, Name, Node, Packet

DC_SUBJECT = ("http://purl.org/dc/elements/1.1/", "subject")
LIGHTROOM = ("http://ns.adobe.com/lightroom/1.0/", "hierarchicalSubject")
DIGIKAM = ("http://www.digikam.org/ns/1.0/", "TagsList")
MICROSOFT = ("http://ns.microsoft.com/photo/1.0/", "LastKeywordXMP")
PREFIXES = {DC_SUBJECT: "dc", LIGHTROOM: "lr", DIGIKAM: "digiKam", MICROSOFT: "MicrosoftPhoto"}

PATH_MARKS = {LIGHTROOM: "|", DIGIKAM: "/", MICROSOFT: "/"}
"""Properties that store keywords as hierarchical paths, and the separator between the levels of a path."""

LISTS = [(RDF, "Bag"), (RDF, "Seq"), (RDF, "Alt")]

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

EMPTY = b"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="polytag">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="">
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""


def steps_of(label: str) -> list[str]:
    """Split a label into the levels of a hierarchy. "animals/cat" and "animals|cat" both become ["animals", "cat"]."""
    return [step for one in re.split(r"[/|]", label) if (step := " ".join(one.split()))] or [label]


def edit_keywords(
    content: bytes, assigned: Sequence[str], managed: Sequence[str]
) -> tuple[bytes, list[str], list[str]]:
    """Add the assigned labels to the keywords of an XMP packet, and remove the other managed labels.

    The labels are written to ``dc:subject``. They are also written to each property with hierarchical keywords that the
    packet already has. Lightroom's property is added if an assigned label has several levels.

    Args:
        content: the packet, or `EMPTY`.
        assigned: labels that must be keywords afterwards.
        managed: all labels that may be added or removed. Other keywords are preserved.

    Returns:
        The new packet, the added labels and the removed labels.

    Raises:
        ValueError: the packet is damaged. The message contains only the reason.
    """
    assigned, managed = ([label for label in labels if _key(label)] for labels in (assigned, managed))
    packet = Packet(content)
    editor = _Editor(packet)
    added, removed = editor.assign(DC_SUBJECT, {label: label for label in managed}, assigned)
    for name, mark in PATH_MARKS.items():
        new = name == LIGHTROOM and any(len(steps_of(label)) > 1 for label in assigned)
        if new or editor.has(name):
            editor.assign(name, {label: mark.join(steps_of(label)) for label in managed}, assigned)
    result = packet.edited(editor.edits()) if editor.changed else content
    wanted, known = {_key(label) for label in assigned}, {_key(label) for label in managed}
    found = _Editor(Packet(result))  # The result is parsed again, so that a wrong edit is never written.
    if {_key(text) for text in found.keywords(DC_SUBJECT)} & known != wanted:
        raise ValueError("the structure of the keywords is not supported")
    return result, added, removed


@dataclass
class _Property:
    """A property in a packet, written as an element or as an attribute of its description."""

    description: Node
    element: Node | None
    attribute: str = ""

    @property
    def container(self) -> Node | None:
        """The Bag, Seq or Alt element of the property."""
        children = self.element.children if self.element else []
        return next((child for child in children if child.name in LISTS), None)

    @property
    def items(self) -> list[Node]:
        return [item for item in self.container.children if item.name == (RDF, "li")] if self.container else []

    @property
    def keywords(self) -> list[str]:
        if self.element is None:
            return [self.description.attributes[self.attribute]]
        texts = [item.text for item in self.items] if self.container else [self.element.text]
        return [text for text in texts if text]


class _Editor:
    def __init__(self, packet: Packet) -> None:
        self.packet = packet
        self.rdf = next((node for node in packet.root.walk() if node.name == (RDF, "RDF")), None)
        if self.rdf is None and packet.root.name[1] not in ("xmpmeta", "xapmeta"):
            raise ValueError("it does not contain XMP")
        self.descriptions = self.rdf.children if self.rdf else []
        self._edits: list[tuple[int, int, bytes]] = []
        self._new: list[tuple[Name, list[str]]] = []

    @property
    def changed(self) -> bool:
        return bool(self._edits or self._new)

    def has(self, name: Name) -> bool:
        return any(True for _ in self._properties(name))

    def keywords(self, name: Name) -> list[str]:
        return [text for one in self._properties(name) for text in one.keywords]

    def assign(self, name: Name, managed: dict[str, str], assigned: Sequence[str]) -> tuple[list[str], list[str]]:
        """Add and remove keywords of one property.

        Args:
            name: name of the property.
            managed: the keyword of each managed label.
            assigned: labels that must be keywords afterwards.

        Returns:
            The added labels and the removed labels.
        """
        here = {_key(text) for text in self.keywords(name)}
        added = [label for label in assigned if _key(managed[label]) not in here]
        kept = {_key(managed[label]) for label in assigned}
        removed = [label for label, text in managed.items() if _key(text) in here - kept]
        gone, new = {_key(managed[label]) for label in removed}, [managed[label] for label in added]
        for one in self._properties(name):
            new = self._change(one, gone, new)
        if new:
            self._new.append((name, new))
        return added, removed

    def edits(self) -> list[tuple[int, int, bytes]]:
        """Return all changes as byte ranges with their replacements."""
        if not self._new:
            return self._edits
        if self.descriptions:
            parent, wrap = self.descriptions[0], []
        elif self.rdf:
            parent, wrap = self.rdf, [("rdf:Description", f' xmlns:rdf="{RDF}" rdf:about=""')]
        else:
            parent = self.packet.root
            wrap = [("rdf:RDF", f' xmlns:rdf="{RDF}"'), ("rdf:Description", ' rdf:about=""')]
        line, unit = self._layout(parent)
        inner = line + unit * len(wrap)
        lines = b"".join(inner + self._property(parent, name, texts, inner, unit) for name, texts in self._new)
        for depth in reversed(range(len(wrap))):
            tag, attributes = wrap[depth]
            here = line + unit * depth
            lines = here + f"<{tag}{attributes}>".encode() + lines + here + f"</{tag}>".encode()
        return [*self._edits, self._appended(parent, lines)]

    def _properties(self, name: Name) -> Iterator[_Property]:
        for description in self.descriptions:
            for attribute in description.attributes:
                prefix, _, local = attribute.rpartition(":")
                if prefix and (description.namespaces.get(prefix), local) == name:
                    yield _Property(description, None, attribute)
            for child in description.children:
                if child.name == name:
                    yield _Property(description, child)

    def _change(self, one: _Property, gone: set[str], new: list[str]) -> list[str]:
        """Remove keywords from a property and add new ones. Return the keywords that could not be added to it."""
        kept = [text for text in one.keywords if _key(text) not in gone]
        if one.container is None or one.element is None:
            # The property contains a single text, not a list. It is removed and then written again as a list.
            if kept == one.keywords and not new:
                return []
            self._remove(one)
            return [*kept, *new]
        if not kept and not new:
            if one.items:
                self._remove(one)
            return []
        for item in one.items:
            if _key(item.text) in gone:
                self._edits.append((item.start - len(self.packet.space_before(item)), item.end, b""))
        if new:
            first = one.items[0] if one.items else None
            line = self.packet.space_before(first) if first else self._layout(one.container)[0]
            li = one.container.qualified(RDF, "li") or "rdf:li"
            lines = b"".join(line + f"<{li}>{_text(text)}</{li}>".encode() for text in new)
            self._edits.append(self._appended(one.container, lines))
        return []

    def _remove(self, one: _Property) -> None:
        node = one.element
        if node is not None:
            self._edits.append((node.start - len(self.packet.space_before(node)), node.end, b""))
            return
        tag = self.packet.start_tag(one.description)
        name = re.escape(one.attribute.encode())
        found = re.search(rb"""\s+""" + name + rb"""\s*=\s*(?:"[^"]*"|'[^']*')""", tag)
        assert found is not None  # The parser has already read this attribute from the tag.
        start = one.description.start
        self._edits.append((start + found.start(), start + found.end(), b""))

    def _property(self, parent: Node, name: Name, texts: Sequence[str], line: bytes, unit: bytes) -> bytes:
        """Return the XML of a property with a list of keywords."""
        tag, declaration = parent.qualified(*name), ""
        if tag is None or ":" not in tag:
            tag, declaration = f"{PREFIXES[name]}:{name[1]}", f' xmlns:{PREFIXES[name]}="{name[0]}"'
        bag, li = (parent.qualified(RDF, local) or f"rdf:{local}" for local in ("Bag", "li"))
        items = b"".join(line + unit * 2 + f"<{li}>{_text(text)}</{li}>".encode() for text in texts)
        bags = f"<{bag}>".encode() + items + line + unit + f"</{bag}>".encode()
        return f"<{tag}{declaration}>".encode() + line + unit + bags + line + f"</{tag}>".encode()

    def _appended(self, parent: Node, lines: bytes) -> tuple[int, int, bytes]:
        """Return the edit that adds lines at the end of an element."""
        tag = self.packet.start_tag(parent)
        if tag.endswith(b"/>"):
            name = re.match(rb"<([^\s/>]+)", tag)
            assert name is not None
            line = self.packet.space_before(parent) or b""
            end = (line if b"\n" in line else b"") + b"</" + name[1] + b">"
            return parent.content - 2, parent.content, b">" + lines + end
        here = parent.children[-1].end if parent.children else parent.content
        return here, here, lines

    def _layout(self, parent: Node) -> tuple[bytes, bytes]:
        """Return the line break with the indentation for children of an element, and the unit of indentation."""
        own = self.packet.space_before(parent)
        if b"\n" not in own and parent is not self.packet.root:
            return b"", b""
        indent = own[own.rfind(b"\n") :] if b"\n" in own else b"\n"
        if own.endswith(b"\r\n" + indent[1:]):
            indent = b"\r" + indent
        outside = next((node for node in self.packet.root.walk() if parent in node.children), None)
        outer = self.packet.space_before(outside) if outside else b""
        unit = indent[len(outer) :] if outer and indent.startswith(outer) else b" "
        unit = unit if unit and not unit.strip(b" \t") else b" "
        return indent + unit, unit


def _key(text: str) -> str:
    """Return a key that is equal for keywords that differ only in Unicode normalization or white space."""
    return " ".join(unicodedata.normalize("NFC", NOT_IN_XML.sub("\ufffd", text)).split())


def _text(label: str) -> str:
    return escape(NOT_IN_XML.sub("\ufffd", label))

"""Parse XMP with byte positions, so that a packet can be edited without changing what other programs wrote."""

import codecs
import re
import xml.parsers.expat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

START_TAG = re.compile(rb"""<(?:[^<>"']|"[^"]*"|'[^']*')*>""")
DECLARATION = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
SPACE = b" \t\r\n"

Name = tuple[str, str]
"""A namespace and a local name."""


@dataclass(eq=False)
class Node:
    """An XML element.

    Attributes:
        name: namespace and local name.
        start: byte offset of the start tag.
        content: byte offset of the content, which begins after the start tag.
        end: byte offset after the end tag.
        attributes: value of each attribute, by qualified name as written.
        namespaces: namespace of each prefix in scope; the prefix "" stands for the default namespace.
        children: child elements.
        pieces: pieces of text directly inside the element.
    """

    name: Name
    start: int
    content: int
    attributes: dict[str, str]
    namespaces: dict[str, str]
    end: int = 0
    children: "list[Node]" = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @cached_property
    def text(self) -> str:
        """All text inside the element, with each run of white space replaced by one space."""
        return " ".join(" ".join([*self.pieces, *(child.text for child in self.children)]).split())

    def qualified(self, namespace: str, local: str) -> str | None:
        """Return a name with its prefix in this scope, or ``None`` if the namespace has no prefix."""
        for prefix, known in self.namespaces.items():
            if known == namespace:
                return f"{prefix}:{local}" if prefix else local
        return None

    def walk(self) -> "Iterator[Node]":
        """Yield this element and all its descendants."""
        yield self
        for child in self.children:
            yield from child.walk()


class Packet:
    """A decoded XMP packet, with its elements and its UTF-8 bytes.

    Args:
        content: bytes of a sidecar file, in any encoding that XML allows.

    Raises:
        ValueError: the content is not well-formed XML, or contains a DOCTYPE declaration.
    """

    def __init__(self, content: bytes) -> None:
        self._bom, self.encoding = _encoding(content)
        try:
            text = content[len(self._bom) :].decode(self.encoding)
        except (UnicodeDecodeError, LookupError) as error:
            raise ValueError(str(error)) from None
        body = text.strip("\0 \t\r\n")
        before = text.index(body)
        self._around = text[:before], text[before + len(body) :]
        self.utf8 = body.encode()
        self.root = _parse(self.utf8)

    def edited(self, edits: list[tuple[int, int, bytes]]) -> bytes:
        """Return the packet in its original encoding, with the given byte ranges replaced.

        Args:
            edits: tuples (start, end, replacement) with byte offsets in `utf8`. The ranges must not overlap.
        """
        result = self.utf8
        for start, end, replacement in sorted(edits, reverse=True):
            result = result[:start] + replacement + result[end:]
        before, after = self._around
        text = f"{before}{result.decode()}{after}"
        return self._bom + text.encode(self.encoding, "xmlcharrefreplace")

    def space_before(self, node: Node) -> bytes:
        """Return the white space directly before an element."""
        before = self.utf8[: node.start]
        return before[len(before.rstrip(SPACE)) :]

    def start_tag(self, node: Node) -> bytes:
        """Return the start tag of an element."""
        return self.utf8[node.start : node.content]


def _encoding(content: bytes) -> tuple[bytes, str]:
    """Detect the byte order mark and the encoding (XML 1.0, appendix F)."""
    for bom, name in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if content.startswith(bom):
            return bom, name
    if content[:2] == b"<\0":
        return b"", "utf-16-le"
    if content[:2] == b"\0<":
        return b"", "utf-16-be"
    declared = DECLARATION.match(content.lstrip(SPACE))
    return b"", declared[1].decode() if declared else "utf-8"


def _parse(content: bytes) -> Node:
    open_nodes: list[Node] = []
    roots: list[Node] = []
    parser = xml.parsers.expat.ParserCreate("utf-8")

    def begin(name: str, attributes: dict[str, str]) -> None:
        tag = START_TAG.match(content, parser.CurrentByteIndex)
        assert tag is not None  # The parser has just read a start tag at this position.
        scope = dict(open_nodes[-1].namespaces) if open_nodes else {"xml": "http://www.w3.org/XML/1998/namespace"}
        for key, value in attributes.items():
            if key == "xmlns" or key.startswith("xmlns:"):
                scope[key[6:]] = value
        prefix, _, local = name.rpartition(":")
        if prefix and prefix not in scope:
            raise ValueError(f"the prefix '{prefix}' is not declared")
        node = Node((scope.get(prefix, ""), local), tag.start(), tag.end(), attributes, scope)
        (open_nodes[-1].children if open_nodes else roots).append(node)
        open_nodes.append(node)

    def end(name: str) -> None:
        node = open_nodes.pop()
        if content[node.start : node.content].endswith(b"/>"):
            node.end = node.content
        else:
            node.end = content.index(b">", parser.CurrentByteIndex) + 1

    def text(data: str) -> None:
        open_nodes[-1].pieces.append(data)

    def doctype(*_: object) -> None:
        # A DOCTYPE can declare entities that expand a thousandfold or read other files, which is a known attack.
        raise ValueError("it contains a DOCTYPE declaration")

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, doctype
    parser.buffer_text = True
    try:
        parser.Parse(content, True)
    except (xml.parsers.expat.ExpatError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return roots[0]

"""Read XML from untrusted sources."""

import re
from xml.etree import ElementTree

MAX_XML_DEPTH = 64
"""Largest depth of elements."""
MAX_XML_ELEMENTS = 2**20
"""Largest number of elements, which need about 200 MB of memory."""
MAX_XML_ATTRIBUTES = 10_000
"""Largest number of attributes of an element. The parser reads them all before it calls
the builder."""


class _StrictBuilder(ElementTree.TreeBuilder):
    """Builds a tree, and refuses document types, deep nesting and many elements."""

    depth = 0
    count = 0

    def doctype(self, name: str, pubid: str, system: str) -> None:
        """Raise an error: a document type could define entities, or name files."""
        raise ValueError("it declares a document type")

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        """Begin an element."""
        self.depth += 1
        if self.depth > MAX_XML_DEPTH:
            raise ValueError(
                f"its elements are nested more than {MAX_XML_DEPTH} levels deep"
            )
        self.count += 1
        if self.count > MAX_XML_ELEMENTS:
            raise ValueError(f"it has more than {MAX_XML_ELEMENTS:,} elements")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ElementTree.Element:
        """End an element."""
        self.depth -= 1
        return super().end(tag)


def parse_xml(data: bytes) -> ElementTree.Element:
    """Parse XML without document type.

    Returns:
        The root element.

    Raises:
        ValueError: it is not XML, has an unknown encoding, declares a document type, is
            nested too deeply, or has too many elements or attributes.
    """
    for tag in re.finditer(rb"<[^<]*", data):  # no attribute contains <
        if tag[0].count(b"=") > MAX_XML_ATTRIBUTES:
            raise ValueError(
                f"an element has more than {MAX_XML_ATTRIBUTES:,} attributes"
            )
    try:
        return ElementTree.fromstring(
            data, ElementTree.XMLParser(target=_StrictBuilder())
        )
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(str(error)) from error

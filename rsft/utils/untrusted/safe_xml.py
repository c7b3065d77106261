"""Parse XML from untrusted sources."""

from __future__ import annotations

from xml.etree import ElementTree

MAX_XML_DEPTH = 64
"""Largest depth of elements."""


class _StrictBuilder(ElementTree.TreeBuilder):
    """Builds a tree, and refuses document types and deep nesting."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def doctype(self, name: str, pubid: str, system: str) -> None:
        """Raise an error: a document type could define entities that expand without bound, or name other files."""
        raise ValueError("it declares a document type")

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        """Begin an element."""
        self.depth += 1
        if self.depth > MAX_XML_DEPTH:
            raise ValueError(f"its elements are nested more than {MAX_XML_DEPTH} levels deep")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ElementTree.Element:
        """End an element."""
        self.depth -= 1
        return super().end(tag)


def parse_xml(data: bytes) -> ElementTree.Element:
    """Parse XML without document type.

    Args:
        data: the document.

    Returns:
        The root element.

    Raises:
        ValueError: it is not XML, has an unknown encoding, declares a document type, or is nested too deeply.
    """
    try:
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_StrictBuilder()))
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(str(error)) from error

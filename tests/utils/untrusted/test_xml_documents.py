"""XML from untrusted sources."""

import pytest

from rsft.utils.untrusted import xml_documents
from rsft.utils.untrusted.xml_documents import MAX_XML_DEPTH, parse_xml


def test_documents_are_parsed():
    assert parse_xml(b"<a><b>1</b></a>").findtext("b") == "1"
    deepest = b"<b>" * (MAX_XML_DEPTH - 1) + b"</b>" * (MAX_XML_DEPTH - 1)
    assert len(parse_xml(b"<a>" + 2 * deepest + b"</a>")) == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<a>" * 65 + b"</a>" * 65, "more than 64 levels"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "document type"),
        ("<!DOCTYPE a []><a/>".encode("utf-16"), "document type"),
        (b"<?xml version='1.0' encoding='unknown'?><a/>", "unknown encoding"),
        (b"<?xml version='1.0' encoding='shift-jis'?><a/>", "multi-byte"),
        (b"<a>", "no element"),
        (b"<a>" + b"<b/>" * 1001 + b"</a>", "more than 1,000 elements"),
        (b"<a " + b"b='>' " * 10_001 + b"/>", "more than 10,000 attributes"),
    ],
)
def test_documents_that_are_refused(data, message, monkeypatch):
    monkeypatch.setattr(xml_documents, "MAX_XML_ELEMENTS", 1000)
    assert len(parse_xml(b"<a>" + b"<b/>" * 999 + b"</a>")) == 999
    with pytest.raises(ValueError, match=message):
        parse_xml(data)

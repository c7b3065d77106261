"""Untrusted text in Markdown stays text."""

import pytest

from rsft.utils.untrusted.documents import code_span, escape_markdown


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("bulk_carrier", "bulk_carrier"),
        ("a | b", r"a \| b"),
        ("a\n\n# title", "a # title"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("![x](https://example.org)", r"!\[x\](https://example.org)"),
        ("`code` *strong*", r"\`code\` \*strong\*"),
        ("a\\|b", r"a\\\|b"),
    ],
)
def test_text_stays_text(text, escaped):
    assert escape_markdown(text) == escaped


def test_a_code_span_may_contain_backticks():
    assert code_span("a b") == "`a b`"
    assert code_span("a ``b") == "``` a ``b ```"

"""Untrusted text in Markdown stays text."""

from __future__ import annotations

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
def test_text_stays_text(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


def test_a_code_span_may_contain_backticks() -> None:
    assert code_span("a b") == "`a b`"
    assert code_span("a ``b") == "``` a ``b ```"

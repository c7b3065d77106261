import re
from html import unescape
from pathlib import Path

import pytest

from rsft.evaluation.report import render
from rsft.evaluation.report.render import Terms, read_glossary

ASSETS = Path(render.__file__).parent / "assets"


def test_definitions_are_the_first_paragraphs_of_the_glossary():
    glossary = read_glossary()
    assert len(glossary) > 40
    assert (
        glossary["scale"]
        == "scale: The factor m of the output of a PEFT module at one site: y = W x + b"
        " + m f(x)."
    )
    assert glossary["baseline"].endswith("a small network without pre-training.")


def test_every_term_of_a_page_is_in_the_glossary():
    templates = "".join(
        path.read_text(encoding="utf-8") for path in ASSETS.rglob("*.html")
    )
    calls = re.findall(r'term\("([^"]*)"(?:, "([^"]*)")?\)', templates)
    assert len(calls) > 10
    # every entry that a template may name must be in the glossary
    names = [entry or render._ENTRIES.get(text, text) for text, entry in calls] + list(
        render._ENTRIES.values()
    )
    definitions = [read_glossary()[name.lower()] for name in names]
    assert not [
        text
        for text in definitions
        if re.search(r"\]\(|`|\.md", text) or len(text) > 350
    ]


def test_the_first_occurrence_of_a_word_is_a_button_with_its_definition():
    page = Terms()
    marked = page.mark(
        "The tail <is> not the head, and the tail is short. Tails are long."
    )
    assert (
        marked.count("<button") == 2
        and "the tail is short" in marked
        and "&lt;is&gt;" in marked
    )
    assert list(page.used) == ["term-head-medium-tail"]
    assert (
        re.sub("<[^>]*>", "", marked)
        == "The tail &lt;is&gt; not the head, and the tail is short. Tails are long."
    )
    assert unescape(page.term("a<b")) == "a<b" and page.term("a<b") == "a&lt;b"


def test_pages_have_no_explanations_without_the_glossary(monkeypatch, tmp_path):
    monkeypatch.setattr(render, "__file__", str(tmp_path / "a/b/c/render.py"))
    monkeypatch.setattr(render, "read_glossary", read_glossary.__wrapped__)
    page = Terms()
    assert page.mark("the tail & more") == "the tail &amp; more" and not page.used


@pytest.mark.parametrize("text", ["Mean of groups", "mean of groups"])
def test_upper_and_lower_case_do_not_matter(text):
    assert 'popovertarget="term-mean-of-groups"' in Terms().term(text)

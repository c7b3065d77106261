"""Templates of a package."""

import pytest
from jinja2 import UndefinedError

from rsft.utils.templates import code_span, escape_markdown, render_template


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "package_with_templates"
    folder.mkdir()
    (folder / "__init__.py").touch()
    text = (
        "{% if name %}\n  {{ name }} {{ name | slug }} {{ name | md }}\n{% endif %}\n"
    )
    (folder / "page.txt").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder.name


def test_a_template_is_filled(package):
    text = render_template(package, "page.txt", name="a|b <c>")
    assert text == "  a|b <c> a-b-c a\\|b &lt;c&gt;\n"


def test_values_are_escaped_on_request(package):
    text = render_template(package, "page.txt", escape=True, name="<c>")
    assert text.startswith("  &lt;c&gt; c ")


def test_a_missing_value_is_an_error(package):
    with pytest.raises(UndefinedError, match="name"):
        render_template(package, "page.txt")


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

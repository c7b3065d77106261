"""Templates of a package."""

import pytest
from jinja2 import UndefinedError

from rsft.utils.templates import render_template


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

"""Fill the templates (Jinja) of a package."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def render_template(
    package: str, template: str, *, escape: bool = False, **values: Any
) -> str:
    """Return the text of a template.

    It has the filters `md` and `code` for Markdown, and `slug` for identifiers.

    Args:
        package: name of the package with the template.
        template: its file name.
        escape: whether values are escaped for XML and HTML.
        values: values by their names in the template, which needs all of its names.
    """
    return _make_environment(package, escape).get_template(template).render(values)


@cache  # its templates are compiled once
def _make_environment(package: str, escape: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {}
    environment.filters["md"] = escape_markdown
    environment.filters["code"] = code_span
    environment.filters["slug"] = _slug
    return environment


def _slug(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z_-]+", "-", text).strip("-")


_ACTIVE = re.compile(r"[\\`*\[\]|]")


def escape_markdown(text: str) -> str:
    r"""Return a text that Markdown shows as it is, without active content.

    An image would make the program that shows the page send a request to its address.

    Example:
        >>> print(escape_markdown("![x](https://example.org/x.png) <b>|"))
        !\[x\](https://example.org/x.png) &lt;b&gt;\|
    """
    return _ACTIVE.sub(r"\\\g<0>", escape(" ".join(text.split()), quote=False))


def code_span(text: str) -> str:
    """Return a text as Markdown code, whatever backticks it contains.

    Example:
        >>> print(code_span("rsft prepare folder 'a`b'"))
        `` rsft prepare folder 'a`b' ``
    """
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " * ("`" in text)
    return f"{fence}{space}{' '.join(text.split())}{space}{fence}"

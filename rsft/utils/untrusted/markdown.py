"""Write untrusted text, such as names of classes, into Markdown."""

from __future__ import annotations

import re
from html import escape

_ACTIVE = re.compile(r"[\\`*\[\]|]")


def escape_markdown(text: str) -> str:
    r"""Return a text that Markdown shows as it is: without HTML, links, images, code, line breaks and cell borders.

    An image would make the program that shows the page send a request to its address.

    Args:
        text: any text.

    Example:
        >>> print(escape_markdown("![x](https://example.org/x.png) <b>|"))
        !\[x\](https://example.org/x.png) &lt;b&gt;\|
    """
    return _ACTIVE.sub(r"\\\g<0>", escape(" ".join(text.split()), quote=False))


def code_span(text: str) -> str:
    """Return a text as Markdown code, whatever backticks it contains.

    Args:
        text: any text.

    Example:
        >>> print(code_span("rsft prepare folder 'a`b'"))
        `` rsft prepare folder 'a`b' ``
    """
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    space = " " * ("`" in text)
    return f"{fence}{space}{' '.join(text.split())}{space}{fence}"
